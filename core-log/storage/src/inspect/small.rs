//! The small files: transaction index, producer snapshot, checkpoints, identities.

use highwater_types::Offset;

use super::{FileType, Row};
use crate::checkpoint::{self, MetaProperties};
use crate::error::FormatProblem;
use crate::fields::Fields;
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::snapshot::decode_snapshot;
use crate::txn_index;

pub(super) fn inspect(kind: FileType, bytes: &[u8], base: Offset, take: &mut dyn FnMut(Row)) {
    let read = match kind {
        FileType::TransactionIndex => transactions(bytes, base, take),
        FileType::ProducerSnapshot => producers(bytes, take),
        FileType::ProducerBatches => producer_batches(bytes, take),
        FileType::LeaderEpochs => epochs(bytes, take),
        FileType::OffsetCheckpoint => offsets(bytes, take),
        FileType::PartitionMetadata => partition_metadata(bytes, take),
        FileType::MetaProperties => meta_properties(bytes, take),
        FileType::CleanShutdown => {
            take(Row::new("marker").text("content", String::from_utf8_lossy(bytes)));
            Ok(())
        }
        // Read elsewhere.
        FileType::Segment | FileType::OffsetIndex | FileType::TimeIndex => Ok(()),
    };
    if let Err(problem) = read {
        take(Row::problem(problem.to_string()));
    }
}

fn transactions(bytes: &[u8], base: Offset, take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    for entry in txn_index::decode(bytes, base, Offset::new(i64::MAX))? {
        take(
            Row::new("aborted")
                .number("producer_id", entry.producer_id.get())
                .number("first_offset", entry.first_offset.get())
                .number("last_offset", entry.last_offset.get())
                .number("last_stable_offset", entry.last_stable_offset.get()),
        );
    }
    Ok(())
}

fn producers(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    let state = decode_snapshot(bytes)?;
    for (id, entry) in state.entries() {
        let last = entry.batches.last();
        take(
            Row::new("producer")
                .number("producer_id", id.get())
                .number("producer_epoch", entry.epoch.get())
                .maybe("coordinator_epoch", entry.coordinator_epoch)
                .number("last_timestamp", entry.last_timestamp.get())
                .maybe("transaction_start", entry.transaction_start.map(Offset::get))
                .maybe("last_sequence", last.map(|memo| memo.last_sequence.get()))
                .maybe("last_offset", last.map(|memo| memo.last_offset.get()))
                .count("batches", entry.batches.len()),
        );
    }
    Ok(())
}

/// The layout is in the header of the module that writes it.
fn producer_batches(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    let mut fields = Fields::new(bytes);
    let version = fields.i16()?;
    if version != 1 {
        return Err(FormatProblem::Version(version.to_string()));
    }
    let stored = fields.u32()?;
    let computed = crc32c::crc32c(fields.rest());
    if stored != computed {
        return Err(FormatProblem::Crc { stored, computed });
    }
    let snapshot_crc = fields.u32()?;
    take(Row::new("belongs_to").text("snapshot_crc", format!("{snapshot_crc:#010x}")));
    // Each turn reads bytes or fails, so a count that lies ends with the file.
    for _ in 0..fields.i32()? {
        let producer_id = fields.i64()?;
        for _ in 0..fields.u8()? {
            take(
                Row::new("batch")
                    .number("producer_id", producer_id)
                    .number("last_sequence", fields.i32()?)
                    .number("last_offset", fields.i64()?)
                    .number("offset_delta", fields.i32()?)
                    .number("timestamp", fields.i64()?),
            );
        }
    }
    Ok(())
}

fn epochs(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    for (epoch, start) in LeaderEpochs::decode(bytes)?.entries() {
        take(
            Row::new("epoch")
                .number("leader_epoch", epoch.get())
                .number("start_offset", start.get()),
        );
    }
    Ok(())
}

fn offsets(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    for (partition, offset) in checkpoint::decode_offsets(bytes)? {
        take(
            Row::new("offset")
                .text("topic", partition.topic.as_str())
                .number("partition", partition.partition.get())
                .number("offset", offset.get()),
        );
    }
    Ok(())
}

fn partition_metadata(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    let topic_id = checkpoint::decode_partition_metadata(bytes)?;
    take(Row::new("partition").text("topic_id", checkpoint::encode_uuid(topic_id.get())));
    Ok(())
}

fn meta_properties(bytes: &[u8], take: &mut dyn FnMut(Row)) -> Result<(), FormatProblem> {
    let meta = MetaProperties::decode(bytes)?;
    take(
        Row::new("directory")
            .text("cluster_id", meta.cluster_id)
            .number("node_id", meta.node_id)
            .text("directory_id", checkpoint::encode_uuid(meta.directory_id)),
    );
    Ok(())
}
