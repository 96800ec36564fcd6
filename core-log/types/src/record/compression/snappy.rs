//! Snappy in the framing of `snappy-java` ("xerial"), which Java's clients write and expect, and raw Snappy, which
//! librdkafka and others write. Neither is the official Snappy framing format.
//!
//! ```text
//! 82 53 4e 41 50 50 59 00   "\x82SNAPPY\0"
//! 00 00 00 01               version
//! 00 00 00 01               oldest version that can read this
//! then per block: length (4 bytes, big endian), that many bytes of raw Snappy
//! ```
//!
//! Streams written one behind the other repeat the 16 bytes where a block's length would stand.

use super::{Bounded, Failure};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const STREAM_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Uncompressed bytes of a block, as `snappy-java` has it.
const BLOCK_BYTES: usize = 32 * 1024;

pub(super) fn compress(body: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    out.extend_from_slice(&STREAM_HEADER);
    for block in body.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let data_at = length_at + 4;
        out.resize(data_at + snap::raw::max_compress_len(block.len()), 0);
        let compressed_bytes = encoder.compress(block, &mut out[data_at..])?;
        // A block of 32 KiB stays far below 2^32.
        out[length_at..data_at].copy_from_slice(&(compressed_bytes as u32).to_be_bytes());
        out.truncate(data_at + compressed_bytes);
    }
    Ok(())
}

pub(super) fn decompress(compressed: &[u8], out: &mut Bounded) -> Result<(), Failure> {
    if !compressed.starts_with(&MAGIC) {
        return decompress_block(compressed, out);
    }
    let mut rest = compressed;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest
                .get(STREAM_HEADER.len()..)
                .ok_or_else(|| Failure::broken("the snappy-java stream header is cut short"))?;
            continue;
        }
        let block = rest.split_first_chunk().and_then(|(length, behind)| {
            // A length beyond the bytes at hand, 2^31 included, fails the split.
            behind.split_at_checked(u32::from_be_bytes(*length) as usize)
        });
        let (block, behind) =
            block.ok_or_else(|| Failure::broken("a block of the snappy-java stream is cut short"))?;
        decompress_block(block, out)?;
        rest = behind;
    }
    Ok(())
}

fn decompress_block(block: &[u8], out: &mut Bounded) -> Result<(), Failure> {
    let claimed = snap::raw::decompress_len(block).map_err(Failure::broken)?;
    let room = out.grow(claimed)?;
    snap::raw::Decoder::new()
        .decompress(block, room)
        .map_err(Failure::broken)?;
    Ok(())
}
