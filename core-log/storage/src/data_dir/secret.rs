//! `node.secret`: bytes that only this node knows, written once, so that what is derived from them outlives restarts.
//!
//! ```text
//! 0  u16  version, 1
//! 2  u32  CRC-32C of what follows
//! 6  32 bytes of randomness
//! ```
//! All big-endian. Refuses: to replace a file that cannot be read, since whoever relied on the old bytes should hear
//! of it; to show the bytes in `Debug` output or errors. Only the owner of the directory may read the file.

use std::fmt;

use super::DataDir;
use crate::disk::{OpenMode, read_vec, replace_private_file};
use crate::error::{At, FormatProblem, StorageError};

pub(crate) const NODE_SECRET: &str = "node.secret";

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 2 + 4;

/// Bytes that only one node knows.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeSecret([u8; NodeSecret::BYTES]);

impl fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSecret").finish_non_exhaustive()
    }
}

impl NodeSecret {
    /// How many there are.
    pub const BYTES: usize = 32;

    /// Takes bytes from a source of randomness.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to derive keys from; they are not to be told to anybody.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&self.0).to_be_bytes());
        bytes.extend_from_slice(&self.0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let short = FormatProblem::Short(bytes.len());
        let (version, rest) = bytes.split_first_chunk().ok_or(short.clone())?;
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return Err(FormatProblem::Version(version.to_string()));
        }
        let (crc, secret) = rest.split_first_chunk().ok_or(short.clone())?;
        if secret.len() > Self::BYTES {
            return Err(FormatProblem::TooLarge);
        }
        let secret: [u8; Self::BYTES] = secret.try_into().map_err(|_| short)?;
        match u32::from_be_bytes(*crc) == crc32c::crc32c(&secret) {
            true => Ok(Self(secret)),
            false => Err(FormatProblem::Checksum),
        }
    }
}

impl DataDir {
    /// The secret of the node whose directory this is; one that has none takes `fresh`, durably.
    ///
    /// # Errors
    /// [`StorageError::Malformed`] for a file that is no secret, and what the disk refuses.
    pub fn node_secret(&self, fresh: NodeSecret) -> Result<NodeSecret, StorageError> {
        let path = self.path.join(NODE_SECRET);
        if self.disk.info(&path).at("inspect", &path)?.is_none() {
            replace_private_file(&*self.disk, &path, &fresh.encode()).at("write", &path)?;
            return Ok(fresh);
        }
        // Opened this way, a file that others could read (restored from a backup, say) is private from here on.
        let file = self.disk.open(&path, OpenMode::CreatePrivate).at("open", &path)?;
        let bytes = read_vec(&*file, HEAD_BYTES + NodeSecret::BYTES + 1, 0).at("read", &path)?;
        NodeSecret::decode(&bytes).map_err(|problem| StorageError::Malformed {
            path,
            kind: "secret of a node",
            problem,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::*;
    use crate::data_dir::DataDirOptions;
    use crate::disk::{Disk, StdDisk};
    use crate::log::CorruptionPolicy;
    use crate::testing::{Crash, FakeDisk};

    fn open(disk: Arc<dyn Disk>, path: PathBuf) -> DataDir {
        let options = DataDirOptions {
            corruption: CorruptionPolicy::Refuse,
        };
        DataDir::open(disk, path, options).unwrap()
    }

    fn secret(byte: u8) -> NodeSecret {
        NodeSecret::new([byte; NodeSecret::BYTES])
    }

    #[test]
    fn a_secret_is_kept_from_the_first_answer_on_even_if_the_power_goes() {
        let disk = FakeDisk::new();
        let dir = open(disk.shared(), "data".into());
        assert_eq!(dir.node_secret(secret(1)).unwrap(), secret(1));
        assert_eq!(dir.node_secret(secret(2)).unwrap(), secret(1));
        let disk = disk.survivor(Crash::PowerCut { unsynced: 0 });
        let dir = open(disk.shared(), "data".into());
        assert_eq!(dir.node_secret(secret(3)).unwrap(), secret(1));
    }

    #[test]
    fn nobody_but_the_owner_may_read_the_file_even_if_others_could() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = open(StdDisk::shared(), temporary.path().to_owned());
        let path = temporary.path().join(NODE_SECRET);
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        dir.node_secret(secret(1)).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(dir.node_secret(secret(2)).unwrap(), secret(1));
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn hostile_103_a_damaged_secret_is_refused_untold_and_left_as_it_is() {
        let path = Path::new("data").join(NODE_SECRET);
        let disk = FakeDisk::new();
        let dir = open(disk.shared(), "data".into());
        dir.node_secret(secret(7)).unwrap();
        let good = disk.content(&path).unwrap();
        let mut damages: Vec<Vec<u8>> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
        damages.extend((0..good.len() * 8).map(|at| {
            let mut flipped = good.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            flipped
        }));
        damages.push([good.as_slice(), b"\n"].concat());
        damages.push(vec![b'x'; 1 << 20]);
        for damage in damages {
            disk.damage(&path, |bytes| bytes.clone_from(&damage));
            let error = dir.node_secret(secret(8)).unwrap_err();
            assert!(matches!(error, StorageError::Malformed { .. }), "{error}");
            let (told, shown) = (error.to_string(), format!("{error:?}"));
            assert!(
                told.contains("node.secret is not a valid secret of a node"),
                "{told}"
            );
            assert!(!shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
            assert_eq!(disk.content(&path).unwrap(), damage);
        }
        assert!(!format!("{:?}", secret(7)).contains('7'));
    }
}
