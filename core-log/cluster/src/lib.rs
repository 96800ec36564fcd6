//! The metadata of a cluster as a replayed state machine, and the controller's decisions about it.
//!
//! A decision reads a [`MetadataImage`] and answers with [`MetadataRecord`]s; replaying records is the only thing that
//! changes an image. The host commits the records through its quorum in between, so every node that replays the same log
//! holds the same image.
//!
//! This crate is pure. It reads no clock, no file, no network, no environment and draws no random numbers: fresh ids,
//! the brokers that are alive and the seed of a placement come in as arguments.
//!
//! # Invariants
//! - META-1: replay is the only mutator; the records of an image replayed onto nothing give the same image.
//! - META-2: a batch of records is replayed as a whole or not at all. Refusal depends on the image and the records only,
//!   so all nodes agree on it; what replay accepts is part of the format and never becomes stricter.
//! - META-3: a partition's epoch grows by one with each of its records, its leader epoch never goes back (semantic 16);
//!   producer-id blocks never overlap. A decision made on an old image is therefore refused by replay, not merged.
//!
//! # Reading order
//! [`MetadataRecord`], [`MetadataImage`], [`decide`], [`config_defs`], [`ConfigView`].

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        reason = "the snapshot macros of the tests use env!"
    )
)]

mod acl;
pub mod config_defs;
mod config_view;
pub mod decide;
mod image;
mod principal;
mod quotas;
mod record;
mod scram;
mod settings;

pub use acl::{
    AclBinding, AclFilter, AclHost, AclOperation, AclPermission, Acls, Authorizer, CLUSTER_NAME,
    PatternFilter, PatternType, Requester, Resource, ResourceType,
};
pub use config_defs::ConfigError;
pub use config_view::{BrokerProperties, ConfigSource, ConfigView, ResolvedConfig, SynonymValue};
pub use image::{BrokerImage, ConfigResource, MetadataImage, PartitionImage, ReplayError, TopicImage};
pub use principal::{Principal, PrincipalError};
pub use quotas::{ClientQuotas, QuotaEntity, QuotaKey, QuotaLimit, QuotaLimits, QuotaScope};
pub use record::{
    AclRecord, BrokerRecord, ClientQuotaRecord, ClusterRecord, ConfigRecord, ConfigResourceName,
    EndpointRecord, FeatureRecord, MetadataRecord, PartitionRecord, ProducerIdBlockRecord, QuotaName,
    RemoveAclRecord, RemoveTopicRecord, ScramCredentialRecord, ScramMechanismName, SecretBytes,
    StoredScramCredential, TopicRecord,
};
pub use scram::{ScramCredential, ScramMechanism, UserScramCredentials};
pub use settings::{
    BrokerSettings, CleanupPolicy, ClientCertificates, GroupBounds, LISTENER_CONFIGS, SecuritySettings,
    TopicSettings,
};
