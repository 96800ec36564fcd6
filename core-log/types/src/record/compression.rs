//! Compressing and decompressing batch bodies, within limits.
//!
//! Every codec reads several frames in a row as one stream, as the Java readers do or as its format says, and
//! refuses a stream that is cut short. What is written is what Java's readers take: gzip members, `snappy-java`
//! blocks, LZ4 frames of independent blocks, zstd frames.
//!
//! Refuses: dictionaries, legacy and skippable LZ4 frames, and zstd windows above 128 MiB.
//!
//! # Invariants
//! - Memory for a decompressed body never passes [`DecodeLimits`], whatever sizes the stream claims.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use std::io::Read;

use bytes::Bytes;

use super::{BatchError, Compression};

/// How far a body may grow when it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// No body may be larger than this once decompressed.
    pub max_decompressed_bytes: usize,
    /// No body may grow by more than this factor, once it passes [`RATIO_FREE_BYTES`]. Gzip cannot pass 1,032;
    /// zstd reaches tens of thousands on bytes that are all the same, which real records are not.
    pub max_ratio: usize,
}

/// Up to this size the ratio is not looked at: a batch of many equal small records is no bomb.
pub const RATIO_FREE_BYTES: usize = 1024 * 1024;

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            max_decompressed_bytes: 64 * 1024 * 1024,
            max_ratio: 8192,
        }
    }
}

impl DecodeLimits {
    /// How large a body of `compressed_bytes` may become.
    fn limit_bytes(self, compressed_bytes: usize) -> usize {
        compressed_bytes
            .saturating_mul(self.max_ratio)
            .max(RATIO_FREE_BYTES)
            .min(self.max_decompressed_bytes)
    }
}

/// How a body is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// The format.
    pub compression: Compression,
    /// How hard to try: 1 to 9 for gzip, up to 22 for zstd (below zero is faster still); `None` is what Java takes by
    /// default. The other formats have one encoder each and no levels.
    pub level: Option<i32>,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
        }
    }
}

/// Appends the compressed `body` to `out`.
pub(super) fn compress_into(
    codec: impl Into<Codec>,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let Codec { compression, level } = codec.into();
    let done = match compression {
        Compression::None => {
            out.extend_from_slice(body);
            Ok(())
        }
        Compression::Gzip => gzip::compress(body, level, out),
        Compression::Snappy => snappy::compress(body, out),
        Compression::Lz4 => lz4::compress(body, out),
        Compression::Zstd => zstandard::compress(body, level, out),
    };
    done.map_err(|error| BatchError::Compress {
        codec: compression,
        body_bytes: body.len(),
        problem: error.to_string(),
    })
}

/// Decompresses a body. An empty one is what a compacted batch without records has, in any codec.
pub(super) fn decompress(
    codec: Compression,
    compressed: &[u8],
    limits: DecodeLimits,
) -> Result<Bytes, BatchError> {
    let mut body = Vec::new();
    decompress_into(codec, compressed, limits, &mut body)?;
    Ok(Bytes::from(body))
}

/// As [`decompress`], in place of what `body` holds.
pub(super) fn decompress_into(
    codec: Compression,
    compressed: &[u8],
    limits: DecodeLimits,
    body: &mut Vec<u8>,
) -> Result<(), BatchError> {
    body.clear();
    if compressed.is_empty() {
        return Ok(());
    }
    let limit_bytes = limits.limit_bytes(compressed.len());
    let mut out = Bounded::new(std::mem::take(body), limit_bytes, compressed.len());
    let done = match codec {
        Compression::None => out.append(compressed),
        Compression::Gzip => gzip::decompress(compressed, &mut out),
        Compression::Snappy => snappy::decompress(compressed, &mut out),
        Compression::Lz4 => lz4::decompress(compressed, &mut out),
        Compression::Zstd => zstandard::decompress(compressed, &mut out),
    };
    *body = out.bytes;
    match done {
        Ok(()) => Ok(()),
        Err(Failure::TooLarge) => Err(BatchError::DecompressedTooLarge {
            codec,
            compressed_bytes: compressed.len(),
            limit_bytes,
        }),
        Err(Failure::Broken(problem)) => Err(BatchError::Decompress { codec, problem }),
    }
}

/// Why a codec gave up.
#[derive(Debug)]
enum Failure {
    TooLarge,
    Broken(String),
}

impl Failure {
    fn broken(problem: impl ToString) -> Self {
        Self::Broken(problem.to_string())
    }
}

/// Decompressed bytes that cannot pass a limit.
#[derive(Debug)]
struct Bounded {
    bytes: Vec<u8>,
    limit_bytes: usize,
}

impl Bounded {
    /// Writes to `bytes`, which must be empty.
    fn new(mut bytes: Vec<u8>, limit_bytes: usize, compressed_bytes: usize) -> Self {
        // Records compress by a factor of 2 to 5; starting there saves most of the growing.
        bytes.reserve(compressed_bytes.saturating_mul(4).min(limit_bytes));
        Self { bytes, limit_bytes }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() > self.limit_bytes - self.bytes.len() {
            return Err(Failure::TooLarge);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Room for `more` bytes at the end, zeroed, for a codec that tells its size in advance.
    fn grow(&mut self, more: usize) -> Result<&mut [u8], Failure> {
        if more > self.limit_bytes - self.bytes.len() {
            return Err(Failure::TooLarge);
        }
        let from = self.bytes.len();
        self.bytes.resize(from + more, 0);
        Ok(&mut self.bytes[from..])
    }

    /// Takes all of `reader`, asking for one byte more than may come so as to notice it.
    fn read_all(&mut self, reader: impl Read) -> Result<(), Failure> {
        let room = self.limit_bytes - self.bytes.len();
        let read = reader
            .take(room as u64 + 1)
            .read_to_end(&mut self.bytes)
            .map_err(Failure::broken)?;
        if read > room {
            return Err(Failure::TooLarge);
        }
        Ok(())
    }
}
