//! What producers wrote, on disk: the snapshot file of Kafka's format, `<offset>.snapshot`, and beside it what that
//! format has no room for, `<offset>.batches`.
//!
//! ```text
//! .snapshot   i16 version 1
//!             u32 CRC-32C of everything behind it
//!             i32 number of producers, and per producer 46 bytes:
//!                 i64 producer id, i16 epoch, i32 last sequence (-1 none), i64 last offset (-1), i32 offset delta,
//!                 i64 timestamp, i32 coordinator epoch (-1), i64 first offset of the open transaction (-1)
//! .batches    i16 version 1
//!             u32 CRC-32C of everything behind it
//!             u32 the CRC-32C in the snapshot it belongs to
//!             i32 number of producers, and per producer:
//!                 i64 producer id, u8 number of batches, and per batch, oldest first:
//!                     i32 last sequence, i64 last offset, i32 offset delta, i64 timestamp
//! ```
//! Kafka keeps one batch per producer across restarts; the second file keeps all five, so that a retry of an older
//! batch is still answered as a duplicate after a restart (semantic 33, 36). Kafka's tools read the first file and
//! overlook the second. A snapshot without its second file is one of Kafka's, or lost it in a crash; the reader
//! decides by whether the files were durable.

use highwater_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{BatchMemo, ProducerEntry, ProducerState, REMEMBERED_BATCHES};
use crate::error::FormatProblem;
use crate::fields::Fields;

const VERSION: i16 = 1;
const ENTRY_BYTES: usize = 46;
/// Version and checksum.
const HEAD_BYTES: usize = 6;

/// The file's bytes.
pub(crate) fn encode_snapshot(state: &ProducerState) -> Vec<u8> {
    let entries = state.entries();
    let mut body = Vec::with_capacity(HEAD_BYTES + 4 + entries.len() * ENTRY_BYTES);
    body.extend(VERSION.to_be_bytes());
    body.extend([0; 4]);
    body.extend((entries.len() as i32).to_be_bytes());
    for (id, entry) in &entries {
        let last = entry.batches.last();
        body.extend(id.get().to_be_bytes());
        body.extend(entry.epoch.get().to_be_bytes());
        body.extend(last.map_or(-1, |memo| memo.last_sequence.get()).to_be_bytes());
        body.extend(last.map_or(-1, |memo| memo.last_offset.get()).to_be_bytes());
        body.extend(last.map_or(0, |memo| memo.offset_delta).to_be_bytes());
        body.extend(entry.last_timestamp.get().to_be_bytes());
        body.extend(entry.coordinator_epoch.unwrap_or(-1).to_be_bytes());
        body.extend(entry.transaction_start.map_or(-1, Offset::get).to_be_bytes());
    }
    seal(&mut body);
    body
}

/// Fills in the checksum of either file.
fn seal(body: &mut [u8]) {
    let crc = crc32c::crc32c(&body[HEAD_BYTES..]);
    body[2..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
}

/// The bytes of the second file, for the snapshot with these bytes; `None` when nobody has written anything.
pub(crate) fn encode_batches(state: &ProducerState, snapshot: &[u8]) -> Option<Vec<u8>> {
    let entries = state.entries();
    if entries.is_empty() {
        return None;
    }
    let mut body = Vec::new();
    body.extend(VERSION.to_be_bytes());
    body.extend([0; 4]);
    body.extend(&snapshot[2..HEAD_BYTES]);
    let several: Vec<_> = entries.iter().filter(|(_, entry)| needs_batches(entry)).collect();
    body.extend((several.len() as i32).to_be_bytes());
    for (id, entry) in several {
        body.extend(id.get().to_be_bytes());
        body.push(entry.batches.len() as u8);
        for memo in &entry.batches {
            body.extend(memo.last_sequence.get().to_be_bytes());
            body.extend(memo.last_offset.get().to_be_bytes());
            body.extend(memo.offset_delta.to_be_bytes());
            body.extend(memo.timestamp.get().to_be_bytes());
        }
    }
    seal(&mut body);
    Some(body)
}

/// Kafka's file has one batch and one timestamp; whatever it cannot say goes into ours.
fn needs_batches(entry: &ProducerEntry) -> bool {
    entry.batches.len() > 1
        || entry
            .batches
            .last()
            .is_some_and(|memo| memo.timestamp != entry.last_timestamp)
}

/// Reads a file back.
pub(crate) fn decode_snapshot(bytes: &[u8]) -> Result<ProducerState, FormatProblem> {
    let mut fields = open(bytes)?;
    let announced = fields.i32()?;
    let mut state = ProducerState::default();
    for _ in 0..announced {
        let (id, entry) = decode_entry(&mut fields)?;
        state.restore(id, entry);
    }
    if state.len() as i64 != i64::from(announced) {
        return Err(FormatProblem::Count {
            announced: announced.into(),
            found: state.len() as i64,
        });
    }
    Ok(state)
}

/// Checks version and checksum of either file; what is left to read.
fn open(bytes: &[u8]) -> Result<Fields<'_>, FormatProblem> {
    let mut fields = Fields::new(bytes);
    let version = fields.i16()?;
    if version != VERSION {
        return Err(FormatProblem::Version(version.to_string()));
    }
    let stored = fields.u32()?;
    let computed = crc32c::crc32c(fields.rest());
    if stored != computed {
        return Err(FormatProblem::Crc { stored, computed });
    }
    Ok(fields)
}

fn decode_entry(fields: &mut Fields<'_>) -> Result<(ProducerId, ProducerEntry), FormatProblem> {
    let unless_negative = |raw: i64| (raw >= 0).then_some(raw);
    let id = ProducerId::new(fields.i64()?);
    let epoch = ProducerEpoch::new(fields.i16()?);
    let last_sequence = fields.i32()?;
    let last_offset = fields.i64()?;
    let offset_delta = fields.i32()?;
    let last_timestamp = Timestamp::new(fields.i64()?);
    let coordinator_epoch = Some(fields.i32()?).filter(|epoch| *epoch >= 0);
    let transaction_start = unless_negative(fields.i64()?).map(Offset::new);
    let mut batches = Vec::new();
    if last_sequence >= 0 {
        batches.push(BatchMemo {
            last_sequence: Sequence::new(last_sequence),
            last_offset: Offset::new(last_offset),
            offset_delta: offset_delta.max(0),
            timestamp: last_timestamp,
        });
    }
    Ok((
        id,
        ProducerEntry {
            epoch,
            coordinator_epoch,
            last_timestamp,
            transaction_start,
            batches,
        },
    ))
}

/// Reads the second file into what the snapshot with these bytes gave. On an error `state` is as it was.
pub(crate) fn decode_batches(
    bytes: &[u8],
    snapshot: &[u8],
    state: &mut ProducerState,
) -> Result<(), FormatProblem> {
    let mut fields = open(bytes)?;
    let belongs_to = fields.u32()?;
    let stored = Fields::new(snapshot.get(2..).unwrap_or_default()).u32()?;
    if belongs_to != stored {
        return Err(FormatProblem::Crc {
            stored: belongs_to,
            computed: stored,
        });
    }
    let announced = fields.i32()?;
    let mut read = Vec::new();
    for at in 0..announced {
        let id = ProducerId::new(fields.i64()?);
        let count = usize::from(fields.u8()?);
        if !state.producers.contains_key(&id) {
            return Err(FormatProblem::Order(at as usize));
        }
        if count == 0 || count > REMEMBERED_BATCHES {
            return Err(FormatProblem::Count {
                announced: count as i64,
                found: REMEMBERED_BATCHES as i64,
            });
        }
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            batches.push(BatchMemo {
                last_sequence: Sequence::new(fields.i32()?),
                last_offset: Offset::new(fields.i64()?),
                offset_delta: fields.i32()?.max(0),
                timestamp: Timestamp::new(fields.i64()?),
            });
        }
        read.push((id, batches));
    }
    for (id, batches) in read {
        if let Some(entry) = state.producers.get_mut(&id) {
            entry.batches = batches;
        }
    }
    Ok(())
}
