//! Memory that is in hand when a run begins.
//!
//! The host of a virtual machine may take free memory back; the next one to touch a page then pays for a new one, and on
//! a server that writes to the page cache this is more than everything else it does. A machine that has run for a
//! while, or has its memory to itself, knows no such cost.

use anyhow::Result;
use highwater_bench_kit::usage;

/// The part of the free memory that is touched at most.
const MAX_PART: u64 = 2;

/// Touches `bytes`, or half of what is free, and gives them back to the kernel, which hands them out next.
pub(crate) fn touch(bytes: u64) -> Result<()> {
    let bytes = bytes.min(usage::available_memory_bytes()? / MAX_PART);
    // A fill that is not zero cannot be had by asking for fresh memory alone.
    let touched = vec![1_u8; usize::try_from(bytes)?];
    std::hint::black_box(&touched);
    Ok(())
}
