//! Membership in the worker group: partitions of the slots topic come and go, the scheduler hears of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use highwater_client::{
    AutoOffsetReset, ConsumeError, Consumer, ConsumerConfig, CooperativeStickyAssignor, RebalanceListener,
};
use highwater_types::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::scheduler::Message;
use super::shared::Shared;

const POLL_WAIT: Duration = Duration::from_secs(1);
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// Longest time a worker may take to stop the tasks of slots it must give up, as in Kafka Connect.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct SlotListener {
    messages: mpsc::Sender<Message>,
}

fn slots(partitions: &[TopicPartition]) -> Vec<u32> {
    partitions
        .iter()
        .map(|tp| Shared::slot_of(tp.partition))
        .collect()
}

impl SlotListener {
    async fn give_up(&self, partitions: &[TopicPartition], release: bool) {
        let (done, stopped) = oneshot::channel();
        let slots = slots(partitions);
        let message = Message::Revoked { slots, release, done };
        if self.messages.send(message).await.is_ok() {
            let _ = stopped.await; // A scheduler that is gone runs no tasks.
        }
    }
}

#[async_trait]
impl RebalanceListener for SlotListener {
    async fn partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.give_up(partitions, true).await;
    }

    async fn partitions_assigned(&self, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            let _ = self.messages.send(Message::Assigned(slots(partitions))).await;
        }
    }

    async fn partitions_lost(&self, partitions: &[TopicPartition]) {
        self.give_up(partitions, false).await;
    }
}

/// Joins the group and stays until `stop`; then leaves it and says so.
pub(super) fn join(
    shared: &Arc<Shared>,
    messages: mpsc::Sender<Message>,
    stop: CancellationToken,
) -> Result<(), ConsumeError> {
    let config = &shared.config;
    let listener = SlotListener {
        messages: messages.clone(),
    };
    let consumer = shared.client.consumer(ConsumerConfig {
        group_instance_id: config.instance_id.clone().map(Into::into),
        assignors: vec![Arc::new(CooperativeStickyAssignor)],
        listener: Some(Arc::new(listener)),
        session_timeout: config.session_timeout,
        heartbeat_interval: config.session_timeout / 4,
        max_poll_interval: REBALANCE_TIMEOUT.max(config.task_stop_timeout * 2),
        auto_offset_reset: AutoOffsetReset::Latest,
        enable_auto_commit: false,
        ..ConsumerConfig::in_group(config.group_id.clone())
    })?;
    consumer.subscribe([config.slots_topic.clone()])?;
    tokio::spawn(stay(consumer, messages, stop));
    Ok(())
}

async fn stay(consumer: Consumer, messages: mpsc::Sender<Message>, stop: CancellationToken) {
    loop {
        let polled = tokio::select! {
            () = stop.cancelled() => break,
            polled = consumer.poll(POLL_WAIT) => polled,
        };
        if let Err(error) = polled {
            tracing::error!(%error, "worker group reports an error");
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
    consumer.close().await;
    let _ = messages.send(Message::LeftGroup).await; // Nobody left to tell is fine.
}
