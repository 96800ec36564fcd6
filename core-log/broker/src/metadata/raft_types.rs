//! The types Raft is instantiated with. They are stored as JSON, so their names are part of the format.

use std::io::Cursor;

use highwater_cluster::MetadataRecord;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// Raft over batches of metadata records.
    pub(super) TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = openraft::EmptyNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// Records that are replayed together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proposal {
    pub(super) records: Vec<MetadataRecord>,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Applied {
    /// The image has this version now; entries of Raft's own leave it as it was.
    Version(u64),
    /// The records did not fit the image; nothing changed.
    Refused {
        /// What replay said.
        reason: String,
    },
}

pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StorageIOError = openraft::StorageIOError<u64>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, openraft::EmptyNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::EmptyNode>;
pub(super) type Snapshot = openraft::Snapshot<TypeConfig>;
