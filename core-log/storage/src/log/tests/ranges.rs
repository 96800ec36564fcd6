//! Answers that are ranges of a file: they hold the bytes that a read gives, and only as long as those are the log's.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::*;
use crate::testing::FakeDisk;
use crate::{FileRange, ReadOptions, Records, Step};

const RANGES: ReadOptions = ReadOptions {
    min_file_bytes: Some(1),
    waits: true,
};

fn range(log: &PartitionLog, request: ReadRequest) -> FileRange {
    match log.plan_read(request).unwrap().fetch(RANGES).unwrap() {
        Records::File(range) => range,
        Records::Bytes(bytes) => panic!("{} bytes and no range", bytes.len()),
    }
}

/// Sends through a file of its own, in steps.
fn sent(mut range: FileRange, step_bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while !range.is_empty() {
        range.send(step_bytes, |step| copy(step, &mut all))?;
    }
    Ok(all)
}

fn copy(step: Step<'_>, all: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut file = std::fs::File::from(step.file.try_clone_to_owned()?);
    file.seek(SeekFrom::Start(step.position))?;
    file.take(step.max_bytes as u64).read_to_end(all)
}

fn fetched(log: &PartitionLog, request: ReadRequest, options: ReadOptions) -> Vec<u8> {
    match log.plan_read(request).unwrap().fetch(options).unwrap() {
        Records::Bytes(bytes) => bytes.to_vec(),
        Records::File(range) => sent(range, 700).unwrap(),
    }
}

#[test]
fn semantic_43_44_a_range_holds_what_a_read_gives_or_more_up_to_the_limit() {
    for segment_bytes in [2_000, 60_000] {
        let mut config = small();
        config.segment_bytes = segment_bytes;
        config.index_interval_bytes = 300;
        let bench = Bench::new(config);
        let mut log = bench.open();
        for i in 0..150_usize {
            let value = "v".repeat(i * 37 % 190);
            append(&mut log, &vec![value.as_str(); 1 + i % 3]);
        }
        let end = log.end_offset().get();
        for from in 0..end {
            for (max_bytes, upto) in [(1, end), (61, end), (700, end), (5_000, end), (5_000, from + 7)] {
                for at_least_one_batch in [false, true] {
                    let request = ReadRequest {
                        max_bytes,
                        at_least_one_batch,
                        ..request(from, upto.min(end))
                    };
                    let whole = log.plan_read(request).unwrap().execute().unwrap();
                    let hasty = ReadOptions {
                        waits: false,
                        ..RANGES
                    };
                    for options in [RANGES, hasty] {
                        let found = fetched(&log, request, options);
                        // A read stops where its buffer ends, which may be a batch or two before the limit.
                        let goes_on =
                            found.starts_with(&whole) && found.len() <= max_bytes && !whole.is_empty();
                        assert!(found == whole || goes_on, "{segment_bytes} {request:?}");
                        let got: Vec<_> = batches(found.clone().into()).map(Result::unwrap).collect();
                        assert_eq!(
                            got.iter().map(|batch| batch.bytes().len()).sum::<usize>(),
                            found.len()
                        );
                        assert!(got.iter().all(|batch| batch.header().base_offset < request.upto));
                    }
                }
            }
        }
    }
}

#[test]
fn a_reader_in_sequence_gets_every_record_once() {
    let mut config = small();
    config.segment_bytes = 3_000;
    config.index_interval_bytes = 300;
    let bench = Bench::new(config);
    let mut log = bench.open();
    for i in 0..200 {
        append(&mut log, &[&format!("{i}")]);
    }
    let mut next = 0;
    while next < 200 {
        let request = ReadRequest {
            max_bytes: 900,
            ..request(next, 200)
        };
        let got = records(fetched(&log, request, RANGES).into());
        assert_eq!(got[0], (next, format!("{next}")));
        next += got.len() as i64;
        assert_eq!(got.last().unwrap().0 + 1, next);
    }
}

#[test]
fn a_range_outlives_retention_and_deletion_of_its_file() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..100 {
        append(&mut log, &[&format!("{i}")]);
    }
    let range = range(&log, request(0, 100));
    let whole = log.plan_read(request(0, 100)).unwrap().execute().unwrap();
    log.advance_start_offset(Offset::new(99)).unwrap();
    log.apply_retention(NOW, Offset::new(100)).unwrap();
    assert!(!bench.path("00000000000000000000.log").try_exists().unwrap());
    assert_eq!(sent(range, 100).unwrap(), whole);
}

#[test]
fn a_range_that_was_cut_away_sends_nothing_even_if_other_records_take_its_place() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    for value in ["a", "b", "c", "d"] {
        append(&mut log, &[value]);
    }
    let range = range(&log, request(1, 4));
    let plan = log.plan_read(request(1, 4)).unwrap();
    log.truncate_to(Offset::new(2)).unwrap();
    for value in ["x", "y"] {
        append(&mut log, &[value]);
    }
    assert_eq!(sent(range, 10).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    for planned in [plan.execute().err(), plan.fetch(RANGES).err()] {
        assert!(matches!(planned, Some(ReadError::Changed { .. })), "{planned:?}");
    }
    let again = fetched(&log, request(1, 4), RANGES);
    let values: Vec<_> = records(again.into())
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["b", "x", "y"]);
}

#[test]
fn a_file_that_is_shorter_than_promised_ends_the_sending() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["a"]);
    append(&mut log, &["b"]);
    let mut range = range(&log, request(0, 2));
    let path = bench.path("00000000000000000000.log");
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(range.len_bytes() as u64 - 1).unwrap();
    assert_eq!(
        range.is_resident(usize::MAX).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(
        range.read(usize::MAX).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(sent(range, 10).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let planned = log.plan_read(request(0, 2)).unwrap().fetch(RANGES);
    assert!(matches!(planned, Err(ReadError::Changed { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_only_on_the_disk_would_wait_until_it_is_brought_in() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..60 {
        append(&mut log, &[&format!("{i}")]);
    }
    log.flush().unwrap();
    let mut range = range(&log, request(0, 60));
    assert!(range.is_resident(usize::MAX).unwrap());
    let drop_pages = |step: Step<'_>| {
        rustix::fs::fadvise(step.file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(1)
    };
    let hasty = ReadOptions {
        waits: false,
        ..RANGES
    };
    // Looking for a page asks for it, too: only the first look after the drop finds it away for certain, unless somebody
    // else has looked before.
    let would_wait = (0..100).any(|_| {
        range.send(usize::MAX, drop_pages).unwrap();
        let planned = log.plan_read(request(0, 60)).unwrap().fetch(hasty);
        matches!(planned, Err(ReadError::WouldWait))
    });
    if !would_wait {
        range.send(usize::MAX, drop_pages).unwrap();
        let in_memory = "a file system in memory has no other place for its pages";
        assert!(range.is_resident(usize::MAX).unwrap(), "{in_memory}");
        return;
    }
    range.bring_in(usize::MAX).unwrap();
    assert!(range.is_resident(usize::MAX).unwrap());
    let planned = log.plan_read(request(0, 60)).unwrap().fetch(hasty);
    assert!(matches!(planned, Ok(Records::File(_))));
}

#[test]
fn a_damaged_index_costs_time_and_no_range() {
    let mut config = small();
    config.index_interval_bytes = 100;
    let bench = Bench::new(config);
    let mut log = bench.open();
    for i in 0..60 {
        append(&mut log, &[&format!("{i}")]);
    }
    let whole: Vec<_> = (0..60)
        .map(|from| log.plan_read(request(from, 60)).unwrap().execute().unwrap())
        .collect();
    let index = bench.path("00000000000000000000.index");
    let mut bytes = std::fs::read(&index).unwrap();
    for byte in bytes.iter_mut().skip(7).step_by(8) {
        *byte ^= 0x15;
    }
    std::fs::write(&index, bytes).unwrap();
    for from in 0..60 {
        assert!(
            fetched(&log, request(from, 60), RANGES) == whole[from as usize],
            "{from}"
        );
    }
}

#[test]
fn a_disk_without_descriptors_gives_bytes_and_says_that_it_would_wait() {
    let mut bench = Bench::new(small());
    bench.disk = FakeDisk::new().shared();
    let mut log = bench.open();
    for i in 0..60 {
        append(&mut log, &[&format!("{i}")]);
    }
    let read = |from, waits| {
        let options = ReadOptions { waits, ..RANGES };
        log.plan_read(request(from, 60)).unwrap().fetch(options)
    };
    assert!(matches!(read(0, true), Ok(Records::Bytes(bytes)) if !bytes.is_empty()));
    assert!(matches!(read(0, false), Err(ReadError::WouldWait)));
    // The tail was written a moment ago.
    assert!(matches!(read(59, false), Ok(Records::Bytes(bytes)) if !bytes.is_empty()));
}

#[test]
fn a_log_that_nobody_has_written_since_it_was_opened_gives_ranges_too() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    append(&mut log, &["a", "b"]);
    log.close().unwrap();
    let log = bench.open();
    let request = ReadRequest {
        from: Offset::ZERO,
        upto: log.end_offset(),
        max_bytes: 5_000,
        at_least_one_batch: true,
    };
    assert!(log.plan_read(request).unwrap().has_descriptor());
    let expected = fetched(&log, request, RANGES);
    assert_eq!(sent(range(&log, request), 700).unwrap(), expected);
    assert_eq!(expected.len() as u64, log.size_bytes());
}
