//! A disk that stops at the first failure that says the hardware or the file system is no longer to be trusted.
//!
//! After a failed sync the kernel may call lost pages clean, and a second sync may succeed over the loss. So the
//! first such failure of any change ends all changes under this disk: every later write, sync, rename or removal is
//! refused with the same error, and who waits for [`DiskFailure`] learns what happened (section 2.4). Reading goes
//! on: a damaged page harms who reads it and nobody else.
//!
//! Refuses: judging a disk by failing reads, by a full file system, by a file that is not there, or by a sync of the
//! whole file system, which may have failed over another program's file.

use std::fmt::{self, Debug};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{DirEntry, DirLock, Disk, DiskFile, EntryKind, FileInfo, FileSystem, OpenMode, Space};

/// Numbers of the errors that condemn a disk: EIO, ENXIO, ENODEV, EROFS, ESTALE, EUCLEAN, ENOTCONN.
const FATAL: [i32; 7] = [5, 6, 19, 30, 116, 117, 107];

/// Why a disk takes no more changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {}: {}", path.display(), io::Error::from_raw_os_error(*os_error))]
pub struct DiskFailure {
    /// What was tried, a short verb phrase.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The system's error number.
    pub os_error: i32,
}

type OnFailure = Box<dyn Fn(&DiskFailure) + Send + Sync>;

struct Health {
    failure: OnceLock<DiskFailure>,
    on_failure: OnFailure,
}

impl Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.failure.get()).finish()
    }
}

impl Health {
    fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            Some(failure) => Err(io::Error::from_raw_os_error(failure.os_error)),
            None => Ok(()),
        }
    }

    fn change<T>(
        &self,
        action: &'static str,
        path: &Path,
        change: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.check()?;
        change().inspect_err(|error| {
            let Some(os_error) = error.raw_os_error().filter(|number| FATAL.contains(number)) else {
                return;
            };
            let failure = DiskFailure {
                action,
                path: path.to_owned(),
                os_error,
            };
            if self.failure.set(failure).is_ok()
                && let Some(first) = self.failure.get()
            {
                (self.on_failure)(first);
            }
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct FailStopDisk {
    disk: Arc<dyn Disk>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct FailStopFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    health: Arc<Health>,
}

#[derive(Debug)]
struct FailStopFileSystem {
    file_system: Box<dyn FileSystem>,
    health: Arc<Health>,
}

impl FailStopDisk {
    /// Watches over `disk`; `on_failure` is called once, on the thread that met the failure.
    pub fn new(disk: Arc<dyn Disk>, on_failure: impl Fn(&DiskFailure) + Send + Sync + 'static) -> Self {
        Self {
            disk,
            health: Arc::new(Health {
                failure: OnceLock::new(),
                on_failure: Box::new(on_failure),
            }),
        }
    }

    /// Why nothing is changed any more, if so.
    pub fn failure(&self) -> Option<&DiskFailure> {
        self.health.failure.get()
    }
}

impl Disk for FailStopDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let open = || self.disk.open(path, mode);
        let file = match mode {
            OpenMode::Read => open()?,
            OpenMode::Write | OpenMode::Create | OpenMode::CreatePrivate => {
                self.health.change("open", path, open)?
            }
        };
        Ok(Arc::new(FailStopFile {
            file,
            path: path.to_owned(),
            health: Arc::clone(&self.health),
        }))
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        self.disk.info(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.disk.kind(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.health
            .change("create", dir, || self.disk.create_dir_all(dir))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.health.change("remove", path, || self.disk.remove_file(path))
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.health
            .change("remove", dir, || self.disk.remove_dir_all(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.health.change("rename", from, || self.disk.rename(from, to))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.health.change("sync", dir, || self.disk.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.disk.lock(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }

    fn file_system(&self, dir: &Path) -> Option<Box<dyn FileSystem>> {
        let file_system = self.disk.file_system(dir)?;
        Some(Box::new(FailStopFileSystem {
            file_system,
            health: Arc::clone(&self.health),
        }))
    }
}

impl FileSystem for FailStopFileSystem {
    fn holds(&self, dir: &Path) -> bool {
        self.file_system.holds(dir)
    }

    fn sync(&self) -> io::Result<()> {
        self.health.check()?;
        self.file_system.sync()
    }
}

impl DiskFile for FailStopFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buf, position)
    }

    fn read_append(&self, buf: &mut Vec<u8>, want: usize, position: u64) -> io::Result<usize> {
        self.file.read_append(buf, want, position)
    }

    fn read_at_now(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at_now(buf, position)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.health
            .change("write", &self.path, || self.file.write_all_at(parts, position))
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.health
            .change("cut", &self.path, || self.file.set_len(len_bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.change("sync", &self.path, || self.file.sync_data())
    }

    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        self.health.change("reserve room for", &self.path, || {
            self.file.preallocate(len_bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::testing::FakeDisk;

    #[test]
    fn after_the_first_failure_everything_but_reading_is_refused_and_it_is_told_once() {
        let fake = FakeDisk::new().with_whole_syncs();
        let told = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&told);
        let disk = FailStopDisk::new(fake.shared(), move |failure| {
            assert_eq!((failure.action, failure.os_error), ("sync", 5));
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let dir = Path::new("d");
        disk.create_dir_all(dir).unwrap();
        let file_system = disk.file_system(dir).unwrap();
        let path = dir.join("f");
        let file = disk.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[b"ab"], 0).unwrap();
        fake.fail_sync(fake.syncs() + 1);
        file.sync_data().unwrap_err();
        let before = fake.operations();
        for refused in [
            file.sync_data(),
            file.write_all_at(&[b"c"], 2),
            file.set_len(0),
            disk.rename(&path, &dir.join("g")),
            disk.remove_file(&path),
            disk.sync_dir(dir),
            disk.open(&dir.join("new"), OpenMode::Create).map(drop),
            file_system.sync(),
        ] {
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(5));
        }
        assert_eq!(fake.operations(), before, "the disk is left alone");
        let mut read = [0; 2];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 2);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_disk_and_a_missing_file_condemn_nothing() {
        let fake = FakeDisk::new();
        let disk = FailStopDisk::new(fake.shared(), |failure| panic!("{failure}"));
        disk.create_dir_all(Path::new("d")).unwrap();
        let file = disk.open(Path::new("d/f"), OpenMode::Create).unwrap();
        fake.set_capacity(Some(1));
        let full = file.write_all_at(&[b"abc"], 0).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        disk.open(Path::new("d/none"), OpenMode::Write).unwrap_err();
        fake.set_capacity(None);
        file.write_all_at(&[b"abc"], 0).unwrap();
        assert_eq!(disk.failure(), None);
    }
}
