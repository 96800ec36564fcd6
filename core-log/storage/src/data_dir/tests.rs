//! A data directory across starts, clean and not.

mod closing;

use super::*;
use crate::error::AppendError;
use crate::testing::{Crash, FakeDisk, Tear};

const NOW: Timestamp = Timestamp::new(1_000_000);

fn orders(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("my-orders").unwrap(),
        partition: PartitionId::new(partition),
    }
}

fn open(disk: &FakeDisk) -> DataDir {
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    DataDir::open(disk.shared(), PathBuf::from("data"), options).unwrap()
}

fn topic_id(raw: u128) -> TopicId {
    TopicId::new(Uuid::from_u128(raw))
}

fn open_log(dir: &DataDir, partition: i32, id: u128) -> Result<(PartitionLog, RecoveryReport), StorageError> {
    dir.open_partition(
        &orders(partition),
        Some(topic_id(id)),
        Arc::new(LogConfig::default()),
        NOW,
    )
}

fn append(log: &mut PartitionLog) {
    try_append(log).unwrap();
}

fn try_append(log: &mut PartitionLog) -> Result<(), AppendError> {
    use highwater_types::record::{BatchBuilder, BatchOptions, RecordBatch};
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, None, Some(b"v"), &[]);
    let (batch, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
    log.append_as_leader(batch, highwater_types::LeaderEpoch::new(0), NOW)
        .map(drop)
}

#[test]
fn a_clean_shutdown_is_clean_once() {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    assert!(!dir.was_clean_shutdown(), "a new directory has no marker");
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    append(&mut log);
    let end = log.close().unwrap();
    dir.write_checkpoint(
        OffsetCheckpoint::RecoveryPoint,
        &OffsetMap::from([(orders(0), end)]),
    )
    .unwrap();
    dir.mark_clean_shutdown(None).unwrap();

    let disk = disk.survivor(Crash::PowerCut { unsynced: 0 });
    let dir = open(&disk);
    assert!(dir.was_clean_shutdown());
    let found = dir.partitions().unwrap();
    assert_eq!(
        (&found[0].partition, found[0].topic_id, found.len()),
        (&orders(0), Some(topic_id(1)), 1)
    );
    let (log, report) = open_log(&dir, 0, 1).unwrap();
    assert_eq!((log.end_offset(), report.segments_scanned), (Offset::new(1), 0));

    // Nothing was written, yet the marker must not be believed twice (invariant 23).
    let disk = disk.survivor(Crash::PowerCut { unsynced: 0 });
    assert!(!open(&disk).was_clean_shutdown());
}

#[test]
fn a_directory_in_use_is_refused() {
    let disk = FakeDisk::new();
    let _held = open(&disk);
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let error = DataDir::open(disk.shared(), PathBuf::from("data"), options).unwrap_err();
    assert!(matches!(error, StorageError::DirectoryInUse { .. }), "{error}");
}

#[test]
fn a_topic_recreated_under_the_same_name_does_not_get_the_old_data() {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    drop(open_log(&dir, 0, 1).unwrap());
    let error = open_log(&dir, 0, 2).unwrap_err();
    assert!(matches!(error, StorageError::TopicIdMismatch { .. }), "{error}");
    dir.write_checkpoint(
        OffsetCheckpoint::LogStart,
        &OffsetMap::from([(orders(0), Offset::new(7))]),
    )
    .unwrap();
    dir.delete_partition(&orders(0), Uuid::from_u128(9)).unwrap();
    drop(dir);
    let (log, _) = open_log(&open(&disk), 0, 2).unwrap();
    assert_eq!(
        log.start_offset(),
        Offset::ZERO,
        "the old checkpoint is not of this topic"
    );
}

#[test]
fn a_deletion_cut_short_is_finished_at_the_next_start() {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    drop(open_log(&dir, 0, 1).unwrap());
    let before = disk.operations();
    // Rename, directory sync, removal: die at the removal.
    disk.die_at(before + 3, crate::testing::Tear::Nothing);
    dir.delete_partition(&orders(0), Uuid::from_u128(9)).unwrap_err();
    let disk = disk.survivor(Crash::PowerCut { unsynced: 0 });
    let grave = PathBuf::from("data/my-orders-0.00000000000000000000000000000009-delete");
    assert!(disk.list(&grave).is_ok(), "renamed durably");
    let dir = open(&disk);
    assert_eq!(dir.partitions().unwrap(), []);
    assert!(disk.list(&grave).is_err());
}

#[test]
fn checkpoints_of_any_content_cost_a_recovery_and_nothing_else() {
    for damage in [
        &b""[..],
        b"\0\0\0\0",
        b"0\n1\nother-topic 0 99\n",
        b"0\n999999999\n",
        b"\xff\xfe",
        b"0\n1\nmy-orders 0 99999\n",
    ] {
        let disk = FakeDisk::new();
        let dir = open(&disk);
        let (mut log, _) = open_log(&dir, 0, 1).unwrap();
        append(&mut log);
        let end = log.close().unwrap();
        dir.write_checkpoint(
            OffsetCheckpoint::RecoveryPoint,
            &OffsetMap::from([(orders(0), end)]),
        )
        .unwrap();
        drop(dir);
        for file in [
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint",
        ] {
            let path = Path::new("data").join(file);
            disk.open(&path, OpenMode::Create).unwrap();
            disk.damage(&path, |bytes| *bytes = damage.to_vec());
        }
        let (log, _) = open_log(&open(&disk), 0, 1).unwrap();
        assert_eq!(log.end_offset(), Offset::new(1), "{damage:?}");
    }
}

/// A directory with one log of three records, closed cleanly, and its `.log` file's bytes.
fn closed() -> (FakeDisk, Vec<u8>) {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    dir.write_meta_properties(&MetaProperties {
        cluster_id: "c".to_owned(),
        node_id: 1,
        directory_id: Uuid::from_u128(5),
    })
    .unwrap();
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    for _ in 0..3 {
        append(&mut log);
    }
    let end = log.close().unwrap();
    for which in [OffsetCheckpoint::RecoveryPoint, OffsetCheckpoint::HighWatermark] {
        dir.write_checkpoint(which, &OffsetMap::from([(orders(0), end)]))
            .unwrap();
    }
    let starts = OffsetMap::from([(orders(0), Offset::ZERO)]);
    dir.write_checkpoint(OffsetCheckpoint::LogStart, &starts).unwrap();
    dir.mark_clean_shutdown(Some(1)).unwrap();
    let bytes = disk.content(Path::new(LOG)).unwrap();
    (disk.survivor(Crash::Kill), bytes)
}

const LOG: &str = "data/my-orders-0/00000000000000000000.log";

#[test]
fn hostile_103_files_of_a_data_directory() {
    let (disk, log_bytes) = closed();
    let (mut served, mut refused) = (0, 0);
    for file in [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
        "meta.properties",
        ".kafka_cleanshutdown",
        "my-orders-0/partition.metadata",
    ] {
        let path = Path::new("data").join(file);
        let good = disk.content(&path).unwrap();
        let mut damages = vec![
            Vec::new(),
            vec![0; good.len()],
            b"0\n2147483647\nmy-orders 0 1\n".to_vec(),
            b"0\n1\nanother-topic 3 77\n".to_vec(),
            b"0\n1\nmy-orders 0 9223372036854775807\n".to_vec(),
            vec![b'0'; 1 << 20],
        ];
        damages.extend((0..good.len()).map(|cut| good[..cut].to_vec()));
        for at in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            damages.push(flipped);
        }
        for damage in damages {
            let case = format!(
                "{file}: {:?}",
                String::from_utf8_lossy(&damage[..damage.len().min(80)])
            );
            let disk = disk.survivor(Crash::Kill);
            disk.damage(&path, |bytes| *bytes = damage);
            let dir = open(&disk);
            let _ = dir.meta_properties();
            let _ = dir.partitions().unwrap();
            match open_log(&dir, 0, 1) {
                Ok((log, _)) => {
                    assert_eq!(log.end_offset(), Offset::new(3), "{case}");
                    assert!(log.start_offset() <= Offset::new(3), "{case}");
                    served += 1;
                }
                Err(StorageError::StartBeyondEnd { .. }) => refused += 1,
                Err(StorageError::Malformed { path, .. }) => {
                    assert!(path.ends_with("partition.metadata"), "{case}");
                    refused += 1;
                }
                Err(error) => panic!("{case}: {error}"),
            }
            assert_eq!(
                disk.content(Path::new(LOG)).unwrap(),
                log_bytes,
                "{case}: the log was changed"
            );
        }
    }
    assert!(
        served > 500 && refused > 100,
        "{served} served, {refused} refused"
    );
}

#[test]
fn hostile_105_foreign_things_in_a_data_directory_are_left_alone() {
    use crate::disk::StdDisk;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("data");
    std::fs::create_dir_all(path.join("lost+found")).unwrap();
    std::fs::create_dir(path.join("not.a-partition-x")).unwrap();
    std::fs::write(path.join("orders-1"), "a file, no directory").unwrap();
    std::os::unix::fs::symlink("/", path.join("root-0")).unwrap();
    std::os::unix::fs::symlink("nowhere", path.join("recovery-point-offset-checkpoint")).unwrap();
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = DataDir::open(StdDisk::shared(), path.clone(), options).unwrap();
    assert_eq!(dir.partitions().unwrap(), []);
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    append(&mut log);
    log.close().unwrap();
    for name in ["lost+found", "not.a-partition-x", "orders-1", "root-0"] {
        assert!(path.join(name).symlink_metadata().is_ok(), "{name}");
    }
}

#[test]
fn hostile_105_a_partition_whose_directory_is_a_link_or_a_file_is_refused_and_not_followed() {
    use crate::disk::StdDisk;
    let home = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (home.path().join("data"), home.path().join("elsewhere"));
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = DataDir::open(StdDisk::shared(), path.clone(), options).unwrap();
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    append(&mut log);
    log.close().unwrap();
    let name = path.join("my-orders-0");
    std::fs::rename(&name, &elsewhere).unwrap();
    let before = std::fs::read_dir(&elsewhere).unwrap().count();
    for (target, kind) in [
        (Some(elsewhere.as_path()), EntryKind::Other),
        (Some(Path::new("nowhere")), EntryKind::Other),
        (None, EntryKind::File),
    ] {
        match target {
            Some(target) => std::os::unix::fs::symlink(target, &name).unwrap(),
            None => std::fs::write(&name, "").unwrap(),
        }
        let refused = open_log(&dir, 0, 1).unwrap_err();
        assert!(
            matches!(&refused, StorageError::NotADirectory { path, found } if *path == name && *found == kind),
            "{refused}"
        );
        assert!(!refused.is_for_want_of_room());
        assert_eq!(dir.partitions().unwrap(), [], "what is listed agrees");
        std::fs::remove_file(&name).unwrap();
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), before);
    std::fs::rename(&elsewhere, &name).unwrap();
    let (log, _) = open_log(&dir, 0, 1).unwrap();
    assert_eq!(log.end_offset(), Offset::new(1));
}

#[test]
fn what_is_known_of_a_deleted_namesake_is_not_taken_for_a_log_that_first_found_no_room() {
    let (disk, _) = closed();
    let dir = open(&disk);
    drop(open_log(&dir, 0, 1).unwrap());
    let checkpoint = OffsetMap::from([(orders(0), Offset::new(1))]);
    dir.write_checkpoint(OffsetCheckpoint::LogStart, &checkpoint)
        .unwrap();
    drop(dir);
    let dir = open(&disk);
    dir.delete_partition(&orders(0), Uuid::from_u128(9)).unwrap();
    for full in [
        Path::new("data/my-orders-0"),
        Path::new("data/my-orders-0/partition.metadata"),
    ] {
        disk.set_full(Some(full));
        let refused = open_log(&dir, 0, 2).unwrap_err();
        assert!(refused.is_for_want_of_room(), "{refused}");
    }
    // The name finds room, the bytes do not, or not all of them.
    disk.set_full(None);
    disk.set_capacity(Some(disk.used_bytes() + 5));
    let refused = open_log(&dir, 0, 2).unwrap_err();
    assert!(refused.is_for_want_of_room(), "{refused}");
    disk.set_capacity(None);
    let (log, _) = open_log(&dir, 0, 2).unwrap();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset::ZERO, Offset::ZERO)
    );
}

#[test]
fn a_directory_of_another_topic_is_set_aside_whole() {
    let (disk, log_bytes) = closed();
    let dir = open(&disk);
    let error = open_log(&dir, 0, 2).unwrap_err();
    assert!(matches!(error, StorageError::TopicIdMismatch { .. }), "{error}");
    let aside = dir.set_aside(&orders(0), Uuid::from_u128(9)).unwrap().unwrap();
    assert_eq!(
        disk.content(&aside.join("00000000000000000000.log")),
        Some(log_bytes)
    );
    let (mut log, _) = open_log(&dir, 0, 2).unwrap();
    assert_eq!(log.end_offset(), Offset::ZERO);
    append(&mut log);
    log.flush().unwrap();
    drop(dir);
    let dir = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }));
    assert_eq!(
        dir.partitions().unwrap().len(),
        1,
        "what was set aside is no partition"
    );
    assert_eq!(dir.set_aside(&orders(7), Uuid::from_u128(9)).unwrap(), None);
}

#[test]
fn names_that_are_no_partition_are_left_alone() {
    for (name, expected) in [
        ("orders-0", Some(0)),
        ("orders-2147483647", Some(i32::MAX)),
        ("orders-00", None),
        ("orders--1", Some(1)),
        ("orders-2147483648", None),
        ("orders", None),
        ("-0", None),
        ("..-0", None),
        ("orders-0.00000000000000000000000000000009-delete", None),
    ] {
        let parsed = parse_partition_dir(name).map(|partition| partition.partition.get());
        assert_eq!(parsed, expected, "{name}");
    }
}

#[test]
fn identity_is_kept_and_garbage_is_an_error() {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    assert_eq!(dir.meta_properties().unwrap(), None);
    let meta = MetaProperties {
        cluster_id: "c".to_owned(),
        node_id: 1,
        directory_id: Uuid::from_u128(5),
    };
    dir.write_meta_properties(&meta).unwrap();
    assert_eq!(dir.meta_properties().unwrap(), Some(meta));
    disk.damage(Path::new("data/meta.properties"), |bytes| bytes.truncate(10));
    assert!(matches!(
        dir.meta_properties().unwrap_err(),
        StorageError::Malformed { .. }
    ));
}

#[test]
fn creating_a_partition_syncs_nothing_and_its_first_flush_everything() {
    let disk = FakeDisk::new();
    let dir = open(&disk);
    let before = disk.syncs();
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    assert_eq!(disk.syncs(), before, "an empty partition has nothing to lose");
    let lost = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }));
    assert_eq!(lost.partitions().unwrap(), []);
    open_log(&lost, 0, 1).unwrap();

    append(&mut log);
    log.flush().unwrap();
    let kept = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }));
    assert_eq!(kept.partitions().unwrap()[0].topic_id, Some(topic_id(1)));
    assert_eq!(open_log(&kept, 0, 1).unwrap().0.end_offset(), Offset::new(1));

    let before = disk.syncs();
    append(&mut log);
    log.flush().unwrap();
    assert_eq!(disk.syncs(), before + 1, "from then on only the records");
}

#[test]
fn a_new_partition_opens_after_a_power_cut_at_any_moment_with_all_that_was_flushed() {
    /// How many records are durable when this ends or dies.
    fn live(disk: &FakeDisk) -> i64 {
        let lives = || -> Result<i64, AppendError> {
            let options = DataDirOptions {
                corruption: CorruptionPolicy::Refuse,
            };
            let dir = DataDir::open(disk.shared(), PathBuf::from("data"), options)?;
            let (mut log, _) = open_log(&dir, 0, 1)?;
            try_append(&mut log)?;
            Ok(log.flush()?.get())
        };
        lives().unwrap_or(0)
    }
    let whole = FakeDisk::new();
    assert_eq!(live(&whole), 1);
    for operation in 0..=whole.operations() {
        for tear in [Tear::Nothing, Tear::Half, Tear::Everything] {
            let disk = FakeDisk::new();
            disk.die_at(operation, tear);
            let durable = live(&disk);
            for unsynced in 0..=disk.unsynced() {
                let dir = open(&disk.survivor(Crash::PowerCut { unsynced }));
                let (log, _) = open_log(&dir, 0, 1).unwrap_or_else(|error| {
                    panic!("power at {operation}, {tear:?}, kept {unsynced}: {error}")
                });
                assert!(
                    log.end_offset().get() >= durable,
                    "power at {operation}, kept {unsynced}"
                );
            }
        }
    }
}
