//! The attribute bits of a batch and the two choices they encode: codec and timestamp type.

use std::{fmt, str::FromStr};

pub(super) const CODEC_MASK: u16 = 0x07;
pub(super) const LOG_APPEND_TIME: u16 = 0x08;
pub(super) const TRANSACTIONAL: u16 = 0x10;
pub(super) const CONTROL: u16 = 0x20;
pub(super) const DELETE_HORIZON: u16 = 0x40;

/// How the body of a batch is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in the block framing of `snappy-java` ("xerial").
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878; clients may only use it from Produce v7 and Fetch v10 on (KIP-110, semantic 28).
    Zstd,
}

/// A text or number that names no codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression {name:?} is unknown; use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression {
    /// The text that was given.
    pub name: String,
}

impl Compression {
    /// Every codec, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec of an id in the batch attributes; `None` for 5, 6, 7 and above.
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The id in the batch attributes.
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The name Kafka's `compression.type` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.name() == name)
            .ok_or_else(|| UnknownCompression {
                name: name.to_owned(),
            })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose clock the timestamps of a batch come from (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at the moment of the append; one time for the whole batch.
    LogAppendTime,
}

impl TimestampType {
    /// The name Kafka's `message.timestamp.type` uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateTime => "CreateTime",
            Self::LogAppendTime => "LogAppendTime",
        }
    }
}

impl fmt::Display for TimestampType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_ids_and_names_lead_back_to_the_codec() {
        for codec in Compression::ALL {
            assert_eq!(Compression::from_id(codec.id()), Some(codec));
            assert_eq!(codec.name().parse(), Ok(codec));
        }
        assert_eq!(Compression::from_id(5), None);
        assert!("GZIP".parse::<Compression>().is_err(), "names are lower case");
    }
}
