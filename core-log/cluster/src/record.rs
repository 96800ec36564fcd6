//! The records of the metadata log, in the form in which they are stored.
//!
//! The serialised form is an object with one member: the kind with its version, then the fields. Fields added later get
//! a default; a change that a default cannot express gets a new version of the kind. Names are never reused.
//! Numbers are raw here, since this is the edge; ids become newtypes in the image.
//!
//! # Invariants
//! - A kind this build does not know fails to decode: an old node stops instead of skipping what it cannot understand.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use crate::acl::{AclOperation, AclPermission, PatternType, ResourceType};

/// One change of the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataRecord {
    /// Names the cluster, once and for all.
    #[serde(rename = "cluster.1")]
    Cluster(ClusterRecord),
    /// Finalises the level of a feature.
    #[serde(rename = "feature.1")]
    Feature(FeatureRecord),
    /// Registers a broker, or a new incarnation of it.
    #[serde(rename = "broker.1")]
    Broker(BrokerRecord),
    /// Creates a topic; its partitions follow.
    #[serde(rename = "topic.1")]
    Topic(TopicRecord),
    /// Creates or replaces a partition.
    #[serde(rename = "partition.1")]
    Partition(PartitionRecord),
    /// Removes a topic with its partitions and configs.
    #[serde(rename = "remove_topic.1")]
    RemoveTopic(RemoveTopicRecord),
    /// Sets or clears one config of one resource.
    #[serde(rename = "config.1")]
    Config(ConfigRecord),
    /// Hands out a block of producer ids.
    #[serde(rename = "producer_id_block.1")]
    ProducerIdBlock(ProducerIdBlockRecord),
    /// Sets or clears one quota of one entity.
    #[serde(rename = "client_quota.1")]
    ClientQuota(ClientQuotaRecord),
    /// Sets or clears what is kept of a user's password for one mechanism.
    #[serde(rename = "scram_credential.1")]
    ScramCredential(ScramCredentialRecord),
    /// Makes an access rule.
    #[serde(rename = "acl.1")]
    Acl(AclRecord),
    /// Removes an access rule.
    #[serde(rename = "remove_acl.1")]
    RemoveAcl(RemoveAclRecord),
}

/// See [`MetadataRecord::Cluster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// 22 characters of URL-safe base64 in clusters made by us; any text in principle.
    pub cluster_id: String,
}

/// See [`MetadataRecord::Feature`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureRecord {
    /// The feature, such as `metadata.version`.
    pub name: String,
    /// The level all nodes work at from here on; 0 is off.
    pub level: i16,
}

/// See [`MetadataRecord::Broker`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRecord {
    /// The broker.
    pub broker_id: i32,
    /// Drawn anew by each start of the broker's process.
    pub incarnation_id: Uuid,
    /// Fences what earlier incarnations of the broker still have under way (KIP-631).
    pub broker_epoch: i64,
    /// Where clients reach it.
    pub endpoints: Vec<EndpointRecord>,
    /// The rack it stands in, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}

/// One address of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The listener's name, such as `PLAINTEXT`.
    pub listener: String,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

/// See [`MetadataRecord::Topic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// The topic's identity, never reused (KIP-516).
    pub topic_id: Uuid,
    /// The topic's name, unique among living topics.
    pub name: String,
}

/// See [`MetadataRecord::Partition`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: Uuid,
    /// The partition's index.
    pub partition: i32,
    /// All replicas; the first is the preferred leader.
    pub replicas: Vec<i32>,
    /// The replicas in sync.
    pub isr: Vec<i32>,
    /// The leader, if there is one.
    pub leader: Option<i32>,
    /// Counts leaders.
    pub leader_epoch: i32,
    /// Counts records of this partition: one more than the record before it.
    pub partition_epoch: i32,
}

/// See [`MetadataRecord::RemoveTopic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTopicRecord {
    /// The topic.
    pub topic_id: Uuid,
}

/// See [`MetadataRecord::Config`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// Whose config.
    pub resource: ConfigResourceName,
    /// The key.
    pub key: String,
    /// The value, or nothing to return to the default.
    pub value: Option<String>,
}

/// A resource that has configs, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigResourceName {
    /// A topic, by name.
    Topic(String),
    /// One broker.
    Broker(i32),
    /// All brokers.
    AllBrokers,
    /// A consumer group.
    Group(String),
    /// A subscription to the metrics of clients.
    ClientMetrics(String),
}

/// See [`MetadataRecord::ProducerIdBlock`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlockRecord {
    /// The first id of the block: the end of the block before.
    pub first_producer_id: i64,
    /// The id after the last of the block.
    pub next_producer_id: i64,
}

/// See [`MetadataRecord::ClientQuota`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientQuotaRecord {
    /// The user part of the entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<QuotaName>,
    /// The client id part of the entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<QuotaName>,
    /// The address, which stands alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<QuotaName>,
    /// The key, such as `producer_byte_rate`.
    pub key: String,
    /// The limit, in the shortest decimal form that gives the number again; or nothing to take it away.
    pub limit: Option<String>,
}

/// A part of a quota's entity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaName {
    /// The one of this name.
    Named(String),
    /// Everyone without a quota of their own.
    Default,
}

/// See [`MetadataRecord::ScramCredential`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScramCredentialRecord {
    /// The user's name.
    pub user: String,
    /// The mechanism.
    pub mechanism: ScramMechanismName,
    /// What is kept, or nothing to forget it.
    pub credential: Option<StoredScramCredential>,
}

/// A SCRAM mechanism, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScramMechanismName {
    /// SCRAM-SHA-256.
    #[serde(rename = "sha_256")]
    Sha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "sha_512")]
    Sha512,
}

/// What is kept of a password, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredScramCredential {
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// What the password was salted with.
    pub salt: SecretBytes,
    /// `H(ClientKey)`.
    pub stored_key: SecretBytes,
    /// What the server proves itself with.
    pub server_key: SecretBytes,
}

/// See [`MetadataRecord::Acl`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRecord {
    /// The rule's identity.
    pub id: Uuid,
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// Its name, or how it begins.
    pub name: String,
    /// Which of the two.
    pub pattern: PatternType,
    /// For whom, such as `User:ann`; `User:*` is everybody.
    pub principal: String,
    /// From where: an address, or `*`.
    pub host: String,
    /// What.
    pub operation: AclOperation,
    /// May or must not.
    pub permission: AclPermission,
}

/// See [`MetadataRecord::RemoveAcl`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveAclRecord {
    /// The rule's identity.
    pub id: Uuid,
}

/// Bytes that belong into files only: stored in hexadecimal, left out of `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} hidden bytes]", self.0.len())
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The message does not repeat the text, which is a secret.
        let bad = || D::Error::custom("secret bytes are pairs of hexadecimal digits");
        if !text.len().is_multiple_of(2) {
            return Err(bad());
        }
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
            .collect();
        bytes.map(SecretBytes).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stored form is forever: a change of this text is a change of the format.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let records = vec![
            MetadataRecord::Cluster(ClusterRecord {
                cluster_id: "4L6g3nShT-eMCtK--X86sw".into(),
            }),
            MetadataRecord::Feature(FeatureRecord {
                name: "metadata.version".into(),
                level: 1,
            }),
            MetadataRecord::Broker(BrokerRecord {
                broker_id: 1,
                incarnation_id: id,
                broker_epoch: 7,
                endpoints: vec![EndpointRecord {
                    listener: "PLAINTEXT".into(),
                    host: "h".into(),
                    port: 9092,
                }],
                rack: None,
            }),
            MetadataRecord::Topic(TopicRecord {
                topic_id: id,
                name: "prices".into(),
            }),
            MetadataRecord::Partition(PartitionRecord {
                topic_id: id,
                partition: 0,
                replicas: vec![1, 2],
                isr: vec![1],
                leader: Some(1),
                leader_epoch: 3,
                partition_epoch: 4,
            }),
            MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: id }),
            MetadataRecord::Config(ConfigRecord {
                resource: ConfigResourceName::Topic("prices".into()),
                key: "retention.ms".into(),
                value: Some("1".into()),
            }),
            MetadataRecord::Config(ConfigRecord {
                resource: ConfigResourceName::AllBrokers,
                key: "log.retention.ms".into(),
                value: None,
            }),
            MetadataRecord::Config(ConfigRecord {
                resource: ConfigResourceName::ClientMetrics("slow clients".into()),
                key: "interval.ms".into(),
                value: Some("60000".into()),
            }),
            MetadataRecord::ProducerIdBlock(ProducerIdBlockRecord {
                first_producer_id: 0,
                next_producer_id: 1000,
            }),
            MetadataRecord::ClientQuota(ClientQuotaRecord {
                user: Some(QuotaName::Default),
                client_id: Some(QuotaName::Named("app".into())),
                ip: None,
                key: "request_percentage".into(),
                limit: Some("12.5".into()),
            }),
            MetadataRecord::ScramCredential(ScramCredentialRecord {
                user: "ann".into(),
                mechanism: ScramMechanismName::Sha256,
                credential: Some(StoredScramCredential {
                    iterations: 4096,
                    salt: SecretBytes(vec![0x00, 0x0f]),
                    stored_key: SecretBytes(vec![0xa0]),
                    server_key: SecretBytes(vec![0xff]),
                }),
            }),
            MetadataRecord::ScramCredential(ScramCredentialRecord {
                user: "ann".into(),
                mechanism: ScramMechanismName::Sha512,
                credential: None,
            }),
            MetadataRecord::Acl(AclRecord {
                id,
                resource_type: ResourceType::TransactionalId,
                name: "pay".into(),
                pattern: PatternType::Prefixed,
                principal: "User:*".into(),
                host: "::1".into(),
                operation: AclOperation::IdempotentWrite,
                permission: AclPermission::Deny,
            }),
            MetadataRecord::RemoveAcl(RemoveAclRecord { id }),
        ];
        let lines: Vec<_> = records
            .iter()
            .map(|record| serde_json::to_string(record).unwrap())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
            {"cluster.1":{"cluster_id":"4L6g3nShT-eMCtK--X86sw"}}
            {"feature.1":{"name":"metadata.version","level":1}}
            {"broker.1":{"broker_id":1,"incarnation_id":"01020304-0506-0708-090a-0b0c0d0e0f10","broker_epoch":7,"endpoints":[{"listener":"PLAINTEXT","host":"h","port":9092}]}}
            {"topic.1":{"topic_id":"01020304-0506-0708-090a-0b0c0d0e0f10","name":"prices"}}
            {"partition.1":{"topic_id":"01020304-0506-0708-090a-0b0c0d0e0f10","partition":0,"replicas":[1,2],"isr":[1],"leader":1,"leader_epoch":3,"partition_epoch":4}}
            {"remove_topic.1":{"topic_id":"01020304-0506-0708-090a-0b0c0d0e0f10"}}
            {"config.1":{"resource":{"topic":"prices"},"key":"retention.ms","value":"1"}}
            {"config.1":{"resource":"all_brokers","key":"log.retention.ms","value":null}}
            {"config.1":{"resource":{"client_metrics":"slow clients"},"key":"interval.ms","value":"60000"}}
            {"producer_id_block.1":{"first_producer_id":0,"next_producer_id":1000}}
            {"client_quota.1":{"user":"default","client_id":{"named":"app"},"key":"request_percentage","limit":"12.5"}}
            {"scram_credential.1":{"user":"ann","mechanism":"sha_256","credential":{"iterations":4096,"salt":"000f","stored_key":"a0","server_key":"ff"}}}
            {"scram_credential.1":{"user":"ann","mechanism":"sha_512","credential":null}}
            {"acl.1":{"id":"01020304-0506-0708-090a-0b0c0d0e0f10","resource_type":"transactional_id","name":"pay","pattern":"prefixed","principal":"User:*","host":"::1","operation":"idempotent_write","permission":"deny"}}
            {"remove_acl.1":{"id":"01020304-0506-0708-090a-0b0c0d0e0f10"}}
        "#);
        for (line, record) in lines.iter().zip(&records) {
            assert_eq!(&serde_json::from_str::<MetadataRecord>(line).unwrap(), record);
        }
    }

    #[test]
    fn secrets_are_not_in_the_debug_form_and_not_in_complaints() {
        let secret = SecretBytes(vec![0xab, 0xcd]);
        assert_eq!(format!("{secret:?}"), "[2 hidden bytes]");
        for bad in ["\"abc\"", "\"zzzz\"", "\"+a+b\""] {
            let refused = serde_json::from_str::<SecretBytes>(bad).unwrap_err().to_string();
            assert!(refused.contains("pairs of hexadecimal"), "{refused}");
        }
    }

    #[test]
    fn a_kind_from_the_future_is_refused() {
        assert!(serde_json::from_str::<MetadataRecord>(r#"{"topic.2":{}}"#).is_err());
    }
}
