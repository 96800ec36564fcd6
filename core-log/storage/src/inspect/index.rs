//! Offset and time indexes, on their own and against the segment beside them.

use std::collections::BTreeMap;
use std::io;

use highwater_types::Offset;

use super::{FileType, Row};
use crate::disk::DiskFile;
use crate::scan::{Depth, Expect, Scanner, Step};

/// Batches of a segment by where they begin: last offset and largest timestamp.
type Batches = BTreeMap<u64, (Offset, i64)>;

pub(super) fn inspect(
    kind: FileType,
    bytes: &[u8],
    base: Offset,
    log: Option<&dyn DiskFile>,
    take: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let batches = log.map(|log| batches(log, base)).transpose()?;
    match kind {
        FileType::TimeIndex => times(bytes, base, batches.as_ref(), take),
        _ => offsets(bytes, base, batches.as_ref(), take),
    }
    Ok(())
}

fn batches(log: &dyn DiskFile, base: Offset) -> io::Result<Batches> {
    let mut scanner = Scanner::new(log, 0..log.len_bytes()?, Depth::Headers, Expect::segment(base));
    let mut batches = Batches::new();
    while let Step::Batch(header, position) = scanner.step()? {
        batches.insert(position, (header.last_offset(), header.max_timestamp.get()));
    }
    Ok(batches)
}

/// 8 bytes each: i32 offset relative to the base, i32 position.
fn offsets(bytes: &[u8], base: Offset, batches: Option<&Batches>, take: &mut dyn FnMut(Row)) {
    let (entries, rest) = bytes.as_chunks::<8>();
    let mut last: Option<(i64, i64)> = None;
    for (at, entry) in entries.iter().enumerate() {
        let [a, b, c, d, e, f, g, h] = *entry;
        let offset = base.get().saturating_add(i32::from_be_bytes([a, b, c, d]).into());
        let position = i64::from(i32::from_be_bytes([e, f, g, h]));
        if *entry == [0; 8] {
            take(reserved(at, entries.len()));
            break;
        }
        take(
            Row::new("entry")
                .number("offset", offset)
                .number("position", position),
        );
        if last.is_some_and(|(before, from)| offset <= before || position <= from) {
            take(Row::problem(format!("entry {at} does not grow")));
        }
        if let Some(batches) = batches {
            let batch = u64::try_from(position)
                .ok()
                .and_then(|position| batches.get(&position));
            match batch {
                Some((last, _)) if last.get() == offset => {}
                Some((last, _)) => take(Row::problem(format!(
                    "entry {at} names offset {offset}, the batch at {position} ends at {last}"
                ))),
                None => take(Row::problem(format!("entry {at}: no batch begins at {position}"))),
            }
        }
        last = Some((offset, position));
    }
    odd_end(bytes.len(), rest.len(), take);
}

/// 12 bytes each: i64 timestamp, i32 offset relative to the base.
fn times(bytes: &[u8], base: Offset, batches: Option<&Batches>, take: &mut dyn FnMut(Row)) {
    let (entries, rest) = bytes.as_chunks::<12>();
    let mut last: Option<(i64, i64)> = None;
    for (at, entry) in entries.iter().enumerate() {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *entry;
        let timestamp = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let offset = base.get().saturating_add(i32::from_be_bytes([i, j, k, l]).into());
        if *entry == [0; 12] && at + 1 < entries.len() {
            take(reserved(at, entries.len()));
            break;
        }
        take(
            Row::new("entry")
                .number("timestamp", timestamp)
                .number("offset", offset),
        );
        if last.is_some_and(|(before, from)| timestamp < before || offset < from) {
            take(Row::problem(format!("entry {at} goes back")));
        }
        if let Some(batches) = batches {
            // The batch that holds the offset is the first whose last offset is not below it.
            let holder = batches.values().find(|(last, _)| last.get() >= offset);
            match holder {
                Some((_, max)) if *max == timestamp => {}
                Some((_, max)) => take(Row::problem(format!(
                    "entry {at} names timestamp {timestamp}, the batch with offset {offset} reaches {max}"
                ))),
                None => take(Row::problem(format!(
                    "entry {at}: no batch holds offset {offset}"
                ))),
            }
        }
        last = Some((timestamp, offset));
    }
    odd_end(bytes.len(), rest.len(), take);
}

fn reserved(from: usize, count: usize) -> Row {
    Row::new("reserved").count("zero_entries", count - from)
}

fn odd_end(length: usize, rest: usize, take: &mut dyn FnMut(Row)) {
    if rest > 0 {
        take(Row::problem(format!(
            "{length} bytes are no whole number of entries: {rest} too many"
        )));
    }
}
