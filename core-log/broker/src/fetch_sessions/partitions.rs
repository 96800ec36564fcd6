//! What one session remembers: its partitions in serving order, each with what was asked and what was told last.
//!
//! Invariants: a partition is in the order exactly once; names are copied, so that a session never keeps the frame
//! of a request alive.

use std::collections::{BTreeMap, HashMap};

use bytestring::ByteString;
use highwater_types::Uuid;
use highwater_wire::ErrorCode;
use highwater_wire::messages::fetch_request::FetchPartition;
use highwater_wire::messages::fetch_response::{EpochEndOffset, PartitionData};

/// A topic as a fetch names it: by name below version 13, by id from there on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(ByteString),
    Id(Uuid),
}

/// A partition as a fetch names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

impl From<&FetchPartition> for Wanted {
    fn from(asked: &FetchPartition) -> Self {
        Wanted {
            fetch_offset: asked.fetch_offset,
            max_bytes: asked.partition_max_bytes,
            current_leader_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
        }
    }
}

#[derive(Debug)]
struct Cached {
    key: PartitionKey,
    wanted: Wanted,
    /// What the client was told last; `None` makes the next answer name the partition again.
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

/// The partitions of one session.
#[derive(Debug, Default)]
pub(crate) struct SessionPartitions {
    order: BTreeMap<u64, Cached>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

impl SessionPartitions {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a partition at the end, or changes what is asked of it.
    pub(crate) fn want(&mut self, key: &PartitionKey, wanted: Wanted) {
        if let Some(cached) = self.places.get(key).and_then(|place| self.order.get_mut(place)) {
            cached.wanted = wanted;
            return;
        }
        let key = PartitionKey {
            topic: match &key.topic {
                TopicKey::Name(name) => TopicKey::Name(ByteString::from(&**name)),
                TopicKey::Id(id) => TopicKey::Id(*id),
            },
            partition: key.partition,
        };
        self.push(Cached {
            key,
            wanted,
            told: None,
        });
    }

    fn push(&mut self, cached: Cached) {
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(cached.key.clone(), place);
        self.order.insert(place, cached);
    }

    /// Removes a partition; one that was never there is no mistake.
    pub(crate) fn forget(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.order.remove(&place);
        }
    }

    /// The partitions in serving order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PartitionKey, Wanted)> {
        self.order.values().map(|cached| (&cached.key, cached.wanted))
    }

    /// Takes note of an answer, with `record_bytes` of records, wherever they are. `false` when it says nothing new and
    /// can be left out. A partition that gave records goes to the end, so that the ones behind it are served first next
    /// time (semantic 49).
    pub(crate) fn tell(&mut self, key: &PartitionKey, data: &PartitionData, record_bytes: usize) -> bool {
        let Some(&place) = self.places.get(key) else {
            return true;
        };
        let Some(cached) = self.order.get_mut(&place) else {
            return true;
        };
        let failed = data.error_code != ErrorCode::None.code();
        let now = Told {
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset,
        };
        let has_records = record_bytes > 0;
        let is_news = failed
            || has_records
            || cached.told != Some(now)
            || data.diverging_epoch != EpochEndOffset::default();
        // An error is told every time, and its end as well.
        cached.told = (!failed).then_some(now);
        if has_records && let Some(cached) = self.order.remove(&place) {
            self.push(cached);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey {
            topic: TopicKey::Name("t".into()),
            partition,
        }
    }

    fn wanted(fetch_offset: i64) -> Wanted {
        Wanted {
            fetch_offset,
            max_bytes: 100,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
        }
    }

    fn data(high_watermark: i64, records: &'static [u8]) -> PartitionData {
        PartitionData {
            high_watermark,
            records: Some(Bytes::from_static(records)),
            ..Default::default()
        }
    }

    fn order(partitions: &SessionPartitions) -> Vec<i32> {
        partitions.iter().map(|(key, _)| key.partition).collect()
    }

    #[test]
    fn semantic_49_a_partition_that_gave_records_is_served_last_next_time() {
        let mut session = SessionPartitions::default();
        for partition in 0..3 {
            session.want(&key(partition), wanted(0));
        }
        assert!(session.tell(&key(0), &data(5, b"records"), 7));
        assert!(session.tell(&key(1), &data(0, b""), 0));
        assert_eq!(order(&session), [1, 2, 0]);
        session.forget(&key(2));
        session.forget(&key(9));
        session.want(&key(1), wanted(7));
        assert_eq!(order(&session), [1, 0]);
        assert_eq!(session.iter().next().unwrap().1.fetch_offset, 7);
    }

    #[test]
    fn only_news_is_told_and_errors_are_always_news() {
        let mut session = SessionPartitions::default();
        session.want(&key(0), wanted(0));
        assert!(session.tell(&key(0), &data(5, b""), 0));
        assert!(!session.tell(&key(0), &data(5, b""), 0));
        assert!(session.tell(&key(0), &data(6, b""), 0));
        let failed = PartitionData {
            error_code: ErrorCode::NotLeaderOrFollower.code(),
            ..data(6, b"")
        };
        assert!(session.tell(&key(0), &failed, 0));
        assert!(session.tell(&key(0), &failed, 0));
        assert!(session.tell(&key(0), &data(6, b""), 0), "the error has gone");
        assert!(!session.tell(&key(0), &data(6, b""), 0));
    }
}
