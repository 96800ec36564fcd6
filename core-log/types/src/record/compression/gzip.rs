//! Gzip (RFC 1952), through flate2. Several members in a row are one stream.

use std::io::{self, Write};

use flate2::{bufread::MultiGzDecoder, write::GzEncoder};

use super::{Bounded, Failure};

pub(super) fn compress(body: &[u8], level: Option<i32>, out: &mut Vec<u8>) -> io::Result<()> {
    // Level 6 by default, as in Java's encoder.
    let level = level.map_or_else(flate2::Compression::default, |level| {
        flate2::Compression::new(level.clamp(1, 9).unsigned_abs())
    });
    let mut encoder = GzEncoder::new(out, level);
    encoder.write_all(body)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn decompress(compressed: &[u8], out: &mut Bounded) -> Result<(), Failure> {
    out.read_all(MultiGzDecoder::new(compressed))
}
