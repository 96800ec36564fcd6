//! A full disk: changes wait for room and go on by themselves, and nothing else stops.

use highwater_storage::testing::{Crash, FakeDisk};

use super::*;

async fn open(disk: &FakeDisk) -> RaftQuorum {
    let config = MetadataConfig {
        disk: disk.shared(),
        data_dir: PathBuf::from("/"),
        broker_id: BrokerId::new(1),
    };
    RaftQuorum::start(config).await.unwrap()
}

fn fill(disk: &FakeDisk) {
    disk.set_capacity(Some(disk.used_bytes() + 10));
}

/// Proposes until there is room; nothing tells when the waiting write has been done over.
async fn propose_until_taken(quorum: &RaftQuorum, record: MetadataRecord) {
    loop {
        match quorum.propose(vec![record.clone()]).await {
            Ok(_) => return,
            Err(ProposeError::NoRoom) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_changes_until_there_is_room_and_stops_nothing() {
    let disk = FakeDisk::new();
    let quorum = open(&disk).await;
    quorum.propose(vec![set("a", "1")]).await.unwrap();
    fill(&disk);
    for attempt in 0..3 {
        let refused = quorum.propose(vec![set("b", "1")]).await;
        assert_eq!(refused, Err(ProposeError::NoRoom), "attempt {attempt}");
    }
    assert_eq!(latest(&quorum), latest(&quorum), "reading goes on");
    // Killed while it waits, with half of an entry behind the end.
    let killed = open(&disk.survivor(Crash::Kill)).await;
    killed.propose(vec![set("c", "1")]).await.unwrap();
    killed.stop().await;

    disk.set_capacity(None);
    propose_until_taken(&quorum, set("c", "1")).await;
    let before = latest(&quorum);
    quorum.stop().await;
    let again = open(&disk.survivor(Crash::PowerCut { unsynced: 0 })).await;
    assert_eq!(latest(&again), before);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_finds_no_room_is_made_when_there_is() {
    let disk = FakeDisk::new();
    let quorum = open(&disk).await;
    quorum.propose(vec![set("a", "1")]).await.unwrap();
    let covered = quorum.raft.ensure_linearizable().await.unwrap().unwrap();
    fill(&disk);
    quorum.raft.trigger().snapshot().await.unwrap();
    disk.set_capacity(None);
    let wait = quorum.raft.wait(Some(START_TIMEOUT));
    wait.snapshot(covered, "snapshot taken").await.unwrap();
    quorum.propose(vec![set("b", "1")]).await.unwrap();
    quorum.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_though_its_metadata_waits_for_room() {
    let disk = FakeDisk::new();
    let quorum = open(&disk).await;
    fill(&disk);
    quorum.propose(vec![set("a", "1")]).await.unwrap_err();
    quorum.stop().await;
    let stopped = quorum.propose(vec![set("a", "1")]).await;
    assert!(stopped.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_that_ends_by_itself_says_so_and_one_that_is_stopped_does_not() {
    let disk = FakeDisk::new();
    let quorum = open(&disk).await;
    disk.fail_operation(disk.operations() + 1, 5);
    let failed = quorum.propose(vec![set("a", "1")]).await;
    assert!(matches!(failed, Err(ProposeError::Stopped { .. })), "{failed:?}");
    assert!(quorum.failed().await.contains("metadata/log"));

    let quorum = open(&FakeDisk::new()).await;
    quorum.stop().await;
    use futures::FutureExt;
    assert_eq!(quorum.failed().now_or_never(), None);
}
