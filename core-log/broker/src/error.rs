//! Errors: what starting a node can meet, and the one table from failures to Kafka error codes (D11).

use std::net::SocketAddr;
use std::path::PathBuf;

use highwater_cluster::ConfigError;
use highwater_cluster::decide::{
    AclError, AlterError, FeatureError, QuotaError, RegistrationError, ScramError, TopicError,
};
use highwater_storage::{AppendError, DiskFailure, ReadError, StorageError};
use highwater_types::record::BatchError;
use highwater_wire::ErrorCode;

/// Why a node did not start or did not stop cleanly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A property that the registry refuses.
    #[error("node properties: {0}")]
    Property(#[from] ConfigError),
    /// A listener could not be opened.
    #[error("cannot listen on {address} for listener '{listener}': {source}; choose another address")]
    Bind {
        /// Name of the listener.
        listener: String,
        /// The address asked for.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A listener cannot be protected as it was asked to be.
    #[error("security: {0}")]
    Security(#[from] SecurityError),
    /// Two listeners have the same name.
    #[error("listener '{listener}' is named twice; give each listener its own name")]
    DuplicateListener {
        /// The name.
        listener: String,
    },
    /// The data directory or a log in it.
    #[error("data directory {}: {source}", path.display())]
    Storage {
        /// The data directory.
        path: PathBuf,
        /// What the storage says.
        source: StorageError,
    },
    /// The metadata quorum.
    #[error("metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The broker cannot be registered as it is configured.
    #[error("cannot register the broker: {0}")]
    Registration(#[from] RegistrationError),
    /// The metadata quorum did not take the broker's registration.
    #[error("cannot register the broker: {0}")]
    Quorum(#[from] ProposeError),
    /// The data directory belongs to another node or cluster.
    #[error("data directory {} belongs to {found}, this is {expected}; use the directory of this node", path.display())]
    WrongDirectory {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who was started.
        expected: String,
    },
    /// The disk failed while the node ran: it takes no more writes.
    #[error(
        "data directory {} failed: {failure}; nothing is written any more, since what a failing disk says is not to \
         be trusted; check the disk and start the node again",
        path.display()
    )]
    DiskFailed {
        /// The data directory.
        path: PathBuf,
        /// The first failure.
        failure: DiskFailure,
    },
    /// The metadata quorum ended while the node ran: nothing can be created, deleted or configured any more.
    #[error("the metadata quorum has stopped: {reason}; start the node again")]
    MetadataStopped {
        /// What it said.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The blocking work of starting or stopping was cancelled: the runtime is shutting down.
    #[error("the runtime ended while the node was at work")]
    Interrupted,
}

use crate::auth::SecurityError;
pub use crate::metadata::{MetadataError, ProposeError};

/// A failure as a client sees it: the code it acts on and a sentence for people.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ApiError {
            code,
            message: message.into(),
        }
    }

    /// A code whose own message says everything.
    pub(crate) fn plain(code: ErrorCode) -> Self {
        ApiError {
            code,
            message: code.message().to_owned(),
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        ApiError::new(ErrorCode::CorruptMessage, error.to_string())
    }
}

fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::CorruptMessage(_) => ErrorCode::CorruptMessage,
        AppendError::InvalidRecord(_) => ErrorCode::InvalidRecord,
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
        AppendError::StaleLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        AppendError::Fenced(_) | AppendError::Storage(_) => ErrorCode::KafkaStorageError,
        AppendError::NotContinuing { .. } => ErrorCode::UnknownServerError,
        _ => ErrorCode::UnknownServerError,
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        ApiError::new(append_code(&error), error.to_string())
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let code = match error {
            StorageError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            StorageError::UnreadableBatch { .. } => ErrorCode::CorruptMessage,
            _ => ErrorCode::KafkaStorageError,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let code = match error {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            _ => ErrorCode::KafkaStorageError,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            // Others keep changing the metadata first; the client may try again.
            ProposeError::Refused { .. } => ErrorCode::RequestTimedOut,
            ProposeError::NotLeader { .. } => ErrorCode::NotController,
            ProposeError::NoRoom => ErrorCode::RequestTimedOut,
            ProposeError::Stopped { .. } => ErrorCode::BrokerNotAvailable,
        };
        ApiError::new(code, error.to_string())
    }
}

fn config_code(error: &ConfigError) -> ErrorCode {
    match error {
        ConfigError::ReadOnly { .. } | ConfigError::DuplicateKey { .. } => ErrorCode::InvalidRequest,
        _ => ErrorCode::InvalidConfig,
    }
}

impl From<TopicError> for ApiError {
    fn from(error: TopicError) -> Self {
        let code = match &error {
            TopicError::InvalidName(_) | TopicError::NameCollision { .. } => ErrorCode::InvalidTopicException,
            TopicError::AlreadyExists { .. } => ErrorCode::TopicAlreadyExists,
            TopicError::DuplicateInRequest | TopicError::AssignmentWithCounts | TopicError::ReservedName => {
                ErrorCode::InvalidRequest
            }
            TopicError::InvalidPartitionCount { .. } | TopicError::NotMorePartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            TopicError::TooManyPartitions | TopicError::BrokerFull { .. } => ErrorCode::PolicyViolation,
            TopicError::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            TopicError::AssignmentGap { .. }
            | TopicError::AssignmentCount { .. }
            | TopicError::AssignmentReplicaCount { .. }
            | TopicError::AssignmentRepeatsBroker { .. }
            | TopicError::AssignmentUnknownBroker { .. } => ErrorCode::InvalidReplicaAssignment,
            TopicError::InvalidConfig(config) => config_code(config),
            TopicError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            TopicError::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
            TopicError::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
            _ => ErrorCode::UnknownServerError,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<AlterError> for ApiError {
    fn from(error: AlterError) -> Self {
        let code = match &error {
            // Kafka's words for it: "Null value not supported".
            AlterError::Config(ConfigError::NullValue { .. }) => ErrorCode::InvalidRequest,
            AlterError::Config(config) => config_code(config),
            AlterError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
            AlterError::UnknownBroker { .. }
            | AlterError::InvalidGroup
            | AlterError::InvalidSubscription
            | AlterError::DuplicateInRequest => ErrorCode::InvalidRequest,
            AlterError::TooManyGroups | AlterError::TooManySubscriptions => ErrorCode::PolicyViolation,
            _ => ErrorCode::UnknownServerError,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<QuotaError> for ApiError {
    fn from(error: QuotaError) -> Self {
        // All of them are the client's fault.
        ApiError::new(ErrorCode::InvalidRequest, error.to_string())
    }
}

impl From<ScramError> for ApiError {
    fn from(error: ScramError) -> Self {
        let code = match &error {
            ScramError::DuplicateInRequest => ErrorCode::DuplicateResource,
            ScramError::UnknownMechanism { .. } => ErrorCode::UnsupportedSaslMechanism,
            ScramError::NotFound { .. } => ErrorCode::ResourceNotFound,
            ScramError::TooManyUsers => ErrorCode::PolicyViolation,
            _ => ErrorCode::UnacceptableCredential,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<AclError> for ApiError {
    fn from(error: AclError) -> Self {
        let code = match &error {
            AclError::TooManyAcls | AclError::TooManyChanges => ErrorCode::PolicyViolation,
            _ => ErrorCode::InvalidRequest,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<FeatureError> for ApiError {
    fn from(error: FeatureError) -> Self {
        let code = match &error {
            FeatureError::DuplicateInRequest { .. } => ErrorCode::InvalidRequest,
            _ => ErrorCode::InvalidUpdateVersion,
        };
        ApiError::new(code, error.to_string())
    }
}
