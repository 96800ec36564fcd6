//! Deleted files that are still there: segments and partitions outlive their removal by `file.delete.delay.ms`, so that a
//! person who deleted too much has that long to copy them.
//!
//! What waits is removed at once when the disk gets short of room: deleting must make room before records are refused.
//! A stop leaves it to the next start, which removes whatever carries the name of a deleted file.
//!
//! Invariant: what is buried here is renamed already; no log knows it any more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_storage::Disk;

/// See the module.
#[derive(Debug)]
pub(crate) struct Graves {
    disk: Arc<dyn Disk>,
    waiting: Mutex<Vec<Grave>>,
}

#[derive(Debug)]
struct Grave {
    what: Buried,
    /// On the clock's monotonic time.
    due_ms: u64,
}

/// What is to be removed.
#[derive(Debug)]
pub(crate) enum Buried {
    /// A file of a segment.
    File(PathBuf),
    /// The directory of a partition, with everything in it.
    Partition(PathBuf),
}

impl Graves {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Graves {
            disk,
            waiting: Mutex::default(),
        }
    }

    /// Keeps files for another `delay_ms`.
    pub(crate) fn bury(&self, buried: impl IntoIterator<Item = Buried>, now_ms: u64, delay_ms: i64) {
        let due_ms = now_ms.saturating_add(u64::try_from(delay_ms).unwrap_or(0));
        let graves = buried.into_iter().map(|what| Grave { what, due_ms });
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(graves);
    }

    /// Removes the files whose time has come, or all of them. Blocks on the disk.
    pub(crate) fn sweep(&self, now_ms: u64, all: bool) {
        let due: Vec<Grave> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting
                .extract_if(.., |grave| all || grave.due_ms <= now_ms)
                .collect()
        };
        for grave in due {
            let (path, removed) = match &grave.what {
                Buried::File(path) => (path, self.disk.remove_file(path)),
                Buried::Partition(path) => (path, self.disk.remove_dir_all(path)),
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove a deleted file; the next start does");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use highwater_storage::OpenMode;
    use highwater_storage::testing::FakeDisk;

    use super::*;

    #[test]
    fn files_go_when_their_time_has_come_and_at_once_when_told() {
        let disk = FakeDisk::new();
        let dir = Path::new("d/t-0.x-delete");
        disk.shared().create_dir_all(dir).unwrap();
        let file = |name: &str| {
            let path = Path::new("d").join(name);
            disk.shared().open(&path, OpenMode::Create).unwrap();
            Buried::File(path)
        };
        let graves = Graves::new(disk.shared());
        graves.bury([file("a"), file("b")], 1_000, 500);
        graves.bury([file("c"), Buried::Partition(dir.to_owned())], 1_000, i64::MAX);
        let left = || {
            let mut names: Vec<_> = disk.shared().list(Path::new("d")).unwrap();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            names.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
        };
        graves.sweep(1_499, false);
        assert_eq!(left(), ["a", "b", "c", "t-0.x-delete"]);
        graves.sweep(1_500, false);
        assert_eq!(left(), ["c", "t-0.x-delete"]);
        graves.sweep(1_501, true);
        assert!(left().is_empty());
    }
}
