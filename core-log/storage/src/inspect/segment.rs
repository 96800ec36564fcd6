//! Batches and records of a segment.

use std::io;

use highwater_types::Offset;
use highwater_types::record::control::ControlType;
use highwater_types::record::{BatchHeader, DecodeLimits, RecordBatch};

use super::{InspectOptions, Row};
use crate::disk::{DiskFile, read_up_to};
use crate::scan::{Depth, Expect, Scanner, Step, valid_batch_behind};

const CHUNK_BYTES: usize = 64 * 1024;

pub(super) fn inspect(
    file: &dyn DiskFile,
    base: Offset,
    options: InspectOptions,
    take: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let end = file.len_bytes()?;
    let mut scanner = Scanner::new(file, 0..end, Depth::Headers, Expect::segment(base));
    let (mut batches, mut records, mut next) = (0_usize, 0_i64, base);
    loop {
        match scanner.step()? {
            Step::Batch(header, position) => {
                let bytes = scanner.batch_bytes(&header, position)?;
                batches += 1;
                records += i64::from(header.record_count);
                next = header.next_offset();
                take(batch_row(&header, position));
                match RecordBatch::parse(bytes) {
                    Ok((batch, _)) => look_into(&batch, position, options, take),
                    Err(error) => take(at(position, error.to_string())),
                }
            }
            Step::End => break,
            Step::Bad(problem, position) => {
                take(bad_row(file, position, end, next, &problem.to_string())?);
                break;
            }
        }
    }
    take(
        Row::new("summary")
            .count("batches", batches)
            .number("records", records)
            .number("next_offset", next.get())
            .number("bytes", i64::try_from(end).unwrap_or(i64::MAX)),
    );
    Ok(())
}

fn at(position: u64, message: String) -> Row {
    Row::problem(message).number("position", i64::try_from(position).unwrap_or(i64::MAX))
}

/// Why reading ends here: zeros that were reserved in advance, a torn tail, or damage with sound batches behind it.
fn bad_row(file: &dyn DiskFile, position: u64, end: u64, next: Offset, problem: &str) -> io::Result<Row> {
    if is_zero(file, position, end)? {
        let bytes = i64::try_from(end - position).unwrap_or(i64::MAX);
        let row = Row::new("reserved").number("position", i64::try_from(position).unwrap_or(i64::MAX));
        return Ok(row.number("zero_bytes", bytes));
    }
    let above = Offset::new(next.get().saturating_sub(1));
    Ok(match valid_batch_behind(file, position + 1..end, above)? {
        Some(offset) => at(
            position,
            format!(
                "{problem}; a sound batch at offset {offset} follows, so this is damage, not a torn tail"
            ),
        ),
        None => at(
            position,
            format!(
                "{problem}; nothing sound follows in the last {} bytes: a torn tail, which a node cuts off when it \
                 recovers",
                end - position
            ),
        ),
    })
}

fn is_zero(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = from;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let read = read_up_to(file, &mut chunk[..want], at)?;
        if read == 0 {
            break;
        }
        if chunk[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

fn batch_row(header: &BatchHeader, position: u64) -> Row {
    Row::new("batch")
        .number("base_offset", header.base_offset.get())
        .number("last_offset", header.last_offset().get())
        .number("count", header.record_count)
        .number("position", i64::try_from(position).unwrap_or(i64::MAX))
        .count("size_bytes", header.size_bytes())
        .text("codec", header.compression().name())
        .text("timestamp_type", header.timestamp_type().name())
        .number("base_timestamp", header.base_timestamp.get())
        .number("max_timestamp", header.max_timestamp.get())
        .number("leader_epoch", header.partition_leader_epoch.get())
        .maybe("producer_id", header.producer_id.map(|id| id.get()))
        .maybe("producer_epoch", header.producer_epoch.map(|epoch| epoch.get()))
        .maybe(
            "base_sequence",
            header.base_sequence.map(|sequence| sequence.get()),
        )
        .flag("transactional", header.is_transactional())
        .flag("control", header.is_control())
        .text("crc", format!("{:#010x}", header.crc))
}

/// Checks the checksum, and the records if that is asked for.
fn look_into(batch: &RecordBatch, position: u64, options: InspectOptions, take: &mut dyn FnMut(Row)) {
    if let Err(error) = batch.verify_crc() {
        // Records of a damaged batch are not shown: they may be anything.
        take(at(position, error.to_string()));
        return;
    }
    if !options.records && !options.deep {
        return;
    }
    match batch.records(DecodeLimits::default()) {
        Ok(found) if options.records => {
            let is_control = batch.header().is_control();
            found.into_iter().for_each(|record| {
                let control = record.key.as_deref().filter(|_| is_control);
                let control = control.map(|key| match ControlType::parse_key(key) {
                    Ok(control) => format!("{control:?}"),
                    Err(error) => error.to_string(),
                });
                let mut row = Row::new("record")
                    .number("offset", record.offset.get())
                    .number("timestamp", record.timestamp.get());
                if let Some(control) = control {
                    row = row.text("control_type", control);
                }
                row = row.bytes("key", record.key).bytes("value", record.value);
                for header in record.headers {
                    row = row
                        .bytes("header", Some(header.key))
                        .bytes("header_value", header.value);
                }
                take(row);
            });
        }
        Ok(_) => {}
        Err(error) => take(at(position, format!("the records do not decode: {error}"))),
    }
}
