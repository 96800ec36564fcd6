//! A group as a request would leave it, and the records that make it so.
//!
//! # Invariants
//! - CG-3: what is written is applied at once, by the function that replay uses.

use bytestring::ByteString;
use highwater_types::Timestamp;

use super::group::ConsumerGroup;
use super::records::{self, Change, GroupValue};
use crate::effects::CoordinatorRecord;
use crate::records::EncodeError;

/// A group being changed.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    group_id: &'a ByteString,
    group: ConsumerGroup,
    records: Vec<CoordinatorRecord>,
    failed: Option<EncodeError>,
    now: Timestamp,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(group_id: &'a ByteString, group: ConsumerGroup, now: Timestamp) -> Self {
        Self {
            group_id,
            group,
            records: Vec::new(),
            failed: None,
            now,
        }
    }

    /// The group as it stands after all that was written.
    pub(crate) fn group(&self) -> &ConsumerGroup {
        &self.group
    }

    pub(crate) fn group_id(&self) -> &ByteString {
        self.group_id
    }

    /// Adds a record that is not about the consumer group: the tombstone of the classic group it takes over from.
    pub(crate) fn write_before(&mut self, record: CoordinatorRecord) {
        self.records.push(record);
    }

    pub(crate) fn write(&mut self, change: Change) {
        match records::encode(self.group_id, &change, self.now) {
            Ok(record) => self.records.push(record),
            Err(error) => self.failed = Some(error),
        }
        self.group.apply(&change);
    }

    /// The next epoch of the group, made with topics that `metadata_hash` stands for.
    pub(crate) fn bump_epoch(&mut self, metadata_hash: i64) {
        // Only a record nobody wrote in earnest holds the last number; the group then stays at it.
        let epoch = self.group.epoch.saturating_add(1);
        self.write(Change::Group(Some(GroupValue { epoch, metadata_hash })));
    }

    /// Tombstones for a member. The order is Kafka's: its replay refuses another.
    pub(crate) fn remove_member(&mut self, member_id: &ByteString) {
        self.write(Change::Current(member_id.clone(), None));
        self.write(Change::Target(member_id.clone(), None));
        self.write(Change::Member(member_id.clone(), None));
    }

    /// Tombstones for all there is.
    pub(crate) fn remove_group(&mut self) {
        let members: Vec<_> = self.group.members.keys().cloned().collect();
        for member_id in &members {
            self.write(Change::Current(member_id.clone(), None));
        }
        let targets: Vec<_> = self.group.targets.keys().cloned().collect();
        for member_id in targets {
            self.write(Change::Target(member_id, None));
        }
        self.write(Change::TargetEpoch(None));
        for member_id in members {
            self.write(Change::Member(member_id, None));
        }
        let regexes: Vec<_> = self.group.regexes.keys().cloned().collect();
        for regex in regexes {
            self.write(Change::Regex(regex, None));
        }
        self.write(Change::Group(None));
    }

    /// The records, if every one could be written.
    pub(crate) fn into_records(self) -> Result<Vec<CoordinatorRecord>, EncodeError> {
        match self.failed {
            None => Ok(self.records),
            Some(error) => Err(error),
        }
    }
}
