//! A real log's files read without a problem; damage is found where it is.

use std::sync::Arc;

use highwater_types::record::{BatchBuilder, BatchOptions, RecordBatch};
use highwater_types::{LeaderEpoch, Timestamp};

use super::*;
use crate::config::LogConfig;
use crate::disk::StdDisk;
use crate::log::{CorruptionPolicy, OpenOptions, PartitionLog};

const ALL: InspectOptions = InspectOptions {
    records: true,
    deep: true,
    verify_index: true,
};

fn batch(value: &str, at: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(Timestamp::new(at), Some(b"k"), Some(value.as_bytes()), &[]);
    RecordBatch::parse(builder.build().unwrap()).unwrap().0
}

/// A partition's folder with a closed log of 300 batches.
fn partition() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("t-0");
    let disk: Arc<dyn Disk> = StdDisk::shared();
    disk.create_dir_all(&dir).unwrap();
    let open = OpenOptions {
        clean_shutdown: true,
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        was_compacted: false,
        now: Timestamp::new(0),
        corruption: CorruptionPolicy::Refuse,
    };
    let config = Arc::new(LogConfig::default());
    let (mut log, _) = PartitionLog::open(Arc::clone(&disk), dir.clone(), config, open).unwrap();
    for at in 0..300 {
        let value = format!("{at:0100}");
        let epoch = LeaderEpoch::new(0);
        log.append_as_leader(batch(&value, 1000 + at), epoch, Timestamp::new(1000 + at))
            .unwrap();
    }
    log.close().unwrap();
    (folder, dir)
}

fn rows(path: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    inspect(&*StdDisk::shared(), path, ALL, &mut |row| rows.push(row)).unwrap();
    rows
}

fn problems(path: &Path) -> Vec<String> {
    let text = |row: &Row| match row.get("message") {
        Some(Field::Text(text)) => text.clone(),
        other => panic!("{other:?}"),
    };
    rows(path)
        .iter()
        .filter(|row| row.is_problem())
        .map(text)
        .collect()
}

#[test]
fn files_of_a_closed_log_have_no_problems() {
    let (_folder, dir) = partition();
    let files = files(&*StdDisk::shared(), &dir).unwrap();
    assert!(files.len() >= 4, "{files:?}");
    for file in &files {
        assert_eq!(problems(file), [] as [String; 0], "{}", file.display());
    }
    let log = rows(&dir.join("00000000000000000000.log"));
    assert_eq!(log.iter().filter(|row| row.kind == "batch").count(), 300);
    assert_eq!(log.iter().filter(|row| row.kind == "record").count(), 300);
    let summary = log.last().unwrap();
    assert_eq!(summary.get("next_offset"), Some(&Field::Number(300)));
    let index = rows(&dir.join("00000000000000000000.index"));
    assert!(index.len() > 5, "{index:?}");
}

#[test]
fn a_flipped_byte_a_torn_tail_and_a_wrong_index_are_named() {
    let (_folder, dir) = partition();
    let log = dir.join("00000000000000000000.log");
    let good = std::fs::read(&log).unwrap();

    let mut flipped = good.clone();
    flipped[150] ^= 1;
    std::fs::write(&log, &flipped).unwrap();
    let found = problems(&log);
    assert_eq!(found.len(), 1, "{found:?}");

    let mut length = good.clone();
    length[8] = 0x7f;
    std::fs::write(&log, &length).unwrap();
    assert!(
        problems(&log)[0].contains("damage, not a torn tail"),
        "{:?}",
        problems(&log)
    );

    std::fs::write(&log, &good[..good.len() - 7]).unwrap();
    assert!(
        problems(&log)[0].contains("torn tail, which"),
        "{:?}",
        problems(&log)
    );
    std::fs::write(&log, &good).unwrap();

    let index = dir.join("00000000000000000000.index");
    let mut entries = std::fs::read(&index).unwrap();
    entries[7] ^= 1;
    entries.push(0);
    std::fs::write(&index, &entries).unwrap();
    assert_eq!(problems(&index).len(), 2, "{:?}", problems(&index));
}

#[test]
fn no_bytes_make_any_kind_of_file_panic() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "00000000000000000007.log",
        "00000000000000000007.index",
        "00000000000000000007.timeindex",
        "00000000000000000007.txnindex",
        "00000000000000000007.snapshot",
        "00000000000000000007.batches",
        "leader-epoch-checkpoint",
        "recovery-point-offset-checkpoint",
        "partition.metadata",
        "meta.properties",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for name in names {
        let path = folder.path().join(name);
        for length in [0, 1, 7, 61, 100, 1000] {
            for fill in [Some(0), Some(0xff), None] {
                let mut random = || {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                };
                let bytes: Vec<u8> = (0..length).map(|_| fill.unwrap_or_else(&mut random)).collect();
                std::fs::write(&path, &bytes).unwrap();
                rows(&path);
            }
        }
    }
}
