//! Who has used how much, and how long they must be silent for it (KIP-13, KIP-124, KIP-219, KIP-599, KIP-612).
//!
//! An answer leaves at once and says how long its connection is not read from; the limits come from the metadata.
//! While nobody has a limit, a request costs one atomic read here.
//!
//! Invariants:
//! - at most [`MAX_METERS`] meters exist; clients beyond share one meter per key, so that invented client ids cost
//!   neither memory nor let anybody through;
//! - no throttle is longer than [`MAX_THROTTLE`].

mod meter;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use highwater_cluster::{BrokerSettings, ClientQuotas, QuotaKey, QuotaScope};

use self::meter::{SlidingRate, TokenBucket, WindowConfig};
use crate::limits::{MAX_METERS, MAX_THROTTLE, MAX_TRACKED_NAME_BYTES};

/// Who asks, as far as quotas care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) user: &'a str,
    pub(crate) client_id: &'a str,
}

/// What a request used, known once it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Bytes of records taken in.
    Produced(usize),
    /// Bytes of records about to be given out.
    Fetched(usize),
    /// Time of a thread.
    Handled(Duration),
}

/// What comes of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Charge {
    /// How long the client must be silent.
    pub(crate) throttle: Duration,
    /// The data is not to be sent now, and was not counted.
    pub(crate) is_withheld: bool,
}

/// Limits and meters of one node.
#[derive(Debug)]
pub(crate) struct Quotas {
    window: WindowConfig,
    controller_window: WindowConfig,
    is_active: AtomicBool,
    limits: RwLock<Arc<ClientQuotas>>,
    meters: Mutex<HashMap<MeterKey, Meter>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MeterKey {
    key: QuotaKey,
    /// The user, or the address for connections.
    user: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

#[derive(Debug)]
enum Meter {
    Rate(SlidingRate),
    Bucket(TokenBucket),
}

impl Quotas {
    pub(crate) fn new(settings: &BrokerSettings) -> Self {
        let window = |samples: u32, seconds: u32| WindowConfig {
            samples: usize::try_from(samples).unwrap_or(usize::MAX),
            sample_ms: u64::from(seconds) * 1_000,
        };
        Quotas {
            window: window(settings.quota_window_num, settings.quota_window_size_seconds),
            controller_window: window(
                settings.controller_quota_window_num,
                settings.controller_quota_window_size_seconds,
            ),
            is_active: AtomicBool::new(false),
            limits: RwLock::default(),
            meters: Mutex::default(),
        }
    }

    /// Takes over the limits of the latest metadata. What was used under a limit that is gone is forgotten.
    pub(crate) fn update(&self, limits: &Arc<ClientQuotas>) {
        let mut current = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, limits) || **current == **limits {
            return;
        }
        *current = Arc::clone(limits);
        self.is_active.store(!limits.is_empty(), Ordering::Release);
        if limits.is_empty() {
            self.lock().clear();
        }
    }

    /// Whether anybody has a limit at all.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Acquire)
    }

    /// Whether anybody has a limit on the time of threads, which is only measured then.
    pub(crate) fn limits_request_time(&self) -> bool {
        self.is_active() && self.limits().limits_any(QuotaKey::RequestPercentage)
    }

    /// The most bytes one fetch of this client may answer: more would be above the limit however long it waits.
    pub(crate) fn largest_fetch(&self, client: Client<'_>) -> Option<usize> {
        if !self.is_active() {
            return None;
        }
        let limits = self.limits();
        let (limit, _) = limits.limit_for(QuotaKey::ConsumerByteRate, client.user, client.client_id)?;
        // Beyond the range the number saturates, which is no bound.
        Some((limit.get() * self.window.averaged_ms() as f64 / 1_000.0) as usize)
    }

    /// Notes what a request used. A fetch above the limit is withheld, unless nothing else was fetched lately: a batch
    /// that is larger than the limit allows at once would never be sent.
    pub(crate) fn charge(&self, client: Client<'_>, usage: Usage, now_ms: u64) -> Charge {
        let (key, amount, longest) = match usage {
            Usage::Produced(bytes) => (QuotaKey::ProducerByteRate, bytes as f64, MAX_THROTTLE),
            Usage::Fetched(bytes) => (QuotaKey::ConsumerByteRate, bytes as f64, MAX_THROTTLE),
            Usage::Handled(time) => {
                // Per cent of one thread; a window's length is the longest wait, as in Kafka.
                let longest = Duration::from_millis(self.window.sample_ms);
                (QuotaKey::RequestPercentage, time.as_secs_f64() * 100.0, longest)
            }
        };
        let limits = self.limits();
        let Some((limit, scope)) = limits.limit_for(key, client.user, client.client_id) else {
            return Charge::default();
        };
        self.with_meter(key, scope, now_ms, |meter| {
            let Meter::Rate(rate) = meter else {
                return Charge::default();
            };
            rate.record(amount, now_ms, self.window);
            let throttle_ms = rate.throttle_ms(limit.get(), now_ms, self.window);
            let is_fetch = matches!(usage, Usage::Fetched(_));
            let is_withheld = is_fetch && throttle_ms > 0 && !rate.is_only(amount);
            if is_withheld {
                rate.take_back(amount);
            }
            Charge {
                throttle: Duration::from_millis(throttle_ms).min(longest),
                is_withheld,
            }
        })
    }

    /// The quota on changes of the metadata that counts for a client; nothing while it has none.
    pub(crate) fn mutations<'a>(&'a self, client: Client<'a>, now_ms: u64) -> Option<Mutations<'a>> {
        if !self.is_active() {
            return None;
        }
        let limits = self.limits();
        let key = QuotaKey::ControllerMutationRate;
        let (limit, scope) = limits.limit_for(key, client.user, client.client_id)?;
        Some(Mutations {
            quotas: self,
            limit: limit.get(),
            scope,
            now_ms,
        })
    }

    /// Notes a new connection; how long it is left waiting before it is closed, or zero to let it in.
    pub(crate) fn connection(&self, address: IpAddr, now_ms: u64) -> Duration {
        if !self.is_active() {
            return Duration::ZERO;
        }
        let address = address.to_canonical().to_string();
        let Some(limit) = self.limits().connection_rate_for(&address) else {
            return Duration::ZERO;
        };
        let scope = QuotaScope {
            user: Some(&address),
            client_id: None,
        };
        let throttle_ms = self.with_meter(QuotaKey::ConnectionCreationRate, scope, now_ms, |meter| {
            let Meter::Rate(rate) = meter else { return 0 };
            rate.record(1.0, now_ms, self.window);
            let throttle_ms = rate.throttle_ms(limit.get(), now_ms, self.window);
            if throttle_ms > 0 {
                rate.take_back(1.0);
            }
            throttle_ms
        });
        Duration::from_millis(throttle_ms.min(self.window.sample_ms))
    }

    fn limits(&self) -> Arc<ClientQuotas> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MeterKey, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_meter<T>(
        &self,
        key: QuotaKey,
        scope: QuotaScope<'_>,
        now_ms: u64,
        use_meter: impl FnOnce(&mut Meter) -> T,
    ) -> T {
        let name = |name: Option<&str>| name.map(Box::from);
        let is_long = |name: Option<&str>| name.is_some_and(|name| name.len() > MAX_TRACKED_NAME_BYTES);
        let shared = MeterKey {
            key,
            user: None,
            client_id: None,
        };
        let own = match is_long(scope.user) || is_long(scope.client_id) {
            true => shared.clone(),
            false => MeterKey {
                key,
                user: name(scope.user),
                client_id: name(scope.client_id),
            },
        };
        let mut meters = self.lock();
        if meters.len() >= MAX_METERS && !meters.contains_key(&own) {
            meters.retain(|_, meter| !self.is_idle(meter, now_ms));
        }
        let found = match meters.len() >= MAX_METERS && !meters.contains_key(&own) {
            true => shared,
            false => own,
        };
        use_meter(meters.entry(found).or_insert_with(|| Meter::new(key)))
    }

    fn is_idle(&self, meter: &Meter, now_ms: u64) -> bool {
        match meter {
            Meter::Rate(rate) => rate.is_idle(now_ms, self.window),
            Meter::Bucket(bucket) => bucket.is_idle(now_ms),
        }
    }
}

impl Meter {
    fn new(key: QuotaKey) -> Meter {
        match key {
            QuotaKey::ControllerMutationRate => Meter::Bucket(TokenBucket::default()),
            QuotaKey::ProducerByteRate
            | QuotaKey::ConsumerByteRate
            | QuotaKey::RequestPercentage
            | QuotaKey::ConnectionCreationRate => Meter::Rate(SlidingRate::default()),
        }
    }
}

/// A client's quota on changes of the metadata.
#[derive(Debug)]
pub(crate) struct Mutations<'a> {
    quotas: &'a Quotas,
    limit: f64,
    scope: QuotaScope<'a>,
    now_ms: u64,
}

impl Mutations<'_> {
    /// Takes `amount` changes if the client is not above its limit yet; the last one may go above it.
    pub(crate) fn admit(&self, amount: usize) -> bool {
        let window = self.quotas.controller_window;
        self.with_bucket(|bucket| {
            let admitted = bucket.throttle_ms(self.limit, self.now_ms, window) == 0;
            if admitted {
                bucket.take(amount as f64, self.limit, self.now_ms, window);
            }
            admitted
        })
    }

    /// Takes `amount` changes whatever the limit says: for clients that do not know the refusal.
    pub(crate) fn take(&self, amount: usize) {
        let window = self.quotas.controller_window;
        self.with_bucket(|bucket| {
            bucket.take(amount as f64, self.limit, self.now_ms, window);
        });
    }

    /// How long the client must be silent.
    pub(crate) fn throttle(&self) -> Duration {
        let window = self.quotas.controller_window;
        let throttle_ms = self.with_bucket(|bucket| bucket.throttle_ms(self.limit, self.now_ms, window));
        Duration::from_millis(throttle_ms).min(MAX_THROTTLE)
    }

    fn with_bucket<T: Default>(&self, use_bucket: impl FnOnce(&mut TokenBucket) -> T) -> T {
        let key = QuotaKey::ControllerMutationRate;
        self.quotas
            .with_meter(key, self.scope, self.now_ms, |meter| match meter {
                Meter::Bucket(bucket) => use_bucket(bucket),
                Meter::Rate(_) => T::default(),
            })
    }
}

#[cfg(test)]
mod tests {
    use highwater_cluster::decide::{QuotaAlteration, alter_client_quotas};
    use highwater_cluster::{BrokerProperties, ConfigView, MetadataImage};
    use highwater_types::BrokerId;

    use super::*;

    fn quotas(key: &str, limit: f64) -> Quotas {
        let image = MetadataImage::default();
        let view = ConfigView {
            image: &image,
            broker_id: BrokerId::new(1),
            properties: &BrokerProperties::default(),
        };
        let quotas = Quotas::new(&view.broker_settings().unwrap());
        let alteration = QuotaAlteration {
            entity: vec![("client-id".into(), None)],
            operations: vec![(key.into(), Some(limit))],
        };
        let records = alter_client_quotas(&image, &[alteration])
            .remove(0)
            .result
            .unwrap();
        quotas.update(image.apply(&records).unwrap().client_quotas());
        quotas
    }

    fn client(client_id: &str) -> Client<'_> {
        Client {
            user: "ANONYMOUS",
            client_id,
        }
    }

    #[test]
    fn invented_client_ids_cost_bounded_memory_and_share_what_is_left() {
        let quotas = quotas("producer_byte_rate", 100.0);
        for number in 0..MAX_METERS + 500 {
            let name = format!("invented-{number}");
            quotas.charge(client(&name), Usage::Produced(10), 0);
        }
        assert_eq!(quotas.lock().len(), MAX_METERS + 1);
        let late = quotas.charge(client("another"), Usage::Produced(10), 0);
        assert!(
            late.throttle > Duration::ZERO,
            "those without a meter of their own are limited together"
        );
        let first = quotas.charge(client("invented-0"), Usage::Produced(10), 0);
        assert_eq!(first.throttle, Duration::ZERO);

        // A name nobody needs is not kept, and what is idle makes room.
        let long = "x".repeat(MAX_TRACKED_NAME_BYTES + 1);
        quotas.charge(client(&long), Usage::Produced(10), 60_000);
        quotas.charge(client("new"), Usage::Produced(10), 60_000);
        assert_eq!(quotas.lock().len(), 2);
    }

    #[test]
    fn fetches_above_the_limit_are_withheld_but_never_for_ever() {
        let quotas = quotas("consumer_byte_rate", 100.0);
        let huge = quotas.charge(client("a"), Usage::Fetched(5_000), 0);
        assert_eq!(
            (huge.throttle, huge.is_withheld),
            (Duration::from_secs(40), false)
        );
        let next = quotas.charge(client("a"), Usage::Fetched(1), 0);
        assert!(next.is_withheld);
        assert_eq!(quotas.largest_fetch(client("a")), Some(1_000));
        assert_eq!(
            quotas.charge(client("b"), Usage::Fetched(1), 0),
            Charge::default()
        );
    }

    #[test]
    fn request_time_is_throttled_for_a_window_at_most() {
        let quotas = quotas("request_percentage", 1.0);
        assert!(quotas.limits_request_time());
        let charge = quotas.charge(client("a"), Usage::Handled(Duration::from_secs(100)), 0);
        assert_eq!(charge.throttle, Duration::from_secs(1));
    }

    #[test]
    fn without_limits_nothing_is_measured() {
        let quotas = quotas("producer_byte_rate", 1.0);
        assert!(quotas.is_active());
        quotas.charge(client("a"), Usage::Produced(1), 0);
        quotas.update(MetadataImage::default().client_quotas());
        assert!(!quotas.is_active() && quotas.lock().is_empty());
    }
}
