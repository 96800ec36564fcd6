//! Ids, positions, record batches, compression and partitioning.
