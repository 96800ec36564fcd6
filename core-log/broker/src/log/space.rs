//! Room on the disk: user data stops while there is still enough for everything else (section 2.4).
//!
//! Below a floor of free bytes, records of users are refused with a code that clients retry. Committed offsets,
//! metadata, retention, deletion and reading go on, and make room. Once there is a quarter more than the floor,
//! writing goes on by itself.
//!
//! Invariant: between two looks at the disk no more is appended than a part of the floor, however fast clients are.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use highwater_storage::{Disk, Space};
use highwater_wire::ErrorCode;
use metrics::{Gauge, gauge};

use crate::error::ApiError;

/// The floor where none is configured: a twentieth of the disk, at most 1 GiB, which is ample for metadata and offsets.
const DEFAULT_PART: u64 = 20;
const DEFAULT_MOST_BYTES: u64 = 1 << 30;

/// With less than so many floors free, deleted files do not wait for their time.
const SHORT_FLOORS: u64 = 2;

/// How much of the floor may be used up unseen.
const LOOK_EVERY_PART: u64 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// `None`: the default; 0 never refuses.
    configured_floor_bytes: Option<u64>,
    is_low: AtomicBool,
    is_short: AtomicBool,
    free_bytes: AtomicU64,
    floor_bytes: AtomicU64,
    /// Bytes that may still be appended before somebody looks.
    until_look: AtomicI64,
    refusing: Gauge,
}

impl SpaceGuard {
    /// Looks once.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, configured_floor_bytes: Option<u64>) -> Self {
        metrics::describe_gauge!(
            "highwater_disk_refusing_writes",
            "1 while records are refused because the disk is nearly full"
        );
        let guard = SpaceGuard {
            disk,
            dir,
            configured_floor_bytes,
            is_low: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            free_bytes: AtomicU64::new(0),
            floor_bytes: AtomicU64::new(0),
            until_look: AtomicI64::new(0),
            refusing: gauge!("highwater_disk_refusing_writes"),
        };
        guard.look();
        guard
    }

    /// Asks the disk.
    pub(crate) fn look(&self) {
        let space = match self.disk.space(&self.dir) {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(path = %self.dir.display(), %error, "cannot ask the disk how much room it has");
                // Not at every append.
                self.until_look.store(64 << 20, Ordering::Relaxed);
                return;
            }
        };
        let floor = self.floor(space);
        let was_low = self.is_low.load(Ordering::Relaxed);
        let enough = if was_low {
            floor.saturating_add(floor / 4)
        } else {
            floor
        };
        let is_low = space.free_bytes < enough;
        // Whoever never refuses records (a floor of 0) wants room even more.
        let short = floor.max(default_floor(space)).saturating_mul(SHORT_FLOORS);
        self.is_short.store(space.free_bytes < short, Ordering::Relaxed);
        self.free_bytes.store(space.free_bytes, Ordering::Relaxed);
        self.floor_bytes.store(floor, Ordering::Relaxed);
        let step = i64::try_from(floor / LOOK_EVERY_PART).unwrap_or(i64::MAX);
        self.until_look.store(step.max(1), Ordering::Relaxed);
        self.refusing.set(f64::from(u8::from(is_low)));
        if self.is_low.swap(is_low, Ordering::Relaxed) == is_low {
            return;
        }
        let Space {
            total_bytes,
            free_bytes,
        } = space;
        if is_low {
            tracing::error!(path = %self.dir.display(), free_bytes, floor_bytes = floor, total_bytes,
                "the disk is nearly full: records are refused until there is room; shorten retention, delete topics \
                 or add space");
        } else {
            tracing::info!(path = %self.dir.display(), free_bytes, floor_bytes = floor,
                "the disk has room again: records are taken");
        }
    }

    fn floor(&self, space: Space) -> u64 {
        self.configured_floor_bytes
            .unwrap_or_else(|| default_floor(space))
    }

    /// Whether the disk had little room at the last look, though perhaps not yet too little for records.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// What the disk had free at the last look.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Takes note of appended bytes; looks at the disk when they have become many.
    pub(crate) fn appended(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let left = self.until_look.fetch_sub(bytes, Ordering::Relaxed);
        // Only the one who crosses looks; the others go on.
        if left > 0 && left <= bytes && self.configured_floor_bytes != Some(0) {
            self.look();
        }
    }

    /// Refuses records of users while there is little room.
    pub(crate) fn require_room(&self) -> Result<(), ApiError> {
        match self.trouble() {
            None => Ok(()),
            Some(message) => Err(ApiError::new(ErrorCode::KafkaStorageError, message)),
        }
    }

    /// Why records of users are refused, if they are.
    pub(crate) fn trouble(&self) -> Option<String> {
        if !self.is_low.load(Ordering::Relaxed) {
            return None;
        }
        let (free, floor) = (
            self.free_bytes.load(Ordering::Relaxed),
            self.floor_bytes.load(Ordering::Relaxed),
        );
        Some(format!(
            "the broker's disk is nearly full ({free} bytes free, {floor} are kept free); it takes records again \
             once there is room"
        ))
    }
}

fn default_floor(space: Space) -> u64 {
    (space.total_bytes / DEFAULT_PART).min(DEFAULT_MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use highwater_storage::testing::FakeDisk;
    use highwater_storage::{Disk, OpenMode};

    use super::*;

    fn guard(disk: &FakeDisk, floor: Option<u64>) -> SpaceGuard {
        SpaceGuard::new(disk.shared(), PathBuf::from("d"), floor)
    }

    fn fill(disk: &FakeDisk, bytes: usize) {
        disk.create_dir_all(Path::new("d")).unwrap();
        let file = disk.open(Path::new("d/f"), OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&[&vec![1; bytes]], 0).unwrap();
    }

    #[test]
    fn writing_stops_at_the_floor_and_goes_on_with_a_quarter_more() {
        let disk = FakeDisk::new();
        disk.set_capacity(Some(10_000));
        let guard = guard(&disk, Some(1_000));
        guard.require_room().unwrap();
        for (used, open) in [
            (9_000, true),
            (9_001, false),
            (8_900, false),
            (8_751, false),
            (8_750, true),
            (8_999, true),
        ] {
            fill(&disk, used);
            guard.look();
            assert_eq!(guard.require_room().is_ok(), open, "{used} bytes used");
        }
        fill(&disk, 9_500);
        guard.look();
        let refused = guard.require_room().unwrap_err();
        assert_eq!(refused.code, ErrorCode::KafkaStorageError);
        assert!(refused.code.is_retriable());
    }

    #[test]
    fn fast_writers_cannot_run_past_the_floor_between_two_looks() {
        let disk = FakeDisk::new();
        disk.set_capacity(Some(10_000));
        let guard = guard(&disk, Some(1_600));
        let mut used = 0;
        while guard.require_room().is_ok() {
            used += 10;
            fill(&disk, used);
            guard.appended(10);
        }
        assert!((8_400..=8_510).contains(&used), "{used}");
    }

    #[test]
    fn the_default_is_a_twentieth_and_zero_never_refuses() {
        let disk = FakeDisk::new();
        disk.set_capacity(Some(10_000));
        fill(&disk, 9_501);
        guard(&disk, None).require_room().unwrap_err();
        guard(&disk, Some(0)).require_room().unwrap();
        fill(&disk, 9_500);
        guard(&disk, None).require_room().unwrap();
    }
}
