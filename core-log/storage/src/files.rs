//! Names of the files of a segment: `<base offset, 20 digits>.<kind>`.

use std::path::{Path, PathBuf};

use highwater_types::Offset;

/// What a file of a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    TxnIndex,
    ProducerSnapshot,
    /// What a producer snapshot of Kafka's form cannot say.
    ProducerBatches,
}

impl FileKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Log,
        Self::OffsetIndex,
        Self::TimeIndex,
        Self::TxnIndex,
        Self::ProducerSnapshot,
        Self::ProducerBatches,
    ];

    const fn extension(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::OffsetIndex => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
            Self::ProducerSnapshot => "snapshot",
            Self::ProducerBatches => "batches",
        }
    }
}

/// Where the file of a kind lies.
pub(crate) fn path(dir: &Path, base: Offset, kind: FileKind) -> PathBuf {
    dir.join(format!("{:020}.{}", base.get(), kind.extension()))
}

/// Reads a name; `None` for everything that is not exactly ours (hostile input 104).
pub(crate) fn parse(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, extension) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let base: i64 = digits.parse().ok()?;
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.extension() == extension)?;
    Some((Offset::new(base), kind))
}

const DELETED: &str = ".deleted";

/// What a deleted file is called until it is removed.
pub(crate) fn deleted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DELETED);
    PathBuf::from(name)
}

/// Whether a name is that of a deleted file of a segment.
pub(crate) fn is_deleted(name: &str) -> bool {
    name.strip_suffix(DELETED).is_some_and(|of| parse(of).is_some())
}

/// Files of a partition's directory that belong to no segment, and those of operations in progress.
pub(crate) fn is_known(name: &str) -> bool {
    const NAMES: [&str; 2] = ["leader-epoch-checkpoint", "partition.metadata"];
    const SUFFIXES: [&str; 4] = [".tmp", ".cleaned", ".swap", DELETED];
    NAMES.contains(&name) || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas_and_foreign_ones_are_not_ours() {
        let dir = Path::new("t-0");
        assert_eq!(
            path(dir, Offset::new(42), FileKind::TimeIndex),
            dir.join("00000000000000000042.timeindex")
        );
        for kind in FileKind::ALL {
            let name = path(Path::new(""), Offset::new(7), kind)
                .to_string_lossy()
                .into_owned();
            assert_eq!(parse(&name), Some((Offset::new(7), kind)));
        }
        let deleted = deleted(&path(dir, Offset::new(42), FileKind::Log));
        assert_eq!(deleted, dir.join("00000000000000000042.log.deleted"));
        assert!(is_deleted("00000000000000000042.log.deleted") && !is_deleted("mine.deleted"));
        for foreign in [
            "42.log",
            "00000000000000000042.log.tmp",
            "00000000000000000042",
            "-0000000000000000042.log",
            "99999999999999999999.log",
            "0000000000000000004x.log",
            "leader-epoch-checkpoint",
            "",
        ] {
            assert_eq!(parse(foreign), None, "{foreign:?}");
        }
    }
}
