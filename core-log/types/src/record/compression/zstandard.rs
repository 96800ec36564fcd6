//! Zstandard (RFC 8878). Several frames in a row are one stream.

use std::io;

use zstd::stream::read::Decoder;

use super::{Bounded, Failure};

/// Kafka's default level.
const LEVEL: i32 = 3;
/// Largest window taken, as a power of two: what the encoder's highest level uses. Only the part of a window that
/// data is written to costs memory, so the limit on decompressed bytes bounds that too.
const MAX_WINDOW_LOG: u32 = 27;

pub(super) fn compress(body: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> io::Result<()> {
    // In one go, so that the encoder sizes its tables after the body and the frame tells its size.
    out.extend_from_slice(&zstd::bulk::compress(body, level.unwrap_or(LEVEL))?);
    Ok(())
}

pub(super) fn decompress(compressed: &[u8], out: &mut Bounded) -> Result<(), Failure> {
    let mut decoder = Decoder::with_buffer(compressed).map_err(Failure::broken)?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(Failure::broken)?;
    out.read_all(decoder)
}
