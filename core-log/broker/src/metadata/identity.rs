//! Whose metadata directory this is.
//!
//! # Invariants
//! - A Raft id belongs to one directory: it is drawn when the directory is made, so a broker that comes back with an
//!   empty disk is a new voter and cannot break the promises of the old one.

use highwater_types::BrokerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{MetadataError, files::MetadataDir};

const FILE: &str = "identity";

/// The format of the directory that this build writes.
const FORMAT: i16 = 1;

/// Written once, when the directory is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    format: i16,
    broker_id: i32,
    /// This node among the voters.
    pub(super) raft_id: u64,
}

impl Identity {
    /// The identity of a directory; a new one for an empty directory.
    pub(super) fn load_or_create(dir: &MetadataDir, broker_id: BrokerId) -> Result<Self, MetadataError> {
        let Some(identity) = dir.read_value::<Self>(FILE)? else {
            let (raft_id, _) = Uuid::new_v4().as_u64_pair();
            let identity = Self {
                format: FORMAT,
                broker_id: broker_id.get(),
                raft_id,
            };
            dir.replace_value(FILE, &identity)?;
            return Ok(identity);
        };
        if identity.format > FORMAT {
            let found = identity.format;
            return Err(MetadataError::TooNew {
                what: "the format of the metadata directory",
                found,
                known: FORMAT,
            });
        }
        if identity.broker_id != broker_id.get() {
            let (found, configured) = (identity.broker_id, broker_id.get());
            return Err(MetadataError::WrongBroker {
                path: dir.file(FILE),
                found,
                configured,
            });
        }
        Ok(identity)
    }
}

/// A name for a new cluster in Kafka's form: 128 random bits in 22 characters of URL-safe base64, none of them a leading
/// dash, which command lines would take for an option.
pub(super) fn fresh_cluster_id() -> String {
    loop {
        let id = base64_url(Uuid::new_v4().as_u128());
        if !id.starts_with('-') {
            return id;
        }
    }
}

fn base64_url(number: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 22 digits hold 132 bits: the first 21 take 126 from the top, the last one the remaining 2 and 4 zeros.
    let digit = |position: u32| match position {
        21 => (number << 4) & 63,
        _ => (number >> (122 - 6 * position)) & 63,
    };
    (0..22)
        .map(|position| char::from(DIGITS[digit(position) as usize]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_have_kafkas_form() {
        // The bytes 00 to 0f, and all ones, as RFC 4648 encodes them without padding.
        assert_eq!(
            base64_url(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            "AAECAwQFBgcICQoLDA0ODw"
        );
        assert_eq!(base64_url(u128::MAX), "_____________________w");
        assert_eq!(fresh_cluster_id().len(), 22);
    }
}
