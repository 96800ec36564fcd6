//! The producer snapshot file, `<offset>.snapshot`: version 1 of Kafka's format, with a tail of ours.
//!
//! ```text
//! i16 version 1
//! u32 CRC-32C of everything behind it
//! i32 number of producers, and per producer 46 bytes:
//!     i64 producer id, i16 epoch, i32 last sequence (-1 none), i64 last offset (-1), i32 offset delta,
//!     i64 timestamp, i32 coordinator epoch (-1), i64 first offset of the open transaction (-1)
//! tail, which Kafka's reader does not look at, only when some producer has more than one batch:
//!     4 bytes "HWB1", i32 number of producers, and per producer:
//!     i64 producer id, u8 number of batches, and per batch, oldest first:
//!         i32 last sequence, i64 last offset, i32 offset delta, i64 timestamp
//! ```
//! Kafka keeps one batch per producer across restarts; the tail keeps all five, so that a retry of an older batch
//! is still answered as a duplicate after a restart (semantic 33, 36).

use highwater_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{BatchMemo, ProducerEntry, ProducerState, REMEMBERED_BATCHES};
use crate::error::FormatProblem;
use crate::fields::Fields;

const VERSION: i16 = 1;
const ENTRY_BYTES: usize = 46;
const TAIL_MAGIC: &[u8; 4] = b"HWB1";
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
    encode_tail(&entries, &mut body);
    let crc = crc32c::crc32c(&body[HEAD_BYTES..]);
    body[2..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
    body
}

fn encode_tail(entries: &[(ProducerId, &ProducerEntry)], body: &mut Vec<u8>) {
    let several: Vec<_> = entries.iter().filter(|(_, entry)| needs_tail(entry)).collect();
    if several.is_empty() {
        return;
    }
    body.extend(TAIL_MAGIC);
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
}

/// Kafka's part has one batch and one timestamp; whatever it cannot say goes into the tail.
fn needs_tail(entry: &ProducerEntry) -> bool {
    entry.batches.len() > 1
        || entry
            .batches
            .last()
            .is_some_and(|memo| memo.timestamp != entry.last_timestamp)
}

/// Reads a file back.
pub(crate) fn decode_snapshot(bytes: &[u8]) -> Result<ProducerState, FormatProblem> {
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
    decode_tail(&mut fields, &mut state)?;
    Ok(state)
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

fn decode_tail(fields: &mut Fields<'_>, state: &mut ProducerState) -> Result<(), FormatProblem> {
    // A file of Kafka's has no tail; anything else behind the entries is not ours either.
    if fields.rest().first_chunk::<4>() != Some(TAIL_MAGIC) {
        return Ok(());
    }
    fields.u32()?;
    let announced = fields.i32()?;
    for at in 0..announced {
        let id = ProducerId::new(fields.i64()?);
        let count = usize::from(fields.u8()?);
        let entry = state
            .producers
            .get_mut(&id)
            .ok_or(FormatProblem::Order(at as usize))?;
        if count == 0 || count > REMEMBERED_BATCHES {
            return Err(FormatProblem::Count {
                announced: count as i64,
                found: REMEMBERED_BATCHES as i64,
            });
        }
        entry.batches.clear();
        for _ in 0..count {
            entry.batches.push(BatchMemo {
                last_sequence: Sequence::new(fields.i32()?),
                last_offset: Offset::new(fields.i64()?),
                offset_delta: fields.i32()?.max(0),
                timestamp: Timestamp::new(fields.i64()?),
            });
        }
    }
    Ok(())
}
