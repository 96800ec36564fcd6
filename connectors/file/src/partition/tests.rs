//! Crashes, rolls and damage, on real files.

use highwater_connect_api::{PartitionId, TopicName};
use tempfile::TempDir;

use super::*;
use crate::settings::LineFormat;

struct Bench {
    directory: TempDir,
    settings: FileSettings,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = FileSettings {
            directory: directory.path().to_owned(),
            format: LineFormat::Value,
            roll_bytes: 1 << 20,
            roll_rows: None,
            roll_interval: Duration::from_secs(600),
            fsync: true,
        };
        Self { directory, settings }
    }

    fn open(&self) -> PartitionFiles {
        self.try_open().expect("the files open")
    }

    fn try_open(&self) -> Result<PartitionFiles, FileError> {
        let topic = TopicName::new("prices").expect("a legal name");
        PartitionFiles::open(
            TopicPartition::new(topic, PartitionId::new(0)),
            self.settings.clone(),
        )
    }

    /// Every line of every file, in offset order, and how many files there are of each kind.
    fn lines(&self) -> (Vec<String>, usize, usize) {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter(|name| name.contains(".jsonl"))
            .collect();
        names.sort();
        let read = |name: &String| fs::read_to_string(self.directory.path().join(name)).expect("read");
        let text: String = names.iter().map(read).collect();
        let open = names.iter().filter(|name| name.ends_with(".open")).count();
        (
            text.lines().map(str::to_owned).collect(),
            names.len() - open,
            open,
        )
    }
}

fn append(files: &mut PartitionFiles, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        files
            .append(Offset::new(offset), offset.to_string().as_bytes(), 0)
            .expect("appended");
    }
}

fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn what_was_not_flushed_is_cut_off_and_comes_again() {
    let bench = Bench::new();
    let mut files = bench.open();
    assert_eq!(files.next_offset(), None);
    append(&mut files, 5..10);
    files.flush(0).expect("flushed");
    append(&mut files, 10..15);
    files
        .write_out()
        .expect("the lines reach the file, but not the progress");
    drop(files);
    assert_eq!(bench.lines().0, numbers(5..15));

    let mut files = bench.open();
    assert_eq!(files.next_offset(), Some(Offset::new(10)));
    assert_eq!(bench.lines(), (numbers(5..10), 0, 1));
    append(&mut files, 10..20);
    files.flush(0).expect("flushed");
    assert_eq!(bench.lines(), (numbers(5..20), 0, 1));
}

#[test]
fn a_torn_line_at_the_end_is_cut_off() {
    let bench = Bench::new();
    let mut files = bench.open();
    append(&mut files, 0..3);
    files.flush(0).expect("flushed");
    let path = files.open_path(0);
    drop(files);
    let mut file = OpenOptions::new().append(true).open(&path).expect("opened");
    file.write_all(b"{\"half\":").expect("torn");
    assert_eq!(bench.open().next_offset(), Some(Offset::new(3)));
    assert_eq!(bench.lines().0, numbers(0..3));
}

#[test]
fn files_roll_by_rows_bytes_and_age_and_are_named_by_their_first_offset() {
    let mut bench = Bench::new();
    bench.settings.roll_rows = Some(4);
    let mut files = bench.open();
    append(&mut files, 0..10);
    files.flush(0).expect("flushed");
    assert_eq!(bench.lines(), (numbers(0..10), 2, 1));
    let second = bench.directory.path().join("prices-0-00000000000000000004.jsonl");
    assert_eq!(fs::read_to_string(second).expect("rolled"), "4\n5\n6\n7\n");

    let age_ms = 600_000;
    files.flush(age_ms).expect("flushed");
    assert_eq!(bench.lines(), (numbers(0..10), 3, 0), "an idle file rolls by age");
    drop(files);

    bench.settings.roll_rows = None;
    bench.settings.roll_bytes = 9; // three lines of two digits
    let mut files = bench.open();
    assert_eq!(files.next_offset(), Some(Offset::new(10)));
    append(&mut files, 10..16);
    files.flush(0).expect("flushed");
    assert_eq!(bench.lines(), (numbers(0..16), 4, 1));
}

#[test]
fn a_crash_between_progress_and_rename_of_a_roll_loses_nothing() {
    let mut bench = Bench::new();
    bench.settings.roll_rows = Some(3);
    let mut files = bench.open();
    append(&mut files, 0..4);
    files.flush(0).expect("flushed");
    let (rolled, open) = (files.rolled_path(0), files.open_path(0));
    drop(files);
    fs::rename(&rolled, &open).expect("as if the rename had not happened");

    let mut files = bench.open();
    assert_eq!(files.next_offset(), Some(Offset::new(4)));
    append(&mut files, 4..5);
    files.flush(0).expect("flushed");
    assert_eq!(bench.lines(), (numbers(0..5), 1, 1));
}

#[test]
fn a_file_begun_after_the_last_progress_is_removed() {
    let bench = Bench::new();
    let mut files = bench.open();
    append(&mut files, 7..9);
    files.write_out().expect("written, never flushed");
    drop(files);
    let files = bench.open();
    assert_eq!(files.next_offset(), None);
    assert_eq!(bench.lines(), (Vec::new(), 0, 0));
}

/// Every prefix of the system calls that a run makes is a place to crash; here each is reached by stopping after so
/// many appends, with flushes and rolls in between, and by losing everything not flushed.
#[test]
fn wherever_it_is_cut_every_line_is_there_once() {
    for cut in 0..40 {
        let mut bench = Bench::new();
        bench.settings.roll_rows = Some(6);
        bench.settings.fsync = false;
        let mut done = 0;
        for run in 0..4 {
            let mut files = bench.open();
            let from = files.next_offset().map_or(0, Offset::get);
            assert!(from >= done, "what was flushed is never asked for again");
            for offset in from..40 {
                if run < 3 && offset - from == cut % 17 + run {
                    files.write_out().expect("written");
                    break;
                }
                append(&mut files, offset..offset + 1);
                if offset % 5 == cut % 5 {
                    files.flush(0).expect("flushed");
                    done = offset + 1;
                }
            }
            if run == 3 {
                files.flush(0).expect("flushed");
            }
        }
        assert_eq!(bench.lines().0, numbers(0..40), "cut {cut}");
    }
}

#[test]
fn damage_from_outside_is_refused_with_advice() {
    let bench = Bench::new();
    let mut files = bench.open();
    append(&mut files, 0..3);
    files.flush(0).expect("flushed");
    let path = files.open_path(0);
    drop(files);
    fs::write(&path, "0\n").expect("shortened");
    let error = bench.try_open().expect_err("lines are gone");
    assert!(
        error.to_string().contains("has 2 bytes, but 6 were recorded"),
        "{error}"
    );
    fs::remove_file(&path).expect("removed");
    assert!(matches!(
        bench.try_open(),
        Err(FileError::Shortened { found: 0, .. })
    ));
    fs::write(bench.directory.path().join("prices-0.progress"), "{").expect("damaged");
    assert!(matches!(bench.try_open(), Err(FileError::Progress { .. })));
}

#[test]
fn two_writers_of_one_partition_exclude_each_other() {
    let bench = Bench::new();
    let files = bench.open();
    assert!(matches!(bench.try_open(), Err(FileError::Locked { .. })));
    drop(files);
    bench.open();
}

#[test]
fn offsets_that_begin_again_stop_the_writer() {
    let bench = Bench::new();
    let mut files = bench.open();
    append(&mut files, 10..12);
    files.skip(Offset::new(12)).expect("a record without a line");
    assert_eq!(files.next_offset(), Some(Offset::new(13)));
    let error = files.append(Offset::new(0), b"0", 0).expect_err("a new topic");
    assert!(matches!(error, FileError::WentBack { .. }), "{error}");
    let error = files.append(Offset::new(13), b"13", 0).expect_err("fenced");
    assert!(matches!(error, FileError::Fenced { .. }), "{error}");
}
