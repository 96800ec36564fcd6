//! A partition over several leader epochs, which one node alone never sees over the wire.

use std::sync::Arc;
use std::time::Duration;

use highwater_cluster::{BrokerProperties, ConfigView, MetadataImage};
use highwater_storage::{CorruptionPolicy, DataDir, DataDirOptions, LogConfig, StdDisk};
use highwater_types::record::{BatchBuilder, BatchOptions, RecordBatch};
use highwater_types::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use highwater_wire::ErrorCode;

use super::flusher::FlushQueue;
use super::partition::{FetchSpec, Leadership, Partition};
use crate::clock::Clock;
use crate::purgatory::Waiter;

fn leadership(epoch: i32) -> Leadership {
    let view = ConfigView {
        image: &MetadataImage::default(),
        broker_id: BrokerId::new(1),
        properties: &BrokerProperties::new(Default::default()).unwrap(),
    };
    let settings = view.topic_settings(&TopicName::new("t").unwrap()).unwrap();
    Leadership {
        epoch: LeaderEpoch::new(epoch),
        in_sync: 1,
        settings: Arc::new(settings),
    }
}

fn partition(dir: &std::path::Path) -> Arc<Partition> {
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let data_dir = DataDir::open(StdDisk::shared(), dir.to_path_buf(), options).unwrap();
    let id = TopicPartition::new(TopicName::new("t").unwrap(), PartitionId::new(0));
    let config = Arc::new(LogConfig::default());
    let (log, _) = data_dir
        .open_partition(&id, None, config, Timestamp::new(0))
        .unwrap();
    let queue = FlushQueue::new(Clock::new());
    Arc::new(Partition::new(id, false, log, leadership(0), queue))
}

fn append(partition: &Arc<Partition>, count: usize) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for _ in 0..count {
        builder.append(Timestamp::new(1), Some(b"k"), Some(b"v"), &[]);
    }
    let (batch, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
    partition.append(batch, Timestamp::new(1)).unwrap();
}

fn spec(from: i64) -> FetchSpec {
    FetchSpec {
        from: Offset::new(from),
        max_bytes: 1_000,
        read_committed: false,
        current_leader_epoch: None,
        last_fetched_epoch: None,
    }
}

#[test]
fn semantic_50_a_log_that_left_ours_learns_where_and_older_leaders_are_fenced() {
    let dir = tempfile::tempdir().unwrap();
    let partition = partition(dir.path());
    append(&partition, 2);
    partition.lead(leadership(3), &Arc::new(LogConfig::default()));
    append(&partition, 2);
    let plan = |last_epoch: i32, from: i64| {
        let spec = FetchSpec {
            last_fetched_epoch: Some(LeaderEpoch::new(last_epoch)),
            ..spec(from)
        };
        let plan = partition.plan_fetch(&spec).map_err(|(code, _)| code)?;
        Ok(plan.diverging.map(|(epoch, end)| (epoch.get(), end.get())))
    };
    assert_eq!(plan(0, 2), Ok(None), "it has read all of epoch 0");
    assert_eq!(plan(3, 3), Ok(None));
    assert_eq!(plan(0, 3), Ok(Some((0, 2))), "epoch 0 ended earlier here");
    assert_eq!(plan(2, 2), Ok(Some((0, 2))), "epoch 2 never was here");
    assert_eq!(plan(9, 2), Err(ErrorCode::OffsetOutOfRange), "nor can be yet");
    for (epoch, expected) in [
        (0, Some(ErrorCode::FencedLeaderEpoch)),
        (3, None),
        (4, Some(ErrorCode::UnknownLeaderEpoch)),
    ] {
        let spec = FetchSpec {
            current_leader_epoch: Some(LeaderEpoch::new(epoch)),
            ..spec(0)
        };
        let refused = partition.plan_fetch(&spec).err().map(|(code, _)| code);
        assert_eq!(refused, expected, "{epoch}");
    }
}

#[tokio::test]
async fn semantic_46_a_new_leader_epoch_wakes_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let partition = partition(dir.path());
    let waiter = Waiter::new();
    waiter.raise(1_000_000);
    let _registration = partition.waiting().register(&waiter);
    let config = Arc::new(LogConfig::default());
    partition.lead(leadership(0), &config);
    let wait = |limit_ms| tokio::time::timeout(Duration::from_millis(limit_ms), waiter.woken());
    assert!(wait(20).await.is_err(), "nothing has changed for it");
    partition.lead(leadership(1), &config);
    wait(5_000).await.unwrap();
}

#[test]
fn semantic_46_what_can_be_read_is_counted_without_reading() {
    let dir = tempfile::tempdir().unwrap();
    let partition = partition(dir.path());
    let bytes_at = |from| partition.plan_fetch(&spec(from)).unwrap().at_most_bytes();
    assert_eq!(bytes_at(0), 0);
    append(&partition, 3);
    let size = usize::try_from(partition.extent().unwrap().size_bytes).unwrap();
    assert_eq!([bytes_at(0), bytes_at(1), bytes_at(3)], [size, size, 0]);
    append(&partition, 3);
    assert_eq!([bytes_at(0), bytes_at(3), bytes_at(6)], [2 * size, size, 0]);
}
