//! Reading what lies in memory already, for callers that must not wait for a disk.
//!
//! Whether a page is there is only known at the moment it is asked for; by the time it is used it may have been given
//! up. That makes an answer a good guess: who goes by it waits for the disk now and then, not always.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::DiskFile;

/// Pages are read ahead, and fall out of use, in stretches; the system's usual read-ahead is this long.
const STRETCH_BYTES: u64 = 128 * 1024;

/// So much is read without asking first whether it is there.
const AT_ONCE_BYTES: usize = 16 * 1024;

/// What to do where the file system cannot tell what lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Take it to be in memory: the bytes were written a short while ago.
    IsHere,
    /// Take it to be on the disk.
    IsAway,
}

/// Whether a reader waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Waits,
    /// Reads only what lies in memory; `WouldBlock` otherwise.
    OnlyHere(Unknown),
}

/// A file as a reader of some patience sees it.
#[derive(Debug)]
pub(crate) struct Patient<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) patience: Patience,
}

/// Whether a range lies in memory, judged by a byte of each stretch and its last one.
///
/// # Errors
/// `UnexpectedEof` if the file ends before the range does, and what the disk says.
pub(crate) fn is_resident(file: &dyn DiskFile, range: Range<u64>, unknown: Unknown) -> io::Result<bool> {
    let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
        return Ok(true);
    };
    let stretches = (range.start..last).step_by(STRETCH_BYTES as usize);
    for position in stretches.chain([last]) {
        match file.read_at_now(&mut [0], position) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(unknown == Unknown::IsHere),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl DiskFile for Patient<'_> {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let Patience::OnlyHere(unknown) = self.patience else {
            return self.file.read_at(buf, position);
        };
        match self.file.read_at_now(buf, position) {
            Err(error) if error.kind() == ErrorKind::Unsupported => match unknown {
                Unknown::IsHere => self.file.read_at(buf, position),
                Unknown::IsAway => Err(ErrorKind::WouldBlock.into()),
            },
            other => other,
        }
    }

    fn read_append(&self, buf: &mut Vec<u8>, want: usize, position: u64) -> io::Result<usize> {
        let Patience::OnlyHere(unknown) = self.patience else {
            return self.file.read_append(buf, want, position);
        };
        // The call that reads only what is there wants memory that has been zeroed; beyond a few pages asking first costs
        // less.
        if want <= AT_ONCE_BYTES {
            let before = buf.len();
            buf.reserve_exact(want);
            buf.resize(before + want, 0);
            let read = self.read_at(&mut buf[before..], position);
            buf.truncate(before + read.as_ref().map_or(0, |read| *read));
            return read;
        }
        let wanted = position..position + want as u64;
        match is_resident(self.file, wanted, unknown) {
            Ok(false) => Err(ErrorKind::WouldBlock.into()),
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            _ => self.file.read_append(buf, want, position),
        }
    }

    fn write_all_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.file.write_all_at(parts, position)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.len_bytes()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        self.file.preallocate(len_bytes)
    }

    fn read_at_now(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at_now(buf, position)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}
