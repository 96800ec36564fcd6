//! The versions a node advertises and accepts: one row per API, narrower than what the codec knows.
//!
//! A row's maximum is the newest version whose *semantics* hold here, not the newest that decodes; the rows of the
//! data path and of groups are those of Apache Kafka 4.1. Kept out on purpose: the transaction APIs. Traps kept in on purpose: Produce is advertised from 0 although 0 to 2
//! close the connection, as in Kafka, since older librdkafka looks for an exact old version before it compresses
//! (KAFKA-18659); JoinGroup is advertised and served from 0, from which the same library infers group support.

use std::ops::RangeInclusive;

use highwater_wire::ApiKey;

/// One API as advertised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiRow {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// The oldest version that is answered; above `min` only for Produce.
    served_from: i16,
}

const fn row(key: ApiKey, min: i16, max: i16) -> ApiRow {
    ApiRow {
        key,
        min,
        max,
        served_from: min,
    }
}

/// The advertised table, in the order of the API keys.
pub(crate) const TABLE: &[ApiRow] = &[
    ApiRow {
        key: ApiKey::Produce,
        min: 0,
        max: 13,
        served_from: 3,
    },
    row(ApiKey::Fetch, 4, 18),
    row(ApiKey::ListOffsets, 1, 10),
    row(ApiKey::Metadata, 0, 13),
    row(ApiKey::OffsetCommit, 2, 9),
    row(ApiKey::OffsetFetch, 1, 9),
    row(ApiKey::FindCoordinator, 0, 6),
    row(ApiKey::JoinGroup, 0, 9),
    row(ApiKey::Heartbeat, 0, 4),
    row(ApiKey::LeaveGroup, 0, 5),
    row(ApiKey::SyncGroup, 0, 5),
    row(ApiKey::DescribeGroups, 0, 6),
    row(ApiKey::ListGroups, 0, 5),
    row(ApiKey::SaslHandshake, 0, 1),
    row(ApiKey::ApiVersions, 0, 4),
    row(ApiKey::CreateTopics, 2, 7),
    row(ApiKey::DeleteTopics, 1, 6),
    row(ApiKey::DeleteRecords, 0, 2),
    row(ApiKey::InitProducerId, 0, 5),
    row(ApiKey::OffsetForLeaderEpoch, 2, 4),
    row(ApiKey::DescribeAcls, 1, 3),
    row(ApiKey::CreateAcls, 1, 3),
    row(ApiKey::DeleteAcls, 1, 3),
    row(ApiKey::DescribeConfigs, 1, 4),
    row(ApiKey::AlterConfigs, 0, 2),
    row(ApiKey::AlterReplicaLogDirs, 1, 2),
    row(ApiKey::DescribeLogDirs, 1, 4),
    row(ApiKey::SaslAuthenticate, 0, 2),
    row(ApiKey::CreatePartitions, 0, 3),
    row(ApiKey::DeleteGroups, 0, 2),
    row(ApiKey::ElectLeaders, 0, 2),
    row(ApiKey::IncrementalAlterConfigs, 0, 1),
    row(ApiKey::AlterPartitionReassignments, 0, 1),
    row(ApiKey::ListPartitionReassignments, 0, 0),
    row(ApiKey::OffsetDelete, 0, 0),
    row(ApiKey::DescribeClientQuotas, 0, 1),
    row(ApiKey::AlterClientQuotas, 0, 1),
    row(ApiKey::DescribeUserScramCredentials, 0, 0),
    row(ApiKey::AlterUserScramCredentials, 0, 0),
    row(ApiKey::DescribeQuorum, 0, 2),
    row(ApiKey::UpdateFeatures, 0, 2),
    row(ApiKey::DescribeCluster, 0, 2),
    row(ApiKey::DescribeProducers, 0, 0),
    row(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    row(ApiKey::ConsumerGroupDescribe, 0, 1),
    row(ApiKey::ListConfigResources, 0, 1),
    row(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The row of `key`, if this node serves it.
pub(crate) fn find(key: ApiKey) -> Option<&'static ApiRow> {
    TABLE.iter().find(|row| row.key == key)
}

impl ApiRow {
    /// The versions that are answered; anything else closes the connection (semantic 5).
    pub(crate) fn served(&self) -> RangeInclusive<i16> {
        self.served_from..=self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semantic_05_every_served_version_is_known_to_the_codec() {
        for row in TABLE {
            let codec = row.key.codec_versions();
            assert!(codec.contains(row.served().start()), "{:?} {:?}", row.key, codec);
            assert!(codec.contains(row.served().end()), "{:?} {:?}", row.key, codec);
        }
    }

    #[test]
    fn keys_ascend_and_appear_once() {
        assert!(
            TABLE
                .windows(2)
                .all(|pair| pair[0].key.as_i16() < pair[1].key.as_i16())
        );
    }
}
