//! Changelogs whose state and input positions never part.
//!
//! Every commit of a task appends to each of its changelog partitions the groups that changed (absolute values, so
//! applying one twice is harmless) and then one *marker*: a record that names the commit and the input positions and
//! stream times it stands for. Restoring applies whole commits only and resumes reading input at the marker's
//! positions, not at the consumer group's offsets. So a replayed input record never meets state that already counts it:
//! aggregates are exact after a crash even without transactions. (Output may still repeat: at-least-once.)
//!
//! Worked case: the process dies in the middle of commit 6.
//!
//! ```text
//! changelog A   a=1 a=2 [5]  a=3 [6]        marker 6 arrived
//! changelog B   b=7     [5]  b=8            marker 6 did not: the last commit that all have is 5
//! restore       A: a=2, B: b=7, input from the positions in [5]
//! next commit   A: a=2 (repair) .. [6]   B: b=7 (repair) .. [6]
//! ```
//!
//! The *repair* writes the restored value again for each key of the discarded tail. Without it, the stale `a=3` would be
//! applied by a later restore once any marker follows, and compaction could drop `a=2` in favour of it.
//!
//! A commit after a restore takes the number of the torn one, so a repeated number means that the earlier bearer was torn.
//! A commit starts only after the one before it was acknowledged everywhere, so changelogs of one task differ by at
//! most one commit. Compaction keeps only the newest marker of a segment; the deltas before a lost marker then count as
//! part of the next one, which is right.
//!
//! # Invariants
//! - CL-1: a store never takes records of a commit whose marker it has not seen (except past
//!   [`RESTORE_HOLD_RECORDS`], where a crash during restore is healed by restoring again).
//! - CL-2: all logged stores of a task resume at the same commit.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_types::{
    Offset, Timestamp, TopicName,
    record::{Header, Record},
};
use serde::{Deserialize, Serialize};

/// Key of marker records; the same for all, so that compaction keeps the newest.
pub const MARKER_KEY: &[u8] = b"\xff\xff__highwater_commit_marker";
/// Header that makes a record a marker.
pub const MARKER_HEADER: &[u8] = b"__highwater_commit";

/// Records without a marker that a restore holds back; beyond it the older half is applied. A commit is far smaller
/// (the runtime commits early under pressure); a compacted changelog has long stretches without markers.
pub const RESTORE_HOLD_RECORDS: usize = 1 << 20;

/// How far an operator with a sense of time has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorProgress {
    /// Largest event time seen, ms.
    pub stream_time_ms: Option<i64>,
    /// Windows that end at or before this have spoken their last (semantic row 29), ms.
    pub closed_until_ms: Option<i64>,
}

/// What a commit stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMarker {
    /// Counts the commits of this task, from 1.
    pub commit: u64,
    /// Next offset to read of each input topic (the partition is the task's).
    pub positions: BTreeMap<String, i64>,
    /// Stores whose changelogs carry this commit.
    pub stores: Vec<String>,
    /// Progress of each operator, by the name of its store.
    pub progress: BTreeMap<String, OperatorProgress>,
}

impl CommitMarker {
    /// Next offset to read of one input topic.
    pub fn position(&self, topic: &TopicName) -> Option<Offset> {
        self.positions.get(topic.as_str()).copied().map(Offset::new)
    }

    /// The marker as a changelog record. Its timestamp is the wall clock, which keeps segments of replayed old data
    /// from expiring at once.
    pub(crate) fn to_record(&self, now: Timestamp) -> ChangelogRecord {
        let json =
            serde_json::to_vec(self).expect("maps with text keys, numbers and texts always have a JSON form");
        ChangelogRecord {
            key: Bytes::from_static(MARKER_KEY),
            value: Some(Bytes::from(json)),
            timestamp: now,
            headers: vec![Header::new(
                Bytes::from_static(MARKER_HEADER),
                Some(Bytes::from_static(b"1")),
            )],
        }
    }

    /// The marker of a changelog record: `None` for ordinary records.
    ///
    /// # Errors
    /// The parser's words, when a marker is not readable.
    pub(crate) fn of_record(record: &Record) -> Option<Result<Self, String>> {
        if record.headers.iter().all(|header| header.key != MARKER_HEADER) {
            return None;
        }
        let json = record.value.as_deref().unwrap_or_default();
        Some(serde_json::from_slice(json).map_err(|error| error.to_string()))
    }
}

/// What a store's content stands for; written in the same batch as the content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// First changelog offset not in the store; `None` without a changelog.
    pub changelog_offset: Option<i64>,
    /// The commit.
    pub marker: CommitMarker,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Bytes {
        Bytes::from(
            serde_json::to_vec(self).expect("maps with text keys, numbers and texts always have a JSON form"),
        )
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

/// A record for a changelog partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangelogRecord {
    /// The changelog key.
    pub key: Bytes,
    /// The value; `None` deletes.
    pub value: Option<Bytes>,
    /// Time of the group's value.
    pub timestamp: Timestamp,
    /// Set on markers only.
    pub headers: Vec<Header>,
}
