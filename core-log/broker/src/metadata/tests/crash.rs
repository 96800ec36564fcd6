//! Crashes at every operation on the disk: what was acknowledged is there after the restart, and the restart works.

use highwater_storage::testing::{Crash, FakeDisk, Tear};

use super::*;

const PROPOSALS: u32 = 6;
const SNAPSHOT_AFTER: u32 = 3;

async fn open(disk: &FakeDisk) -> Result<RaftQuorum, MetadataError> {
    let (disk, data_dir) = (disk.shared(), PathBuf::from("/"));
    RaftQuorum::start(MetadataConfig {
        disk,
        data_dir,
        broker_id: BrokerId::new(1),
    })
    .await
}

/// The number that the last proposal carried; 0 before the first.
fn number(quorum: &RaftQuorum) -> u32 {
    let image = latest(quorum);
    let configs = image.configs(&highwater_cluster::ConfigResource::AllBrokers);
    configs.get("number").map_or(0, |number| number.parse().unwrap())
}

/// Lives until the disk dies or the work is done; answers the last acknowledged number.
async fn live(disk: &FakeDisk) -> u32 {
    let Ok(quorum) = open(disk).await else { return 0 };
    let mut acknowledged = 0;
    for next in 1..=PROPOSALS {
        if quorum
            .propose(vec![set("number", &next.to_string())])
            .await
            .is_err()
        {
            break;
        }
        acknowledged = next;
        // Whether the disk survives these does not matter to what was acknowledged.
        if next == SNAPSHOT_AFTER {
            let _ = snapshot_and_purge(&quorum).await;
        }
    }
    quorum.stop().await;
    acknowledged
}

async fn snapshot_and_purge(quorum: &RaftQuorum) -> Result<(), Box<dyn std::error::Error>> {
    let covered = quorum.raft.ensure_linearizable().await?;
    quorum.raft.trigger().snapshot().await?;
    quorum
        .raft
        .wait(Some(START_TIMEOUT))
        .snapshot(covered.ok_or("an empty log")?, "snapshot taken")
        .await?;
    quorum
        .raft
        .trigger()
        .purge_log(covered.map_or(0, |covered| covered.index))
        .await?;
    quorum
        .raft
        .wait(Some(START_TIMEOUT))
        .purged(covered, "log purged")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let disk = FakeDisk::new();
    assert_eq!(live(&disk).await, PROPOSALS);
    let operations = disk.operations();
    assert!(
        operations > 20,
        "the work should write more than {operations} times"
    );
    for operation in 1..=operations {
        for tear in [Tear::Half, Tear::Everything] {
            let disk = FakeDisk::new();
            disk.die_at(operation, tear);
            let acknowledged = live(&disk).await;
            for crash in [
                Crash::Kill,
                Crash::PowerCut { unsynced: 0 },
                Crash::PowerCut { unsynced: 1 },
            ] {
                let place = format!("{tear:?} at operation {operation}, then {crash:?}");
                let survivor = disk.survivor(crash);
                let quorum = open(&survivor)
                    .await
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                let found = number(&quorum);
                // The proposal under way when the disk died may have made it or not.
                assert!(
                    (acknowledged..=acknowledged + 1).contains(&found),
                    "{place}: {acknowledged}, found {found}"
                );
                quorum
                    .propose(vec![set("number", "99")])
                    .await
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                quorum.stop().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    let disk = FakeDisk::new();
    let quorum = open(&disk).await.unwrap();
    quorum.propose(vec![set("number", "1")]).await.unwrap();
    disk.fail_sync(disk.syncs() + 1);
    for number in ["2", "3"] {
        let failed = quorum.propose(vec![set("number", number)]).await;
        assert!(matches!(failed, Err(ProposeError::Stopped { .. })), "{failed:?}");
    }
    quorum.stop().await;
    let quorum = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }))
        .await
        .unwrap();
    assert_eq!(number(&quorum), 1);
    quorum.stop().await;
}
