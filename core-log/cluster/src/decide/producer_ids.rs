//! Blocks of producer ids: a broker takes one at a time and hands ids out of it without asking again.

use highwater_types::ProducerId;

use crate::{
    image::MetadataImage,
    record::{MetadataRecord, ProducerIdBlockRecord},
};

/// How many ids a block holds.
pub const PRODUCER_ID_BLOCK_SIZE: i64 = 1_000;

/// A block of ids, `first..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: ProducerId,
    /// The id after the last one.
    pub end: ProducerId,
}

/// All ids of 63 bits are handed out: UNKNOWN_SERVER_ERROR (-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has handed out every producer id there is")]
pub struct ProducerIdsExhausted;

/// Decides about the next block. What a crash leaves unused of a block is lost, never handed out again.
///
/// # Errors
/// [`ProducerIdsExhausted`].
pub fn allocate_producer_ids(
    image: &MetadataImage,
) -> Result<(ProducerIdBlock, Vec<MetadataRecord>), ProducerIdsExhausted> {
    let first = image.next_producer_id();
    let end = first
        .get()
        .checked_add(PRODUCER_ID_BLOCK_SIZE)
        .ok_or(ProducerIdsExhausted)?;
    let record = ProducerIdBlockRecord {
        first_producer_id: first.get(),
        next_producer_id: end,
    };
    Ok((
        ProducerIdBlock {
            first,
            end: ProducerId::new(end),
        },
        vec![MetadataRecord::ProducerIdBlock(record)],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_follow_each_other() {
        let (first, records) = allocate_producer_ids(&MetadataImage::default()).unwrap();
        let image = MetadataImage::default().apply(&records).unwrap();
        let (second, _) = allocate_producer_ids(&image).unwrap();
        assert_eq!((first.first.get(), first.end.get()), (0, 1000));
        assert_eq!((second.first.get(), second.end.get()), (1000, 2000));
    }

    #[test]
    fn the_last_ids_are_not_handed_out_as_a_short_block() {
        let last = ProducerIdBlockRecord {
            first_producer_id: 0,
            next_producer_id: i64::MAX - 5,
        };
        let image = MetadataImage::default()
            .apply(&[MetadataRecord::ProducerIdBlock(last)])
            .unwrap();
        assert_eq!(allocate_producer_ids(&image), Err(ProducerIdsExhausted));
    }
}
