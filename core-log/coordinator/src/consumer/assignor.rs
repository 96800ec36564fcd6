//! The assignors of the coordinator: who should own what (KIP-848).
//!
//! Both are pure functions of members, topics and the former target; equal inputs give equal outputs, whatever the
//! order of arrival.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::Uuid;

use super::partitions::Partitions;

/// Partitions of each topic that some member reads.
pub(crate) type PartitionCounts = BTreeMap<Uuid, i32>;

/// A member, as an assignor sees it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) member_id: ByteString,
    pub(crate) instance_id: Option<ByteString>,
    /// Topics that exist.
    pub(crate) topics: Arc<BTreeSet<Uuid>>,
    /// The target it had.
    pub(crate) former: Arc<Partitions>,
}

/// A way to share partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignorKind {
    /// Even numbers of partitions, as few moves as possible.
    Uniform,
    /// Contiguous ranges per topic, so that equal partitions of several topics meet at one member.
    Range,
}

impl AssignorKind {
    /// Kafka's name of the assignor.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of a name, in Kafka's spelling or by Kafka's class.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.rsplit('.').next().unwrap_or(name) {
            "uniform" | "UniformAssignor" => Some(Self::Uniform),
            "range" | "RangeAssignor" => Some(Self::Range),
            _ => None,
        }
    }

    /// A target for every subscriber, in their order.
    pub(crate) fn assign(self, subscribers: &[Subscriber], topics: &PartitionCounts) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(subscribers, topics),
            Self::Range => range::assign(subscribers, topics),
        }
    }
}

#[cfg(test)]
mod tests;
