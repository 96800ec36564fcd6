//! The group as a whole: what a restart keeps, what a proposal may expect, and Raft's own suite for stores.

mod crash;
mod full_disk;

use std::{convert::Infallible, path::Path, time::Instant};

use highwater_cluster::{ClusterRecord, ConfigRecord, ConfigResourceName};
use highwater_storage::{Disk, StdDisk};
use openraft::testing::{StoreBuilder, Suite};

use super::{raft_types::StorageError, *};

fn config(data_dir: &Path, broker_id: i32) -> MetadataConfig {
    MetadataConfig {
        disk: StdDisk::shared(),
        data_dir: data_dir.to_owned(),
        broker_id: BrokerId::new(broker_id),
    }
}

async fn start(data_dir: &Path) -> RaftQuorum {
    RaftQuorum::start(config(data_dir, 1)).await.unwrap()
}

fn latest(quorum: &RaftQuorum) -> Arc<MetadataImage> {
    Arc::clone(&quorum.image().borrow())
}

fn set(key: &str, value: &str) -> MetadataRecord {
    MetadataRecord::Config(ConfigRecord {
        resource: ConfigResourceName::AllBrokers,
        key: key.to_owned(),
        value: Some(value.to_owned()),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_everything_that_was_proposed_and_the_same_cluster() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path()).await;
    let cluster_id = latest(&quorum).cluster_id().unwrap().to_owned();
    assert_eq!(cluster_id.len(), 22);
    let version = quorum.propose(vec![set("a", "1"), set("b", "2")]).await.unwrap();
    let before = latest(&quorum);
    assert_eq!(before.version(), version);
    quorum.stop().await;
    assert!(matches!(
        quorum.propose(vec![]).await,
        Err(ProposeError::Stopped { .. })
    ));

    let begun = Instant::now();
    let quorum = start(temp.path()).await;
    assert_eq!(latest(&quorum), before);
    assert_eq!(before.cluster_id(), Some(&*cluster_id));
    // No election timeout (a second at least) may lie in the way of a node that is alone.
    assert!(
        begun.elapsed() < Duration::from_millis(900),
        "restart took {:?}",
        begun.elapsed()
    );
    quorum.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_snapshots_finds_everything() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path()).await;
    for number in 0..10 {
        quorum
            .propose(vec![set("before", &number.to_string())])
            .await
            .unwrap();
    }
    let covered = quorum.raft.ensure_linearizable().await.unwrap().unwrap();
    quorum.raft.trigger().snapshot().await.unwrap();
    quorum
        .raft
        .wait(Some(START_TIMEOUT))
        .snapshot(covered, "snapshot taken")
        .await
        .unwrap();
    quorum.raft.trigger().purge_log(covered.index).await.unwrap();
    quorum
        .raft
        .wait(Some(START_TIMEOUT))
        .purged(Some(covered), "log purged")
        .await
        .unwrap();
    quorum.propose(vec![set("after", "1")]).await.unwrap();
    let before = latest(&quorum);
    quorum.stop().await;

    let quorum = start(temp.path()).await;
    assert_eq!(latest(&quorum), before);
    quorum.propose(vec![set("later", "1")]).await.unwrap();
    quorum.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_do_not_fit_are_refused_and_the_group_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path()).await;
    let renamed = MetadataRecord::Cluster(ClusterRecord {
        cluster_id: "other".to_owned(),
    });
    let before = latest(&quorum);
    let refused = quorum.propose(vec![set("a", "1"), renamed]).await;
    assert!(
        matches!(refused, Err(ProposeError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(quorum.linearizable().await.unwrap(), before);
    assert_eq!(
        quorum.propose(vec![set("a", "1")]).await,
        Ok(before.version() + 1)
    );
    quorum.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_made_at_the_same_time_do_not_overlap() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = Arc::new(start(temp.path()).await);
    let tasks = (0..20).map(|_| {
        let quorum = Arc::clone(&quorum);
        tokio::spawn(async move {
            decide(&*quorum, decisions::allocate_producer_ids)
                .await
                .unwrap()
                .first
        })
    });
    let mut firsts = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        firsts.push(task.await.unwrap().get());
    }
    firsts.sort_unstable();
    assert_eq!(
        firsts,
        (0..20)
            .map(|block| block * decisions::PRODUCER_ID_BLOCK_SIZE)
            .collect::<Vec<_>>()
    );
    let idle = decide(&*quorum, |image| Ok::<_, Infallible>((image.version(), vec![]))).await;
    assert_eq!(idle, Ok(latest(&quorum).version()));
    quorum.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_interrupted_end_of_the_log_is_dropped_and_damage_before_it_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path()).await;
    quorum.propose(vec![set("a", "1")]).await.unwrap();
    let before = latest(&quorum);
    quorum.propose(vec![set("b", "2")]).await.unwrap();
    quorum.stop().await;

    let log = temp.path().join("metadata/log");
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 3]).unwrap();
    let quorum = start(temp.path()).await;
    assert_eq!(latest(&quorum), before);
    quorum.propose(vec![set("c", "3")]).await.unwrap();
    quorum.stop().await;

    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let refused = RaftQuorum::start(config(temp.path(), 1)).await;
    assert!(
        matches!(refused, Err(MetadataError::Damaged { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_another_broker_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    start(temp.path()).await.stop().await;
    let refused = RaftQuorum::start(config(temp.path(), 2)).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("belongs to broker 1, not to broker 2"),
        "{refused}"
    );
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let temp = tempfile::tempdir().unwrap();
        let dir = MetadataDir::open(StdDisk::shared(), temp.path().join("metadata")).unwrap();
        let log_store = LogStore::open(dir.clone()).unwrap();
        Ok((temp, log_store, StateMachine::open(dir).unwrap()))
    }
}

#[test]
fn the_stores_pass_the_suite_of_raft() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_removed_is_told_and_not_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    start(temp.path()).await.stop().await;
    let log = temp.path().join("metadata/log");
    StdDisk.remove_file(&log).unwrap();
    let refused = RaftQuorum::start(config(temp.path(), 1)).await.unwrap_err();
    assert!(
        matches!(&refused, MetadataError::Damaged { path, .. } if *path == log),
        "{refused}"
    );
    assert!(!log.try_exists().unwrap());
}
