//! Who leads instead: what Produce and Fetch add to an answer that sends a client elsewhere (KIP-951, semantic 32).

use std::collections::BTreeSet;

use highwater_cluster::MetadataImage;
use highwater_types::{BrokerId, PartitionId};
use highwater_wire::ErrorCode;

use super::TopicRef;
use crate::broker::{Address, Broker};
use crate::dispatch::RequestContext;

/// The leader of one partition, as the metadata has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaderHint {
    pub(super) leader_id: i32,
    pub(super) leader_epoch: i32,
}

/// Collects the leaders an answer names.
#[derive(Debug, Default)]
pub(super) struct LeaderHints {
    nodes: BTreeSet<BrokerId>,
}

impl LeaderHints {
    /// The leader to name beside `code`, if the code says that it is another one than the client thinks.
    pub(super) fn hint(
        &mut self,
        code: i16,
        image: &MetadataImage,
        topic: TopicRef<'_>,
        partition: i32,
    ) -> Option<LeaderHint> {
        let sends_elsewhere =
            [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code);
        if !sends_elsewhere.contains(&code) {
            return None;
        }
        let found = image.partition(topic.name(image)?, PartitionId::new(partition))?;
        let leader = found.leader?;
        self.nodes.insert(leader);
        Some(LeaderHint {
            leader_id: leader.get(),
            leader_epoch: found.leader_epoch.get(),
        })
    }

    /// Where the leaders named so far are reached.
    pub(super) fn endpoints(
        &self,
        broker: &Broker,
        image: &MetadataImage,
        context: &RequestContext,
    ) -> Vec<Address> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let mut addresses = broker.addresses(image, &context.listener_name);
        addresses.retain(|address| self.nodes.contains(&address.id));
        addresses
    }
}
