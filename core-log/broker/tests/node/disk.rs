//! A node whose disk fails, is full, or gives back damaged files.

use std::path::Path;
use std::time::Duration;

use highwater_broker::NodeError;
use highwater_storage::testing::{Crash, FakeDisk};
use highwater_storage::{CorruptionPolicy, DataDir, DataDirOptions, OffsetCheckpoint};
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition};
use highwater_wire::ErrorCode;
use highwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::{DeleteRecordsRequest, DeleteTopicsRequest};
use tokio::time::timeout;

use crate::support::{Wire, batch, produce_request, start_on, values};

const STORAGE_ERROR: i16 = ErrorCode::KafkaStorageError.code();
const SYNC_EACH: (&str, &str) = ("log.flush.interval.messages", "1");

/// A connection to a node on which `topics` exist.
async fn connected(address: std::net::SocketAddr, topics: &[&str]) -> Wire {
    let mut wire = Wire::connect(address).await;
    for topic in topics {
        wire.metadata(topic).await;
        let first = wire.produce(topic, &["first"]).await;
        assert_eq!(first.error_code, 0, "{:?}", first.error_message);
    }
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_sync_ends_all_writing_and_loses_nothing_acknowledged() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = connected(address, &["orders", "others"]).await;
    disk.fail_sync(disk.syncs() + 1);
    let refused = wire.produce("orders", &["never acknowledged"]).await;
    assert_eq!(refused.error_code, STORAGE_ERROR);
    let failure = timeout(Duration::from_secs(5), node.failed())
        .await
        .expect("the node says so");
    assert!(matches!(failure, NodeError::DiskFailed { .. }), "{failure}");
    assert_eq!(node.troubles(), [failure.to_string()], "the node is not ready");
    let before = disk.operations();
    for topic in ["orders", "others"] {
        assert_eq!(
            wire.produce(topic, &["no"]).await.error_code,
            STORAGE_ERROR,
            "{topic}"
        );
    }
    assert_eq!(disk.operations(), before, "the disk is left alone");
    assert_eq!(
        values(&wire.fetch("others", 0).await),
        ["first"],
        "reading goes on"
    );
    node.shutdown().await.expect_err("nothing could be closed");

    let disk = disk.survivor(Crash::PowerCut { unsynced: 0 });
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = Wire::connect(address).await;
    for topic in ["orders", "others"] {
        assert_eq!(values(&wire.fetch(topic, 0).await)[0], "first", "{topic}");
        assert_eq!(wire.produce(topic, &["again"]).await.error_code, 0);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_records_and_takes_them_again_by_itself() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[("highwater.min.free.bytes", "1000000")]).await;
    let mut wire = connected(address, &["orders"]).await;
    assert!(node.troubles().is_empty());
    disk.set_capacity(Some(disk.used_bytes() + 900_000));
    until(&mut wire, STORAGE_ERROR).await;
    let troubles = node.troubles();
    assert!(
        troubles.len() == 1 && troubles[0].contains("nearly full"),
        "the node is not ready: {troubles:?}"
    );
    // What is no user's record still finds room.
    let made = wire.metadata("made-on-a-full-disk").await;
    assert_eq!(made.topics[0].error_code, 0);
    assert_eq!(values(&wire.fetch("orders", 0).await)[0], "first");
    disk.set_capacity(None);
    until(&mut wire, 0).await;
    assert!(node.troubles().is_empty());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_no_room_at_all_is_no_failure() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[("highwater.min.free.bytes", "0")]).await;
    let mut wire = connected(address, &["orders"]).await;
    disk.set_capacity(Some(disk.used_bytes() + 10));
    assert_eq!(
        wire.produce("orders", &["no room"]).await.error_code,
        STORAGE_ERROR
    );
    assert_eq!(values(&wire.fetch("orders", 0).await), ["first"]);
    disk.set_capacity(None);
    assert_eq!(wire.produce("orders", &["room"]).await.error_code, 0);
    assert_eq!(values(&wire.fetch("orders", 0).await), ["first", "room"]);
    node.shutdown().await.unwrap();
}

async fn until(wire: &mut Wire, error_code: i16) {
    until_of(wire, "orders", error_code).await;
}

async fn until_of(wire: &mut Wire, topic: &str, error_code: i16) {
    let wanted = async {
        while wire.produce(topic, &["x"]).await.error_code != error_code {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), wanted)
        .await
        .expect("within seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_found_no_room_comes_up_by_itself_and_one_that_is_damaged_does_not() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = connected(address, &["broken", "orders"]).await;
    for topic in ["broken", "orders"] {
        assert_eq!(wire.produce(topic, &["second"]).await.error_code, 0);
    }
    drop(node);
    let disk = disk.survivor(Crash::Kill);
    let broken = Path::new("/data/broken-0/00000000000000000000.log");
    let good = disk.content(broken).expect("the log is there");
    disk.damage(broken, |bytes| bytes[70] ^= 1);
    // Something to write when it is opened.
    let orders = Path::new("/data/orders-0");
    disk.shared()
        .remove_file(&orders.join("partition.metadata"))
        .unwrap();
    disk.set_full(Some(orders));
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.fetch("orders", 0).await.error_code, STORAGE_ERROR);
    let troubles = node.troubles();
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    assert!(troubles[0].starts_with("1 partitions") && troubles[0].contains("room"));
    assert!(troubles[1].starts_with("1 partitions cannot be used"));
    // From here on the other one could be opened, too, but for that somebody has to start the node again.
    disk.damage(broken, |bytes| *bytes = good);
    disk.set_full(None);
    until(&mut wire, 0).await;
    let served = values(&wire.fetch("orders", 0).await);
    assert_eq!(served[..2], ["first", "second"]);
    assert_eq!(wire.produce("broken", &["no"]).await.error_code, STORAGE_ERROR);
    assert_eq!(node.troubles(), troubles[1..]);

    disk.set_full(Some(Path::new("/data/made-0")));
    wire.create("made", 2, &[]).await;
    let refused = wire.produce("made", &["no"]).await;
    assert_eq!(refused.error_code, STORAGE_ERROR);
    let message = refused.error_message.expect("says why");
    assert!(message.contains("no room"), "{message:?}");
    disk.set_full(None);
    until_of(&mut wire, "made", 0).await;

    // What waits and is deleted, perhaps to make room, leaves nothing behind.
    disk.set_full(Some(Path::new("/data/deleted-0/partition.metadata")));
    wire.create("deleted", 1, &[]).await;
    assert_eq!(wire.produce("deleted", &["no"]).await.error_code, STORAGE_ERROR);
    assert!(
        disk.shared()
            .kind(Path::new("/data/deleted-0"))
            .unwrap()
            .is_some()
    );
    delete_topic(&mut wire, "deleted").await;
    disk.set_full(None);
    assert_eq!(deleted(&disk, "/data").len(), 1, "for the usual delay");
    disk.set_capacity(Some(disk.used_bytes() + 10));
    until_swept(&disk, "/data").await;
    disk.set_capacity(None);
    assert_eq!(disk.shared().kind(Path::new("/data/deleted-0")).unwrap(), None);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partition_is_refused_again_and_again_and_the_others_serve() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = connected(address, &["broken", "whole"]).await;
    for topic in ["broken", "whole"] {
        assert_eq!(wire.produce(topic, &["second"]).await.error_code, 0);
    }
    drop(node);
    let mut disk = disk.survivor(Crash::Kill);
    let path = Path::new("/data/broken-0/00000000000000000000.log");
    let good = disk.content(path).expect("the log is there");
    disk.damage(path, |bytes| bytes[70] ^= 1);
    let damaged = disk.content(path);
    // Also after a clean stop in between: what was known of the partition must not be forgotten.
    for _ in 0..3 {
        let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
        let mut wire = Wire::connect(address).await;
        assert_eq!(wire.produce("broken", &["no"]).await.error_code, STORAGE_ERROR);
        assert_eq!(wire.fetch("broken", 0).await.error_code, STORAGE_ERROR);
        assert_eq!(values(&wire.fetch("whole", 0).await)[..2], ["first", "second"]);
        assert_eq!(wire.produce("whole", &["more"]).await.error_code, 0);
        node.shutdown().await.unwrap();
        assert_eq!(disk.content(path), damaged, "not a byte is changed");
        disk = disk.survivor(Crash::Kill);
    }
    disk.damage(path, |bytes| *bytes = good);
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(
        values(&wire.fetch("broken", 0).await),
        ["first", "second"],
        "repaired"
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_means_durable_where_the_topic_says_so_and_soon_where_it_gives_a_time() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = connected(address, &["orders"]).await;
    // Many at once: one connection sends without waiting.
    for index in 0..50 {
        let request = produce_request("orders", batch(&[&format!("v{index}")]), -1);
        wire.send(9, request).await;
    }
    for _ in 0..50 {
        wire.receive().await;
    }
    let cut = disk.survivor(Crash::PowerCut { unsynced: 0 });
    drop(node);
    let (node, address) = start_on(&cut, &[]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(values(&wire.fetch("orders", 0).await).len(), 51);
    node.shutdown().await.unwrap();

    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[("log.flush.interval.ms", "50")]).await;
    let mut wire = connected(address, &["orders"]).await;
    let durable = async {
        loop {
            let path = Path::new("/data/orders-0/00000000000000000000.log");
            let cut = disk.survivor(Crash::PowerCut { unsynced: 0 });
            if cut.content(path).is_some_and(|bytes| !bytes.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), durable)
        .await
        .expect("synced by time");
    assert_eq!(wire.produce("orders", &["more"]).await.error_code, 0);
    node.shutdown().await.unwrap();
}

/// Names under the data directory that deleted files have.
fn deleted(disk: &FakeDisk, dir: &str) -> Vec<String> {
    let entries = disk.shared().list(Path::new(dir)).unwrap_or_default();
    let names = entries.into_iter().map(|entry| entry.name);
    names
        .filter(|name| name.ends_with("-delete") || name.ends_with(".deleted"))
        .collect()
}

async fn until_swept(disk: &FakeDisk, dir: &str) {
    let swept = async {
        while !deleted(disk, dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), swept).await.expect("removed");
}

async fn delete_topic(wire: &mut Wire, name: &str) {
    let topic = DeleteTopicState {
        name: Some(name.to_owned().into()),
        ..Default::default()
    };
    let request = DeleteTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(wire.call(6, request).await.responses[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topics_files_stay_for_the_delay_and_go_at_once_when_room_gets_short() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[("highwater.min.free.bytes", "1000000")]).await;
    let mut wire = Wire::connect(address).await;
    let (now, soon) = (("file.delete.delay.ms", "0"), ("file.delete.delay.ms", "1"));
    for (topic, delay) in [("kept", None), ("soon", Some(soon)), ("now", Some(now))] {
        wire.create(topic, 2, delay.as_slice()).await;
        wire.produce(topic, &["x"]).await;
    }
    delete_topic(&mut wire, "now").await;
    assert!(deleted(&disk, "/data").is_empty());
    delete_topic(&mut wire, "soon").await;
    until_swept(&disk, "/data").await;
    delete_topic(&mut wire, "kept").await;
    assert_eq!(deleted(&disk, "/data").len(), 2);
    // The name is free at once, and what comes under it is another topic.
    wire.create("kept", 2, &[]).await;
    assert_eq!(wire.produce("kept", &["new"]).await.base_offset, 0);
    assert_eq!(deleted(&disk, "/data").len(), 2);
    // Not yet little enough for records to be refused.
    disk.set_capacity(Some(disk.used_bytes() + 1_500_000));
    until_swept(&disk, "/data").await;
    assert_eq!(wire.produce("kept", &["more"]).await.error_code, 0);
    // What a stop leaves goes with the next start.
    disk.set_capacity(None);
    delete_topic(&mut wire, "kept").await;
    node.shutdown().await.unwrap();
    let disk = disk.survivor(Crash::Kill);
    let (node, _) = start_on(&disk, &[]).await;
    assert!(deleted(&disk, "/data").is_empty());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_segments_stay_for_the_delay_under_another_name() {
    let disk = FakeDisk::new();
    let often = ("log.retention.check.interval.ms", "100");
    let (node, address) = start_on(&disk, &[often]).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[("retention.ms", "1")]).await;
    wire.produce("t", &["gone soon"]).await;
    let buried = async {
        while deleted(&disk, "/data/t-0").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), buried)
        .await
        .expect("retention runs");
    let content = disk.content(Path::new("/data/t-0/00000000000000000000.log.deleted"));
    assert!(content.is_some_and(|bytes| bytes.windows(9).any(|part| part == b"gone soon")));
    disk.set_capacity(Some(disk.used_bytes() + 10));
    until_swept(&disk, "/data/t-0").await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_checkpoints_said_of_a_deleted_topic_is_not_believed_of_its_namesake() {
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = connected(address, &["orders"]).await;
    for value in ["second", "third"] {
        assert_eq!(wire.produce("orders", &[value]).await.error_code, 0);
    }
    delete_first_records(&mut wire, "orders", 2).await;
    delete_topic(&mut wire, "orders").await;
    wire.create("orders", 1, &[]).await;
    for value in ["new", "newer", "newest"] {
        assert_eq!(wire.produce("orders", &[value]).await.error_code, 0);
    }
    drop(node);

    let disk = disk.survivor(Crash::Kill);
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(values(&wire.fetch("orders", 0).await), ["new", "newer", "newest"]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_checkpoints_say_of_a_topic_that_is_not_there_is_gone_before_its_namesake_comes() {
    let disk = FakeDisk::new();
    let (node, _) = start_on(&disk, &[SYNC_EACH]).await;
    drop(node);
    // As a kill between a deletion and the checkpoints leaves it.
    let disk = disk.survivor(Crash::Kill);
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let data_dir = DataDir::open(disk.shared(), "/data".into(), options).unwrap();
    let partition = TopicPartition::new(TopicName::new("orders").unwrap(), PartitionId::new(0));
    let stale = [(partition, Offset::new(2))].into_iter().collect();
    for which in [OffsetCheckpoint::LogStart, OffsetCheckpoint::RecoveryPoint] {
        data_dir.write_checkpoint(which, &stale).unwrap();
    }
    drop(data_dir);

    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let _wire = connected(address, &["orders"]).await;
    drop(node);
    let disk = disk.survivor(Crash::Kill);
    let (node, address) = start_on(&disk, &[SYNC_EACH]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(values(&wire.fetch("orders", 0).await), ["first"]);
    node.shutdown().await.unwrap();
}

async fn delete_first_records(wire: &mut Wire, topic: &str, offset: i64) {
    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset,
    };
    let topic = DeleteRecordsTopic {
        name: topic.to_owned().into(),
        partitions: vec![partition],
    };
    let request = DeleteRecordsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
    };
    let answer = wire.call(2, request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}
