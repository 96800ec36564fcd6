//! LZ4 frames. Several in a row are one stream.
//!
//! The decoder at hand takes a stream that ends between two blocks for a whole one, so the frame is walked over
//! first: block by block to its end mark, which costs a few bytes per 64 KiB.

use std::io::{self, BufRead, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{Bounded, Failure};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const FLAG_DICTIONARY: u8 = 0x01;
const FLAG_CONTENT_CHECKSUM: u8 = 0x04;
const FLAG_CONTENT_SIZE: u8 = 0x08;
const FLAG_BLOCK_CHECKSUM: u8 = 0x10;
const BLOCK_STORED: u32 = 0x8000_0000;

pub(super) fn compress(body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    // Java's reader refuses blocks that depend on each other; 64 KiB is what Java writes.
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(body)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn decompress(compressed: &[u8], out: &mut Bounded) -> Result<(), Failure> {
    let mut rest = compressed;
    while !rest.is_empty() {
        let frame_bytes =
            frame_length(rest).ok_or_else(|| Failure::broken("not a whole LZ4 frame up to its end mark"))?;
        let (frame, behind) = rest.split_at(frame_bytes);
        let mut decoder = FrameDecoder::new(frame);
        loop {
            let block = decoder.fill_buf().map_err(Failure::broken)?;
            if block.is_empty() {
                break;
            }
            out.append(block)?;
            let taken = block.len();
            decoder.consume(taken);
        }
        if !decoder.get_ref().is_empty() {
            return Err(Failure::broken("an LZ4 block decompresses to nothing"));
        }
        rest = behind;
    }
    Ok(())
}

/// Bytes of the first frame, or `None` when it is no frame or is cut short.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    if bytes.first_chunk()? != &MAGIC {
        return None;
    }
    let flags = *bytes.get(4)?;
    let bytes_if = |flag: u8, bytes: usize| if flags & flag != 0 { bytes } else { 0 };
    // Magic, flags, block descriptor, optional fields, header checksum.
    let mut at = 7 + bytes_if(FLAG_CONTENT_SIZE, 8) + bytes_if(FLAG_DICTIONARY, 4);
    loop {
        let word = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 4;
        if word == 0 {
            at += bytes_if(FLAG_CONTENT_CHECKSUM, 4);
            return (at <= bytes.len()).then_some(at);
        }
        at += (word & !BLOCK_STORED) as usize + bytes_if(FLAG_BLOCK_CHECKSUM, 4);
    }
}
