//! From what a request used to how long its client must be silent (KIP-219).
//!
//! The answer leaves at once and carries the time; whoever holds the connection reads nothing more from it until the time
//! is over. A fetch above its quota is answered without data, as in Kafka: the bytes are asked for again afterwards.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_wire::messages::FetchResponse;
use highwater_wire::{ErrorCode, RequestBody, ResponseBody};

use crate::broker::Broker;
use crate::clock::Clock;
use crate::dispatch::{Answer, FilesToSend, Reply, RequestContext};
use crate::quotas::{Client, Usage};

impl RequestContext {
    /// Who asks, as far as quotas care.
    pub(crate) fn quota_client(&self) -> Client<'_> {
        Client {
            user: self.principal.name(),
            client_id: self.client_id.as_deref().unwrap_or_default(),
        }
    }
}

impl Broker {
    /// Handles one request within the client's quotas; also how long the client must be silent after the answer.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        context: &RequestContext,
        version: i16,
        body: RequestBody,
    ) -> (Answer, Duration) {
        if self.quotas.is_active() {
            // On the heap, so that an idle connection stays small.
            return Box::pin(self.serve_metered(context, version, body)).await;
        }
        (self.handle(context, version, body).await, Duration::ZERO)
    }

    async fn serve_metered(
        self: &Arc<Self>,
        context: &RequestContext,
        version: i16,
        mut body: RequestBody,
    ) -> (Answer, Duration) {
        let client = context.quota_client();
        let produced = produced_bytes(&body);
        let mut session_id = 0;
        if let RequestBody::Fetch(request) = &mut body {
            session_id = request.session_id;
            if let Some(largest) = self.quotas.largest_fetch(client) {
                let largest = i32::try_from(largest).unwrap_or(i32::MAX);
                request.max_bytes = request.max_bytes.min(largest);
            }
        }
        let handled = self.handle(context, version, body);
        let (mut answer, busy) = match self.quotas.limits_request_time() {
            true => timed(self.clock, handled).await,
            false => (handled.await, Duration::ZERO),
        };
        let now_ms = self.clock.monotonic_ms();
        let charge = |usage| self.quotas.charge(client, usage, now_ms);
        let mut throttle = charge(Usage::Handled(busy)).throttle;
        if let Some(bytes) = produced {
            throttle = throttle.max(charge(Usage::Produced(bytes)).throttle);
        }
        if let Reply::Body(ResponseBody::Fetch(response)) = &mut answer.reply
            && response.error_code == ErrorCode::None.code()
        {
            let bytes = fetched_bytes(response) + answer.files.len_bytes();
            let fetched = charge(Usage::Fetched(bytes));
            throttle = throttle.max(fetched.throttle);
            if fetched.is_withheld {
                response.responses.clear();
                response.session_id = session_id;
                answer.memory = None;
                answer.files = FilesToSend::default();
            }
        }
        if let Reply::Body(body) = &mut answer.reply {
            // The handler of a metadata change has its own quota, and has written what it says into the answer.
            let of_handler = body.throttle_time_ms().and_then(|ms| u64::try_from(ms).ok());
            throttle = throttle.max(Duration::from_millis(of_handler.unwrap_or(0)));
            body.set_throttle_time_ms(whole_ms(throttle));
        }
        (answer, throttle)
    }
}

/// A throttle as answers carry it.
pub(crate) fn whole_ms(throttle: Duration) -> i32 {
    i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX)
}

fn produced_bytes(body: &RequestBody) -> Option<usize> {
    let RequestBody::Produce(request) = body else {
        return None;
    };
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    Some(
        partitions
            .map(|data| data.records.as_ref().map_or(0, Bytes::len))
            .sum(),
    )
}

/// Bytes of the record sets that are in an answer.
fn fetched_bytes(response: &FetchResponse) -> usize {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| data.records.as_ref().map_or(0, Bytes::len))
        .sum()
}

/// Runs `work`; also the time that threads spent in it, waiting not included.
async fn timed<T>(clock: Clock, work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut busy = Duration::ZERO;
    let done = std::future::poll_fn(|context| {
        let began = clock.instant();
        let polled = work.as_mut().poll(context);
        busy += clock.instant() - began;
        polled
    })
    .await;
    (done, busy)
}
