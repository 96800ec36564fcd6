//! Putting a cleaned segment in the place of the ones it was made from, so that a crash leaves the old ones or the
//! new one.
//!
//! ```text
//! <base>.{log,index,timeindex,txnindex}.cleaned   being written; worth nothing after a crash
//! <base>.{index,timeindex,txnindex}.swap          whole and durable, but not valid without the log
//! <base>.log.swap                                 from here on the new segment counts
//! ```
//! Order: write and sync every file as `.cleaned` -> rename the indexes to `.swap` -> sync the directory -> rename the
//! log to `.swap` -> sync the directory: decided -> remove the old segments, all but the first -> rename to the final
//! names, the log last -> sync the directory.
//!
//! Worked case: segments 0, 100 and 200 became one. After `00…0.log.swap` is durable the machine goes down, with
//! segment 200 removed already. The next open finds the `.swap`, removes the other old segments whose offsets it
//! spans, and renames it. Had segment 200 still been there while the new one ends below 200, it would stay: all it
//! holds is superseded, and the next cleaning finds it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_types::Offset;

use crate::disk::{Disk, EntryKind, OpenMode};
use crate::error::{At, CorruptionEvidence, StorageError};
use crate::files::{self, FileKind};
use crate::log::remove_segment;
use crate::scan::{Depth, Expect, Scanner, Step};

/// Suffix of files being written.
pub(super) const CLEANED: &str = ".cleaned";
/// Suffix of files about to take their place.
const SWAP: &str = ".swap";

/// Files of a cleaned segment, in the order they are renamed: the log decides, so it is the last.
const KINDS: [FileKind; 4] = [
    FileKind::OffsetIndex,
    FileKind::TimeIndex,
    FileKind::TxnIndex,
    FileKind::Log,
];

pub(super) fn staged(dir: &Path, base: Offset, kind: FileKind, suffix: &str) -> PathBuf {
    let mut name = files::path(dir, base, kind).into_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes what a cleaning has written for a segment.
pub(crate) fn discard(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), StorageError> {
    // Whoever renames the log meanwhile finds it under the old name, or leaves it under the new one for us.
    for suffix in [CLEANED, SWAP] {
        for kind in KINDS.into_iter().rev() {
            let path = staged(dir, base, kind, suffix);
            disk.remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

/// Decides for the new segment. Its files are durable under their `.cleaned` names.
///
/// Says `false` when the files are gone: the log was cut meanwhile.
pub(super) fn decide(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<bool, StorageError> {
    for kind in KINDS {
        if kind == FileKind::Log {
            disk.sync_dir(dir).at("sync", dir)?;
        }
        let from = staged(dir, base, kind, CLEANED);
        match disk.rename(&from, &staged(dir, base, kind, SWAP)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && kind == FileKind::TxnIndex => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.at("rename", &from)?,
        }
    }
    disk.sync_dir(dir).at("sync", dir)?;
    Ok(true)
}

/// Gives a decided segment its final names; the other old segments have been removed. Works from any point at which
/// it may have been interrupted. The directory is not synced.
pub(crate) fn settle(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), StorageError> {
    for kind in KINDS {
        let from = staged(dir, base, kind, SWAP);
        if disk.info(&from).at("inspect", &from)?.is_some() {
            disk.rename(&from, &files::path(dir, base, kind))
                .at("rename", &from)?;
        }
    }
    Ok(())
}

/// Ends what an interrupted cleaning has begun: finishes decided swaps, removes the rest. Belongs in front of
/// everything else that looks at the directory.
///
/// # Errors
/// [`StorageError::CorruptLog`] for a decided segment that is damaged: some of what it replaces may be gone already,
/// so nothing is touched.
pub(crate) fn finish_interrupted(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let mut logs = Vec::new();
    let mut staged_files: BTreeMap<Offset, Vec<&str>> = BTreeMap::new();
    for entry in disk.list(dir).at("list", dir)? {
        if entry.kind != EntryKind::File {
            continue;
        }
        if let Some((base, FileKind::Log)) = files::parse(&entry.name) {
            logs.push(base);
        }
        for suffix in [CLEANED, SWAP] {
            let parsed = entry.name.strip_suffix(suffix).and_then(files::parse);
            if let Some((base, kind)) = parsed {
                let suffixes = staged_files.entry(base).or_default();
                if suffix != SWAP || kind == FileKind::Log {
                    suffixes.push(suffix);
                }
            }
        }
    }
    for (base, suffixes) in &staged_files {
        if !suffixes.contains(&SWAP) {
            discard(disk, dir, *base)?;
            continue;
        }
        let end = end_of_swap(disk, dir, *base)?;
        let mut replaced: Vec<Offset> = logs
            .iter()
            .copied()
            .filter(|old| *base < *old && *old < end)
            .collect();
        replaced.sort_unstable();
        for old in replaced.into_iter().rev() {
            remove_segment(disk, dir, old)?;
        }
        settle(disk, dir, *base)?;
        tracing::info!(dir = %dir.display(), %base, "finished putting a cleaned segment in place");
    }
    if !staged_files.is_empty() {
        disk.sync_dir(dir).at("sync", dir)?;
    }
    Ok(())
}

fn end_of_swap(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<Offset, StorageError> {
    let path = staged(dir, base, FileKind::Log, SWAP);
    let file = disk.open(&path, OpenMode::Read).at("open", &path)?;
    let len = file.len_bytes().at("read", &path)?;
    let mut scanner = Scanner::new(&*file, 0..len, Depth::Checksums, Expect::segment(base));
    let mut end = base;
    loop {
        match scanner.step().at("read", &path)? {
            Step::Batch(header, _) => end = header.next_offset(),
            Step::End => return Ok(end),
            Step::Bad(problem, position) => {
                return Err(StorageError::CorruptLog {
                    path,
                    position,
                    expected_offset: end,
                    problem,
                    // It was durable before it got this name.
                    evidence: CorruptionEvidence::BelowRecoveryPoint(end.next()),
                });
            }
        }
    }
}
