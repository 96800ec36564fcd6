//! The one door to files: `Disk` (a namespace) and `DiskFile` (positional IO), and the real ones.
//!
//! Refuses: following symbolic links when listing, partial writes (a short write is an error), mmap.
//! Invariants: nothing else in this crate calls `std::fs`; every error carries the path it happened on.
//!
//! What we ask of a disk: a write that returned is seen by every later read of this process; data is
//! durable after `sync_data`, names after `sync_dir`; a rename within a directory is atomic; an append
//! that was interrupted leaves a prefix of it, never bytes of another file.

mod fail_stop;
mod file_system;
mod resident;

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::{File, FileType, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

pub use fail_stop::{DiskFailure, FailStopDisk};
pub use file_system::FileSystem;
pub(crate) use resident::{Patience, Patient, Unknown, is_resident};

/// Up to this size, parts are joined in memory: a copy costs less than a second system call.
const JOIN_LIMIT_BYTES: usize = 64 * 1024;

/// One call writes at most this much, up to a boundary of the same size. The page cache allocates folios as large as
/// the write; up to 32 KiB they come from lists of pages that each processor keeps warm, larger ones from blocks that
/// nobody has touched for long. Appending 0.5 GiB in writes of 1 MiB took 1.1 s of system time on a virtual
/// machine (medians; ext4, Linux 6.18), in these pieces 0.1 s; the further calls cost 10 µs per MiB.
const PIECE_BYTES: usize = 32 * 1024;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only; the file must exist.
    Read,
    /// Read and write; the file must exist.
    Write,
    /// Read and write; created empty if it does not exist.
    Create,
    /// As `Create`, and nobody but the owner may read it from here on.
    CreatePrivate,
}

/// Size and age of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Length in bytes.
    pub len_bytes: u64,
    /// Last modification, milliseconds since the epoch (0 when the file system does not tell).
    pub modified_ms: i64,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: String,
    /// What the name stands for.
    pub kind: EntryKind,
}

/// Kind of a directory entry. Symbolic links and devices are `Other` and are never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, socket, device: foreign to us.
    Other,
}

/// Room on the file system of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes it has.
    pub total_bytes: u64,
    /// Bytes we may still take.
    pub free_bytes: u64,
}

/// Keeps a directory ours until dropped.
pub trait DirLock: Send + Sync + Debug {}

/// A namespace of files. Blocking; safe to share between threads.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Size and age, `None` if there is no regular file of that name.
    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>>;
    /// What a name stands for, `None` if there is none. A link is [`EntryKind::Other`], wherever it leads.
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>>;
    /// Names in a directory, in no order. Names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file; a missing one is no error.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it; a missing one is no error.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creations, removals and renames in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock file of a directory; `WouldBlock` if another holder has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>>;
    /// Room on the file system a directory lies on.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// The file system a directory lies on, if one sync of it does what a sync of every file in it does. Ask before
    /// the first write: what has failed before may not be told.
    fn file_system(&self, dir: &Path) -> Option<Box<dyn FileSystem>>;
}

/// An open file with positional IO.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads up to `buf.len()` bytes at a position; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Appends up to `want` bytes from a position to `buf`; 0 at the end of the file. A disk that can read into
    /// memory that was never zeroed does so: on the way from the log to a consumer that saves a pass over the bytes.
    fn read_append(&self, buf: &mut Vec<u8>, want: usize, position: u64) -> io::Result<usize> {
        let before = buf.len();
        buf.resize(before + want, 0);
        let read = self.read_at(&mut buf[before..], position);
        buf.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
    /// As [`DiskFile::read_at`] for bytes that lie in memory: `WouldBlock` instead of waiting for the disk, and
    /// `Unsupported` where that cannot be told.
    fn read_at_now(&self, _buf: &mut [u8], _position: u64) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
    /// What the kernel knows the file by, so that it can be sent without being read; `None` for files that are no
    /// files of the kernel's.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    /// Writes all parts, one after another, from a position on.
    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Cuts or extends the file with zeros.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;
    /// Makes data and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves room for the file up to a length that it does not have yet; its length stays. Cutting the file to
    /// its length gives the rest back. File systems that cannot do it do nothing.
    fn preallocate(&self, len_bytes: u64) -> io::Result<()>;
}

/// Whether an error says that there is no room: nothing is broken, and it may work again later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Fills `buf` from a position; `UnexpectedEof` if the file is shorter.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buf: &mut [u8], position: u64) -> io::Result<()> {
    let read = read_up_to(file, buf, position)?;
    if read < buf.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Fills as much of `buf` as the file has from a position on.
pub(crate) fn read_up_to(file: &dyn DiskFile, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// As much as the file has of `want` bytes from a position on.
pub(crate) fn read_vec(file: &dyn DiskFile, want: usize, position: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(want);
    while bytes.len() < want {
        let have = bytes.len();
        match file.read_append(&mut bytes, want - have, position + have as u64) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Reads a whole small file, `None` if there is none; `InvalidData` if it is larger than `limit_bytes`.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(info) = disk.info(path)? else {
        return Ok(None);
    };
    if info.len_bytes > limit_bytes {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            format!(
                "file has {} bytes, at most {limit_bytes} are expected",
                info.len_bytes
            ),
        ));
    }
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; info.len_bytes as usize];
    let read = read_up_to(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Takes everything out of a file that is about to be written from its beginning. One that is empty is left alone: cut
/// to nothing, even if nothing was in it, ext4 would write it out as soon as it is closed.
pub(crate) fn empty(file: &dyn DiskFile) -> io::Result<()> {
    match file.len_bytes()? {
        0 => Ok(()),
        _ => file.set_len(0),
    }
}

/// Replaces a file as one step: temporary file, sync, rename, directory sync. After a crash either the
/// old or the new content is there, whole.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_unsynced_name(disk, path, bytes)?;
    sync_name(disk, path)
}

/// As [`replace_file`], and nobody but the owner may ever read what is there.
pub(crate) fn replace_private_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(disk, path, bytes, OpenMode::CreatePrivate)?;
    sync_name(disk, path)
}

fn sync_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => disk.sync_dir(dir),
        None => Ok(()),
    }
}

/// As [`replace_file`], but leaves the directory sync to the caller, who has others to do as well.
pub(crate) fn replace_file_unsynced_name(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(disk, path, bytes, OpenMode::Create)
}

fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: OpenMode) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let file = disk.open(&temporary, mode)?;
    empty(&*file)?;
    file.write_all_at(&[bytes], 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)
}

/// The real disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdDisk;

impl StdDisk {
    /// The real disk, ready to be shared.
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct StdFile(File);

#[derive(Debug)]
struct StdLock {
    _file: File,
}

impl DirLock for StdLock {}

/// Opens a file that only its owner may read, be it new or one that others could read until now.
fn open_private(mut options: OpenOptions, path: &Path) -> io::Result<File> {
    const OWNER_ONLY: u32 = 0o600;
    options.write(true).create(true).truncate(false).mode(OWNER_ONLY);
    let file = options.open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(OWNER_ONLY))?;
    }
    Ok(file)
}

impl Disk for StdDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreatePrivate => return Ok(Arc::new(StdFile(open_private(options, path)?))),
        }
        Ok(Arc::new(StdFile(options.open(path)?)))
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(FileInfo {
                len_bytes: meta.len(),
                modified_ms: modified_ms(&meta),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(kind_of(meta.file_type()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let kind = kind_of(entry.file_type()?);
            entries.push(DirEntry { name, kind });
        }
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(StdLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn file_system(&self, dir: &Path) -> Option<Box<dyn FileSystem>> {
        file_system::of(dir)
    }
}

fn kind_of(found: FileType) -> EntryKind {
    if found.is_file() {
        EntryKind::File
    } else if found.is_dir() {
        EntryKind::Directory
    } else {
        EntryKind::Other
    }
}

fn modified_ms(meta: &std::fs::Metadata) -> i64 {
    meta.modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .and_then(|age| i64::try_from(age.as_millis()).ok())
        .unwrap_or(0)
}

thread_local! {
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn write_in_pieces(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while bytes.len() > PIECE_BYTES {
        let upto_boundary = PIECE_BYTES - (position % PIECE_BYTES as u64) as usize;
        let (piece, rest) = bytes.split_at(upto_boundary);
        file.write_all_at(piece, position)?;
        position += upto_boundary as u64;
        bytes = rest;
    }
    file.write_all_at(bytes, position)
}

impl DiskFile for StdFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buf, position)
    }

    fn read_append(&self, buf: &mut Vec<u8>, want: usize, position: u64) -> io::Result<usize> {
        buf.reserve_exact(want);
        let before = buf.len();
        let read = rustix::io::pread(&self.0, rustix::buffer::spare_capacity(buf), position)?;
        // The allocation may be larger than asked for, and so may what was read.
        buf.truncate(before + read.min(want));
        Ok(read.min(want))
    }

    #[cfg(target_os = "linux")]
    fn read_at_now(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        use rustix::io::{Errno, ReadWriteFlags};
        let mut parts = [io::IoSliceMut::new(buf)];
        match rustix::io::preadv2(&self.0, &mut parts, position, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if parts.len() > 1 && total <= JOIN_LIMIT_BYTES {
            return JOINED.with_borrow_mut(|joined| {
                joined.clear();
                for part in parts {
                    joined.extend_from_slice(part);
                }
                write_in_pieces(&self.0, joined, position)
            });
        }
        let mut at = position;
        for part in parts {
            write_in_pieces(&self.0, part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.0.set_len(len_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        let reserve = rustix::fs::FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, reserve, 0, len_bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_written_in_order_whether_joined_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = StdDisk.open(&dir.path().join("f"), OpenMode::Create).unwrap();
        let large = vec![7_u8; JOIN_LIMIT_BYTES];
        file.write_all_at(&[b"ab", b"cd"], 1).unwrap();
        file.write_all_at(&[b"ef", &large], 5).unwrap();
        let mut bytes = vec![0; 7 + large.len()];
        read_exact_at(&*file, &mut bytes, 0).unwrap();
        assert_eq!(&bytes[..7], b"\0abcdef");
        assert_eq!(&bytes[7..], &large[..]);
    }

    #[test]
    fn a_large_part_is_whole_wherever_its_pieces_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = StdDisk.open(&dir.path().join("f"), OpenMode::Create).unwrap();
        let large: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|at| (at % 251) as u8).collect();
        for position in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1] {
            for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, large.len()] {
                file.set_len(0).unwrap();
                file.write_all_at(&[&large[..len]], position as u64).unwrap();
                let mut bytes = vec![0; position + large.len() + 1];
                let read = read_up_to(&*file, &mut bytes, 0).unwrap();
                assert_eq!(read, if len == 0 { 0 } else { position + len });
                assert!(
                    bytes[position..position + len] == large[..len],
                    "{len} bytes at {position}"
                );
            }
        }
    }

    #[test]
    fn a_second_holder_of_the_lock_is_refused_until_the_first_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".lock");
        let first = StdDisk.lock(&path).unwrap();
        assert_eq!(StdDisk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        StdDisk.lock(&path).unwrap();
    }

    #[test]
    fn preallocated_room_is_not_part_of_the_file_and_is_given_back() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = StdDisk.open(&path, OpenMode::Create).unwrap();
        file.preallocate(1 << 20).unwrap();
        file.write_all_at(&[b"ab"], 0).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 2);
        file.set_len(2).unwrap();
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_file_system_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let space = StdDisk.space(dir.path()).unwrap();
        assert!(0 < space.free_bytes && space.free_bytes <= space.total_bytes);
    }

    #[test]
    fn links_are_listed_as_foreign_and_have_no_info() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link")).unwrap();
        let entries = StdDisk.list(dir.path()).unwrap();
        assert_eq!(entries[0].kind, EntryKind::Other);
        assert_eq!(StdDisk.info(&dir.path().join("link")).unwrap(), None);
    }
}
