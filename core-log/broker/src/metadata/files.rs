//! The metadata directory: framed files, written whole or appended to.
//!
//! ```text
//! identity    one frame: whose directory this is
//! vote        one frame: Raft's vote
//! log         frames: a head (what was purged), then one frame per append with all its entries
//! snapshot    two frames: what the snapshot covers, then the records of the image
//!
//! frame = magic ff 48 57 fe | payload length, 4 bytes | CRC-32C of length and payload, 4 bytes | payload, JSON
//! ```
//!
//! Files are for their owner only: what is kept of users' passwords lies in them. Numbers are little-endian. The magic
//! cannot occur in JSON, which is UTF-8, so frames behind a damaged one are found.
//!
//! # Invariants
//! - Whole files change by a synced temporary file and a rename, so a crash leaves the old or the new one.
//! - Frames are appended one at a time, each synced before the next: whatever follows a damaged frame was written after
//!   it was durable. A damaged frame with nothing behind it is the end of an interrupted append and never counted; a
//!   damaged frame with sound ones behind it is damage.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use highwater_storage::{Disk, OpenMode};
use serde::{Serialize, de::DeserializeOwned};

use super::{MetadataError, room::Room};

const MAGIC: [u8; 4] = [0xff, b'H', b'W', 0xfe];
const FRAME_HEAD_BYTES: usize = 12;

/// No metadata file is larger; a longer one is not ours.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// The directory of metadata files. Blocking; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct MetadataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    room: Room,
}

impl MetadataDir {
    /// Opens the directory, creating it if needed.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, MetadataError> {
        let created = disk.create_dir_all(&path).and_then(|()| match path.parent() {
            Some(parent) => disk.sync_dir(parent),
            None => Ok(()),
        });
        created.map_err(io_error("creating the directory", &path))?;
        let room = Room::new();
        Ok(Self { disk, path, room })
    }

    /// A directory that is only read: nothing is created.
    pub(super) fn existing(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let room = Room::new();
        Self { disk, path, room }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Who waits for room in it.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// The path of a file of this directory.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A whole file, or nothing if there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, MetadataError> {
        let path = self.file(name);
        let read = || {
            let Some(info) = self.disk.info(&path)? else {
                return Ok(None);
            };
            if info.len_bytes > MAX_FILE_BYTES {
                return Err(io::Error::other("the file is too large to be a metadata file"));
            }
            let file = self.disk.open(&path, OpenMode::Read)?;
            let mut bytes = vec![0; usize::try_from(info.len_bytes).map_err(io::Error::other)?];
            let mut filled = 0;
            while filled < bytes.len() {
                match file.read_at(&mut bytes[filled..], filled as u64) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(bytes))
        };
        read().map_err(io_error("reading", &path))
    }

    /// Replaces a file by these bytes, durably and in one step.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), MetadataError> {
        let path = self.file(name);
        let temporary = self.file(&format!("{name}.tmp"));
        let replace = || {
            let file = self.disk.open(&temporary, OpenMode::CreatePrivate)?;
            file.set_len(0)?;
            file.write_all_at(&[bytes], 0)?;
            file.sync_data()?;
            self.disk.rename(&temporary, &path)?;
            self.disk.sync_dir(&self.path)
        };
        replace().map_err(io_error("replacing", &path))
    }

    /// The value in a file of one frame, or nothing if there is no file.
    pub(super) fn read_value<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, MetadataError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let mut values = self.decode_all(name, &bytes)?;
        match (values.pop(), values.is_empty()) {
            (Some(value), true) => Ok(Some(value)),
            _ => Err(self.damaged(name, 0, "one frame was expected")),
        }
    }

    /// Replaces a file by one frame with this value.
    pub(super) fn replace_value<T: Serialize>(&self, name: &str, value: &T) -> Result<(), MetadataError> {
        let mut bytes = Vec::new();
        self.encode(name, value, &mut bytes)?;
        self.replace(name, &bytes)
    }

    /// Adds a frame with this value to `bytes`, which will be written to the file of this name.
    pub(super) fn encode<T: Serialize>(
        &self,
        name: &str,
        value: &T,
        bytes: &mut Vec<u8>,
    ) -> Result<(), MetadataError> {
        let payload = serde_json::to_vec(value).map_err(io::Error::from);
        let payload = payload.map_err(io_error("encoding for", &self.file(name)))?;
        push_frame(&payload, bytes).map_err(io_error("encoding for", &self.file(name)))
    }

    /// The values of a file that must be sound from end to end.
    pub(super) fn decode_all<T: DeserializeOwned>(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Vec<T>, MetadataError> {
        let frames = self.frames(name, bytes)?;
        let end = frames.last().map_or(0, |payload| payload.end);
        if end < bytes.len() {
            return Err(self.damaged(name, end, "an incomplete frame"));
        }
        frames
            .into_iter()
            .map(|payload| self.decode(name, bytes, payload))
            .collect()
    }

    /// The value of one frame.
    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        name: &str,
        bytes: &[u8],
        payload: Range<usize>,
    ) -> Result<T, MetadataError> {
        let position = payload.start;
        serde_json::from_slice(&bytes[payload]).map_err(|error| self.damaged(name, position, error))
    }

    /// Where the payloads of a file's frames lie. What follows the last one is the end of an interrupted append.
    pub(super) fn frames(&self, name: &str, bytes: &[u8]) -> Result<Vec<Range<usize>>, MetadataError> {
        let mut frames = Vec::new();
        let mut position = 0;
        while let Some(payload) = frame_at(bytes, position) {
            position = payload.end;
            frames.push(payload);
        }
        // The bad frame itself begins at `position`; a sound one further on proves that it was whole once.
        let candidates = (position + 1..bytes.len()).filter(|&start| bytes[start..].starts_with(&MAGIC));
        match { candidates }.find(|&start| frame_at(bytes, start).is_some()) {
            Some(_) => Err(self.damaged(
                name,
                position,
                "a frame does not match its checksum, yet later ones do",
            )),
            None => Ok(frames),
        }
    }

    pub(super) fn damaged(&self, name: &str, position: usize, problem: impl ToString) -> MetadataError {
        MetadataError::Damaged {
            path: self.file(name),
            position: position as u64,
            problem: problem.to_string(),
        }
    }
}

/// Turns an IO error into one that says where and during what.
pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MetadataError {
    move |source| MetadataError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn push_frame(payload: &[u8], bytes: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::try_from(payload.len())
        .map_err(io::Error::other)?
        .to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), payload);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(())
}

/// The payload of the sound frame that begins at a position, if one does.
fn frame_at(bytes: &[u8], position: usize) -> Option<Range<usize>> {
    let rest = bytes.get(position..)?;
    let head = rest.first_chunk::<FRAME_HEAD_BYTES>()?;
    let [m0, m1, m2, m3, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let length = [l0, l1, l2, l3];
    let length_bytes = usize::try_from(u32::from_le_bytes(length)).ok()?;
    let payload = rest[FRAME_HEAD_BYTES..].get(..length_bytes)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), payload);
    let sound = [m0, m1, m2, m3] == MAGIC && crc == u32::from_le_bytes([c0, c1, c2, c3]);
    let start = position + FRAME_HEAD_BYTES;
    sound.then(|| start..start + length_bytes)
}

#[cfg(test)]
mod tests {
    use highwater_storage::StdDisk;

    use super::*;

    fn dir() -> (tempfile::TempDir, MetadataDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = MetadataDir::open(StdDisk::shared(), temp.path().join("metadata")).unwrap();
        (temp, dir)
    }

    fn three_frames() -> Vec<u8> {
        let mut bytes = Vec::new();
        for payload in [&b"\"first\""[..], b"\"second\"", b"\"third\""] {
            push_frame(payload, &mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn a_log_cut_anywhere_keeps_its_whole_frames() {
        let (_temp, dir) = dir();
        let bytes = three_frames();
        let ends: Vec<usize> = dir
            .frames("log", &bytes)
            .unwrap()
            .iter()
            .map(|payload| payload.end)
            .collect();
        assert_eq!(ends.len(), 3);
        for cut in 0..=bytes.len() {
            let kept = dir.frames("log", &bytes[..cut]).unwrap().len();
            assert_eq!(
                kept,
                ends.iter().filter(|&&end| end <= cut).count(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn zeros_where_an_append_should_be_are_an_interrupted_append() {
        let (_temp, dir) = dir();
        let mut bytes = three_frames();
        bytes.extend_from_slice(&[0; 100]);
        assert_eq!(dir.frames("log", &bytes).unwrap().len(), 3);
    }

    #[test]
    fn every_flipped_bit_before_the_last_frame_is_damage() {
        let (_temp, dir) = dir();
        let bytes = three_frames();
        let last = dir.frames("log", &bytes).unwrap()[2].start - FRAME_HEAD_BYTES;
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            let result = dir.frames("log", &flipped);
            if position < last {
                assert!(
                    matches!(result, Err(MetadataError::Damaged { .. })),
                    "byte {position}: {result:?}"
                );
            } else {
                assert_eq!(result.unwrap().len(), 2, "byte {position}");
            }
        }
    }

    #[test]
    fn a_replaced_file_reads_back_and_a_cut_one_is_damaged() {
        let (_temp, dir) = dir();
        assert_eq!(dir.read_value::<String>("vote").unwrap(), None);
        dir.replace_value("vote", &"first").unwrap();
        dir.replace_value("vote", &"second").unwrap();
        assert_eq!(
            dir.read_value::<String>("vote").unwrap().as_deref(),
            Some("second")
        );
        let bytes = dir.read("vote").unwrap().unwrap();
        dir.replace("vote", &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(
            dir.read_value::<String>("vote"),
            Err(MetadataError::Damaged { .. })
        ));
    }
}
