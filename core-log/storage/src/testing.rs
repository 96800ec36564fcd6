//! A disk with two images, what was written and what is durable, for crash tests here and in the crates above.
//!
//! Every change is an operation with a number. A disk can be told to die at an operation: a write in progress is
//! torn at a given point, and everything after fails. [`FakeDisk::survivor`] gives the disk a new process would
//! find: after a kill all that was written, after a power cut what was synced and the first so many of the other
//! operations, in their order.
//!
//! Refuses: reordering unsynced operations against each other; a disk that does so between files can leave damage
//! that looks like corruption in the middle of a log, and is treated as such.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{DirEntry, DirLock, Disk, DiskFile, EntryKind, FileInfo, FileSystem, OpenMode, Space};

/// Where an operation that is interrupted stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// Before anything is done.
    Nothing,
    /// So many bytes of a write are done (all, if it has fewer).
    Bytes(usize),
    /// Half of a write is done.
    Half,
    /// All is done, but the caller is not told.
    Everything,
}

/// How the machine went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: everything written survives.
    Kill,
    /// The power was cut: what was synced survives, and the first `unsynced` operations that were not.
    PowerCut {
        /// How many; more than there are means all.
        unsynced: usize,
    },
}

type FileId = usize;

const EIO: i32 = 5;

#[derive(Debug, Clone)]
enum Change {
    Write(FileId, u64, Vec<u8>),
    SetLen(FileId, u64),
    Link(PathBuf, FileId),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
}

impl Change {
    /// What a directory sync must cover to keep this change.
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Write(..) | Self::SetLen(..) => None,
            Self::Link(path, _) | Self::Unlink(path) | Self::MakeDir(path) | Self::RemoveDir(path) => {
                path.parent()
            }
            Self::Rename(_, to) => to.parent(),
        }
    }

    fn file(&self) -> Option<FileId> {
        match self {
            Self::Write(id, ..) | Self::SetLen(id, _) => Some(*id),
            _ => None,
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Image {
    files: HashMap<FileId, Vec<u8>>,
    names: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(id, position, bytes) => {
                let file = self.files.entry(*id).or_default();
                let end = *position as usize + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*position as usize..end].copy_from_slice(bytes);
            }
            Change::SetLen(id, len) => self.files.entry(*id).or_default().resize(*len as usize, 0),
            Change::Link(path, id) => {
                self.files.entry(*id).or_default();
                self.names.insert(path.clone(), *id);
            }
            Change::Unlink(path) => {
                self.names.remove(path);
            }
            Change::Rename(from, to) => self.rename(from, to),
            Change::MakeDir(dir) => {
                self.dirs.insert(dir.clone());
            }
            Change::RemoveDir(dir) => {
                self.names.retain(|path, _| !path.starts_with(dir));
                self.dirs.retain(|path| !path.starts_with(dir));
            }
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(id) = self.names.remove(from) {
            self.names.insert(to.to_owned(), id);
            return;
        }
        let moved = |path: &Path| {
            path.strip_prefix(from).ok().map(|rest| {
                if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                }
            })
        };
        self.names = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(path, id)| (moved(&path).unwrap_or(path), id))
            .collect();
        self.dirs = std::mem::take(&mut self.dirs)
            .into_iter()
            .map(|path| moved(&path).unwrap_or(path))
            .collect();
    }
}

#[derive(Debug, Default)]
struct State {
    base: Image,
    now: Image,
    /// Changes since `base`, and whether they are durable.
    journal: Vec<(Change, bool)>,
    next_file: FileId,
    operations: u64,
    die_at: Option<(u64, Tear)>,
    dead: bool,
    /// Numbers of sync operations that fail, counted from 1.
    failing_sync: Option<u64>,
    syncs: u64,
    /// Operation that fails, and with which error, though the disk goes on living.
    failing_operation: Option<(u64, i32)>,
    /// A file whose written bytes the system could not store, and who has been told: its own sync, the file system's.
    lost: Option<Lost>,
    /// Whether one sync covers the whole file system.
    syncs_whole: bool,
    /// Bytes all files together may have.
    capacity_bytes: Option<u64>,
    /// A directory under which nothing can be added.
    full_dir: Option<PathBuf>,
    locked: BTreeSet<PathBuf>,
}

/// A file whose pages could not be written back. Nothing of it becomes durable; both kinds of sync tell so once.
#[derive(Debug)]
struct Lost {
    file: FileId,
    is_told_by_file: bool,
    is_told_by_file_system: bool,
}

/// The disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct FakeFile {
    state: Arc<Mutex<State>>,
    id: FileId,
}

#[derive(Debug)]
struct FakeFileSystem {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct FakeLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl DirLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        lock(&self.state).locked.remove(&self.path);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dead() -> io::Error {
    io::Error::other("the disk is dead")
}

impl FakeDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk, to be handed out.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Operations so far: every change and every sync is one.
    pub fn operations(&self) -> u64 {
        lock(&self.state).operations
    }

    /// Dies at operation number `operation` (the first is 1).
    pub fn die_at(&self, operation: u64, tear: Tear) {
        lock(&self.state).die_at = Some((operation, tear));
    }

    /// Syncs so far.
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// Makes sync number `sync` (the first is 1) fail once.
    pub fn fail_sync(&self, sync: u64) {
        lock(&self.state).failing_sync = Some(sync);
    }

    /// Makes operation number `operation` (the first is 1) fail once with a number of the system's, such as 5 for EIO.
    /// A failing write leaves half of itself behind, a failing sync nothing durable.
    pub fn fail_operation(&self, operation: u64, os_error: i32) {
        lock(&self.state).failing_operation = Some((operation, os_error));
    }

    /// Has a file system that can be synced as a whole.
    #[must_use]
    pub fn with_whole_syncs(self) -> Self {
        lock(&self.state).syncs_whole = true;
        self
    }

    /// From here on the system fails to store what was written to a file: the next sync of the file and the next one
    /// of the file system tell so, later ones succeed, and nothing of the file becomes durable.
    pub fn lose_writes(&self, path: &Path) {
        let mut state = lock(&self.state);
        state.lost = state.now.names.get(path).map(|file| Lost {
            file: *file,
            is_told_by_file: false,
            is_told_by_file_system: false,
        });
    }

    /// Bounds what all files together may hold; a write that goes beyond fails in the middle.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        lock(&self.state).capacity_bytes = capacity_bytes;
    }

    /// Lets nothing be added under a directory, as where a quota is used up: no name and no byte.
    pub fn set_full(&self, dir: Option<&Path>) {
        lock(&self.state).full_dir = dir.map(Path::to_owned);
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.state).used_bytes()
    }

    /// Whether it died.
    pub fn is_dead(&self) -> bool {
        lock(&self.state).dead
    }

    /// How many changes a power cut could lose now.
    pub fn unsynced(&self) -> usize {
        lock(&self.state)
            .journal
            .iter()
            .filter(|(_, durable)| !durable)
            .count()
    }

    /// The disk that the next process finds.
    pub fn survivor(&self, crash: Crash) -> Self {
        let state = lock(&self.state);
        let image = match crash {
            Crash::Kill => state.now.clone(),
            Crash::PowerCut { unsynced } => {
                let mut image = state.base.clone();
                let mut left = unsynced;
                for (change, durable) in &state.journal {
                    if !durable && left == 0 {
                        continue;
                    }
                    left -= usize::from(!durable);
                    image.apply(change);
                }
                image
            }
        };
        let survivor = State {
            base: image.clone(),
            now: image,
            next_file: state.next_file,
            syncs_whole: state.syncs_whole,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(survivor)),
        }
    }

    /// Content of a file, as written.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        state
            .now
            .names
            .get(path)
            .and_then(|id| state.now.files.get(id))
            .cloned()
    }

    /// Overwrites a file behind everyone's back, durably: damage for tests.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        if let Some(id) = state.now.names.get(path).copied() {
            let mut bytes = state.now.files.get(&id).cloned().unwrap_or_default();
            change(&mut bytes);
            state.now.files.insert(id, bytes.clone());
            state.base.files.insert(id, bytes);
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        let files: BTreeSet<FileId> = self.now.names.values().copied().collect();
        let len = |id| self.now.files.get(id).map_or(0, |file| file.len() as u64);
        files.iter().map(len).sum()
    }

    /// How many bytes of a write still find room.
    fn room_for(&self, change: &Change) -> Option<usize> {
        if self
            .full_dir
            .as_ref()
            .is_some_and(|dir| self.adds_under(dir, change))
        {
            return Some(0);
        }
        let Change::Write(id, position, bytes) = change else {
            return None;
        };
        let free = self.capacity_bytes?.saturating_sub(self.used_bytes());
        let len = self.now.files.get(id).map_or(0, |file| file.len() as u64);
        let room = (len + free).saturating_sub(*position);
        (room < bytes.len() as u64).then_some(room as usize)
    }

    fn adds_under(&self, dir: &Path, change: &Change) -> bool {
        match change {
            Change::Link(path, _) | Change::MakeDir(path) => path.starts_with(dir),
            Change::Write(id, ..) => {
                let mut names = self.now.names.iter();
                names.any(|(path, file)| file == id && path.starts_with(dir))
            }
            _ => false,
        }
    }

    /// Whether this operation is the one told to fail.
    fn injected(&self) -> Option<io::Error> {
        let (at, os_error) = self.failing_operation?;
        (at == self.operations).then(|| io::Error::from_raw_os_error(os_error))
    }

    /// Counts an operation; applies `change`, torn if this is where the disk dies.
    fn change(&mut self, change: Change) -> io::Result<()> {
        match self.count()? {
            None => {
                let failed = match self.room_for(&change) {
                    Some(room) => Some((ErrorKind::StorageFull.into(), Tear::Bytes(room))),
                    None => self.injected().map(|error| (error, Tear::Half)),
                };
                if let Some((error, tear)) = failed {
                    if let Some(torn) = torn(change, tear) {
                        self.record(torn);
                    }
                    return Err(error);
                }
                self.record(change);
                Ok(())
            }
            Some(tear) => {
                if let Some(torn) = torn(change, tear) {
                    self.record(torn);
                }
                Err(dead())
            }
        }
    }

    fn record(&mut self, change: Change) {
        self.now.apply(&change);
        self.journal.push((change, false));
    }

    /// Counts an operation; says how it is torn if the disk dies at it.
    fn count(&mut self) -> io::Result<Option<Tear>> {
        if self.dead {
            return Err(dead());
        }
        self.operations += 1;
        match self.die_at {
            Some((at, tear)) if at == self.operations => {
                self.dead = true;
                Ok(Some(tear))
            }
            _ => Ok(None),
        }
    }

    fn sync(&mut self, covers: impl Fn(&Change) -> bool) -> io::Result<()> {
        let tear = self.count()?;
        self.syncs += 1;
        if self.failing_sync == Some(self.syncs) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if let Some(error) = self.injected() {
            return Err(error);
        }
        if matches!(tear, None | Some(Tear::Everything)) {
            let lost = self.lost.as_ref().map(|lost| lost.file);
            for (change, durable) in &mut self.journal {
                *durable |= covers(change) && (lost.is_none() || change.file() != lost);
            }
        }
        if tear.is_some() { Err(dead()) } else { Ok(()) }
    }
}

fn torn(change: Change, tear: Tear) -> Option<Change> {
    let keep = |len: usize| match tear {
        Tear::Nothing => 0,
        Tear::Bytes(bytes) => bytes.min(len),
        Tear::Half => len / 2,
        Tear::Everything => len,
    };
    match change {
        Change::Write(id, position, mut bytes) => {
            bytes.truncate(keep(bytes.len()));
            (!bytes.is_empty()).then_some(Change::Write(id, position, bytes))
        }
        whole => (tear == Tear::Everything).then_some(whole),
    }
}

impl Disk for FakeDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        let id = match (state.now.names.get(path).copied(), mode) {
            (Some(id), _) => id,
            (None, OpenMode::Read | OpenMode::Write) => return Err(ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreatePrivate) => {
                if !path.parent().is_some_and(|dir| state.now.dirs.contains(dir)) {
                    return Err(ErrorKind::NotFound.into());
                }
                state.next_file += 1;
                let id = state.next_file;
                state.change(Change::Link(path.to_owned(), id))?;
                id
            }
        };
        Ok(Arc::new(FakeFile {
            state: Arc::clone(&self.state),
            id,
        }))
    }

    fn info(&self, path: &Path) -> io::Result<Option<FileInfo>> {
        let state = lock(&self.state);
        Ok(state.now.names.get(path).map(|id| FileInfo {
            len_bytes: state.now.files.get(id).map_or(0, |file| file.len() as u64),
            modified_ms: 0,
        }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        let now = &lock(&self.state).now;
        let is_dir = now.dirs.contains(path).then_some(EntryKind::Directory);
        Ok(is_dir.or_else(|| now.names.contains_key(path).then_some(EntryKind::File)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = lock(&self.state);
        if !state.now.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = |path: &Path| {
            let name = path.file_name()?.to_str()?.to_owned();
            (path.parent() == Some(dir)).then_some(name)
        };
        let files = state
            .now
            .names
            .keys()
            .filter_map(|path| inside(path))
            .map(|name| DirEntry {
                name,
                kind: EntryKind::File,
            });
        let dirs = state
            .now
            .dirs
            .iter()
            .filter_map(|path| inside(path))
            .map(|name| DirEntry {
                name,
                kind: EntryKind::Directory,
            });
        Ok(files.chain(dirs).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty() && !state.now.dirs.contains(*path))
            .map(Path::to_owned)
            .collect();
        missing
            .into_iter()
            .rev()
            .try_for_each(|path| state.change(Change::MakeDir(path)))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        match state.now.names.contains_key(path) {
            true => state.change(Change::Unlink(path.to_owned())),
            false => Ok(()),
        }
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        match state.now.dirs.contains(dir) {
            true => state.change(Change::RemoveDir(dir.to_owned())),
            false => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        if !state.now.names.contains_key(from) && !state.now.dirs.contains(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.state).sync(|change| change.directory() == Some(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        if !lock(&self.state).locked.insert(path.to_owned()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FakeLock {
            state: Arc::clone(&self.state),
            path: path.to_owned(),
        }))
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = lock(&self.state);
        let total_bytes = state.capacity_bytes.unwrap_or(1 << 40);
        Ok(Space {
            total_bytes,
            free_bytes: total_bytes.saturating_sub(state.used_bytes()),
        })
    }

    fn file_system(&self, _dir: &Path) -> Option<Box<dyn FileSystem>> {
        lock(&self.state).syncs_whole.then(|| {
            let state = Arc::clone(&self.state);
            Box::new(FakeFileSystem { state }) as Box<dyn FileSystem>
        })
    }
}

impl FileSystem for FakeFileSystem {
    fn holds(&self, dir: &Path) -> bool {
        lock(&self.state).now.dirs.contains(dir)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync(|_| true)?;
        match &mut state.lost {
            Some(lost) if !lost.is_told_by_file_system => {
                lost.is_told_by_file_system = true;
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => Ok(()),
        }
    }
}

impl DiskFile for FakeFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let state = lock(&self.state);
        let file = state.now.files.get(&self.id).map_or(&[][..], Vec::as_slice);
        let rest = file.get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        lock(&self.state).change(Change::Write(self.id, position, parts.concat()))
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.state)
            .now
            .files
            .get(&self.id)
            .map_or(0, |file| file.len() as u64))
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        lock(&self.state).change(Change::SetLen(self.id, len_bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync(|change| change.file() == Some(self.id))?;
        match &mut state.lost {
            Some(lost) if lost.file == self.id && !lost.is_told_by_file => {
                lost.is_told_by_file = true;
                Err(io::Error::from_raw_os_error(EIO))
            }
            _ => Ok(()),
        }
    }

    fn preallocate(&self, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let disk = FakeDisk::new();
        let dir = Path::new("d");
        disk.create_dir_all(dir).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let path = dir.join("f");
        let file = disk.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[b"ab"], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(
            disk.survivor(Crash::PowerCut { unsynced: 0 }).content(&path),
            None,
            "the name is not durable"
        );
        disk.sync_dir(dir).unwrap();
        file.write_all_at(&[b"cd"], 2).unwrap();
        file.write_all_at(&[b"ef"], 4).unwrap();
        let after = |crash| disk.survivor(crash).content(&path).unwrap();
        assert_eq!(after(Crash::PowerCut { unsynced: 0 }), b"ab");
        assert_eq!(after(Crash::PowerCut { unsynced: 1 }), b"abcd");
        assert_eq!(after(Crash::Kill), b"abcdef");
    }

    #[test]
    fn a_disk_that_dies_tears_the_write_and_refuses_the_rest() {
        let disk = FakeDisk::new();
        disk.create_dir_all(Path::new("d")).unwrap();
        let path = Path::new("d").join("f");
        let file = disk.open(&path, OpenMode::Create).unwrap();
        disk.die_at(disk.operations() + 1, Tear::Bytes(1));
        file.write_all_at(&[b"xyz"], 0).unwrap_err();
        file.write_all_at(&[b"xyz"], 0).unwrap_err();
        assert!(disk.is_dead());
        assert_eq!(disk.survivor(Crash::Kill).content(&path).unwrap(), b"x");
    }
}
