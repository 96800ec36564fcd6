//! Kafka's error codes: numbers, whether a client may try again, and a sentence for people.
//!
//! Numbers and the retriable flag are Kafka's contract (the flag is whether Kafka's exception class is retriable, as of
//! Kafka 4.1); the sentences are ours.

use std::fmt;

macro_rules! error_codes {
    ($($name:ident = $code:literal $retry:ident $message:literal;)*) => {
        /// An error code of the Kafka protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(#[doc = $message] $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, ascending.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code with this number; `None` for numbers that Kafka 4.1 does not define.
            pub const fn try_from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$name),)*
                    _ => None,
                }
            }

            /// Whether the same request may succeed later, perhaps after a refresh of metadata or coordinator.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(ErrorCode::$name => error_codes!(@$retry),)*
                }
            }

            /// The constant's name in Kafka's documentation, such as `OFFSET_OUT_OF_RANGE`.
            pub fn kafka_name(self) -> String {
                let camel = match self {
                    $(ErrorCode::$name => stringify!($name),)*
                };
                let mut name = String::with_capacity(camel.len() + 6);
                for letter in camel.chars() {
                    if letter.is_ascii_uppercase() && !name.is_empty() {
                        name.push('_');
                    }
                    name.push(letter.to_ascii_uppercase());
                }
                name
            }

            /// What happened, in one sentence.
            pub const fn message(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $message,)*
                }
            }
        }
    };
    (@retry) => { true };
    (@final) => { false };
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The code with this number. A number from a newer Kafka reads as [`ErrorCode::UnknownServerError`], as in Kafka's
    /// clients; use [`ErrorCode::try_from_code`] to tell them apart.
    pub const fn from_code(code: i16) -> ErrorCode {
        match ErrorCode::try_from_code(code) {
            Some(known) => known,
            None => ErrorCode::UnknownServerError,
        }
    }

    /// Whether this is an error at all.
    pub const fn is_error(self) -> bool {
        !matches!(self, ErrorCode::None)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.message(), self.code())
    }
}

error_codes! {
    UnknownServerError = -1 final "the server failed in a way it has no code for";
    None = 0 final "no error";
    OffsetOutOfRange = 1 final "the offset lies outside what the partition holds";
    CorruptMessage = 2 retry "a record batch is damaged: checksum, size or structure is wrong";
    UnknownTopicOrPartition = 3 retry "this server does not have that topic or partition";
    InvalidFetchSize = 4 final "the fetch size is not valid";
    LeaderNotAvailable = 5 retry "the partition has no leader at the moment";
    NotLeaderOrFollower = 6 retry "this broker is not the leader, or not a replica, of the partition";
    RequestTimedOut = 7 retry "the request was not completed in time";
    BrokerNotAvailable = 8 final "the broker is not available";
    ReplicaNotAvailable = 9 retry "the replica is not available for the partition";
    MessageTooLarge = 10 final "a record batch is larger than the topic accepts";
    StaleControllerEpoch = 11 final "the controller has moved to another broker";
    OffsetMetadataTooLarge = 12 final "the metadata of a committed offset is too long";
    NetworkException = 13 retry "the connection ended before the response came";
    CoordinatorLoadInProgress = 14 retry "the coordinator is still loading its state";
    CoordinatorNotAvailable = 15 retry "the coordinator is not available";
    NotCoordinator = 16 retry "this broker is not the coordinator of that group or transaction";
    InvalidTopicException = 17 final "the topic name is illegal or the topic does not allow the operation";
    RecordListTooLarge = 18 final "a record batch is larger than a log segment";
    NotEnoughReplicas = 19 retry "too few replicas are in sync to accept the records";
    NotEnoughReplicasAfterAppend = 20 retry "the records were appended, but too few replicas are in sync";
    InvalidRequiredAcks = 21 final "acks must be -1, 0 or 1";
    IllegalGeneration = 22 final "the generation is not the group's present one";
    InconsistentGroupProtocol = 23 final "the member's protocols do not fit those of the group";
    InvalidGroupId = 24 final "the group id is not valid";
    UnknownMemberId = 25 final "the group does not know this member";
    InvalidSessionTimeout = 26 final "the session timeout is outside the range the broker allows";
    RebalanceInProgress = 27 final "the group is rebalancing; join again";
    InvalidCommitOffsetSize = 28 final "the commit is too large to be stored";
    TopicAuthorizationFailed = 29 final "not authorised for the topic";
    GroupAuthorizationFailed = 30 final "not authorised for the group";
    ClusterAuthorizationFailed = 31 final "not authorised for the cluster";
    InvalidTimestamp = 32 final "a record's timestamp is outside the range the topic accepts";
    UnsupportedSaslMechanism = 33 final "the broker does not offer that SASL mechanism";
    IllegalSaslState = 34 final "the request does not fit the state of the SASL exchange";
    UnsupportedVersion = 35 final "the broker does not offer that version of the request";
    TopicAlreadyExists = 36 final "a topic of that name exists";
    InvalidPartitions = 37 final "the number of partitions is not valid";
    InvalidReplicationFactor = 38 final "the replication factor is below 1 or above the number of brokers";
    InvalidReplicaAssignment = 39 final "the replica assignment is not valid";
    InvalidConfig = 40 final "a configuration value is not valid";
    NotController = 41 retry "this broker is not the controller";
    InvalidRequest = 42 final "the request contradicts itself or the protocol";
    UnsupportedForMessageFormat = 43 final "the partition's record format does not support the request";
    PolicyViolation = 44 final "the request violates a policy of the topic or cluster";
    OutOfOrderSequenceNumber = 45 final "the batch's sequence does not follow the producer's last one";
    DuplicateSequenceNumber = 46 final "the batch's sequence was seen before";
    InvalidProducerEpoch = 47 final "the producer's epoch is older than the newest one";
    InvalidTxnState = 48 final "the transaction is in a state that does not allow the operation";
    InvalidProducerIdMapping = 49 final "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50 final "the transaction timeout is above the broker's limit";
    ConcurrentTransactions = 51 retry "another operation on the same transaction is under way";
    TransactionCoordinatorFenced = 52 final "the marker comes from a former transaction coordinator";
    TransactionalIdAuthorizationFailed = 53 final "not authorised for the transactional id";
    SecurityDisabled = 54 final "security is not enabled";
    OperationNotAttempted = 55 final "the operation was not tried because another one of the request failed";
    KafkaStorageError = 56 retry "the broker's storage failed";
    LogDirNotFound = 57 final "the broker has no such log directory";
    SaslAuthenticationFailed = 58 final "SASL authentication failed";
    UnknownProducerId = 59 final "the partition holds no state for the producer id";
    ReassignmentInProgress = 60 final "a partition reassignment is under way";
    DelegationTokenAuthDisabled = 61 final "delegation tokens are not enabled";
    DelegationTokenNotFound = 62 final "the delegation token does not exist";
    DelegationTokenOwnerMismatch = 63 final "the principal is neither owner nor renewer of the token";
    DelegationTokenRequestNotAllowed = 64 final "delegation tokens cannot be requested over this kind of connection";
    DelegationTokenAuthorizationFailed = 65 final "not authorised for the delegation token";
    DelegationTokenExpired = 66 final "the delegation token has expired";
    InvalidPrincipalType = 67 final "the principal type is not supported";
    NonEmptyGroup = 68 final "the group still has members";
    GroupIdNotFound = 69 final "the group does not exist";
    FetchSessionIdNotFound = 70 retry "the broker does not have that fetch session";
    InvalidFetchSessionEpoch = 71 retry "the fetch session's epoch is not the expected one";
    ListenerNotFound = 72 retry "the leader has no listener of the name the request came in by";
    TopicDeletionDisabled = 73 final "deleting topics is disabled";
    FencedLeaderEpoch = 74 retry "the request's leader epoch is older than the broker's";
    UnknownLeaderEpoch = 75 retry "the request's leader epoch is newer than the broker's";
    UnsupportedCompressionType = 76 final "the request's version does not allow that compression";
    StaleBrokerEpoch = 77 final "the broker's epoch has changed";
    OffsetNotAvailable = 78 retry "the new leader does not know its high watermark yet";
    MemberIdRequired = 79 final "join again with the member id given in the response";
    PreferredLeaderNotAvailable = 80 retry "the preferred leader is not available";
    GroupMaxSizeReached = 81 final "the group has as many members as it may have";
    FencedInstanceId = 82 final "another member took over the group instance id";
    EligibleLeadersNotAvailable = 83 retry "no replica that could lead is available";
    ElectionNotNeeded = 84 retry "the partition needs no leader election";
    NoReassignmentInProgress = 85 final "no partition reassignment is under way";
    GroupSubscribedToTopic = 86 final "the group is subscribed to the topic";
    InvalidRecord = 87 final "a record breaks a rule of the broker or topic";
    UnstableOffsetCommit = 88 retry "a transaction with commits for these offsets is still open";
    ThrottlingQuotaExceeded = 89 retry "a quota is exceeded";
    ProducerFenced = 90 final "a newer producer uses the same transactional id";
    ResourceNotFound = 91 final "the resource does not exist";
    DuplicateResource = 92 final "the request names the same resource twice";
    UnacceptableCredential = 93 final "the credential does not meet the requirements";
    InconsistentVoterSet = 94 final "sender or receiver is not in the expected set of voters";
    InvalidUpdateVersion = 95 final "the version of the update is not valid";
    FeatureUpdateFailed = 96 final "the features could not be updated";
    PrincipalDeserializationFailure = 97 final "the principal of a forwarded request cannot be read";
    SnapshotNotFound = 98 final "the snapshot does not exist";
    PositionOutOfRange = 99 final "the position lies outside the snapshot";
    UnknownTopicId = 100 retry "this server does not have a topic of that id";
    DuplicateBrokerRegistration = 101 final "the broker id is in use";
    BrokerIdNotRegistered = 102 final "the broker id is not registered";
    InconsistentTopicId = 103 retry "the topic id in the request is not that of the log";
    InconsistentClusterId = 104 final "the cluster id in the request is not that of this cluster";
    TransactionalIdNotFound = 105 final "the transactional id does not exist";
    FetchSessionTopicIdError = 106 retry "the fetch session mixes topic ids and topic names";
    IneligibleReplica = 107 final "a replica of the new ISR may not be in it";
    NewLeaderElected = 108 final "the partition was changed, and it has a new leader";
    OffsetMovedToTieredStorage = 109 final "the offset has moved to tiered storage";
    FencedMemberEpoch = 110 final "the member's epoch is fenced; give up all partitions and join again";
    UnreleasedInstanceId = 111 final "another member still holds the group instance id";
    UnsupportedAssignor = 112 final "the group does not support the assignor";
    StaleMemberEpoch = 113 final "the member's epoch is old; heartbeat to learn the new one, then try again";
    MismatchedEndpointType = 114 final "the request went to the wrong type of endpoint";
    UnsupportedEndpointType = 115 final "the endpoint type is not supported";
    UnknownControllerId = 116 final "the controller id is not known";
    UnknownSubscriptionId = 117 final "the telemetry subscription is unknown or outdated";
    TelemetryTooLarge = 118 final "the telemetry is larger than the broker accepts";
    InvalidRegistration = 119 final "the controller refuses the broker's registration";
    TransactionAbortable = 120 final "the transaction failed; abort it to go on with the transactional id";
    InvalidRecordState = 121 final "the record is in a state that does not allow the acknowledgement";
    ShareSessionNotFound = 122 retry "the broker does not have that share session";
    InvalidShareSessionEpoch = 123 retry "the share session's epoch is not the expected one";
    FencedStateEpoch = 124 final "the share group's state epoch does not match";
    InvalidVoterKey = 125 final "the voter key is not that of the receiving replica";
    DuplicateVoter = 126 final "the voter is in the set of voters already";
    VoterNotFound = 127 final "the voter is not in the set of voters";
    InvalidRegularExpression = 128 final "the regular expression is not valid";
    RebootstrapRequired = 129 final "the client's metadata is stale; start again from the bootstrap servers";
    StreamsInvalidTopology = 130 final "the streams topology is not valid";
    StreamsInvalidTopologyEpoch = 131 final "the streams topology epoch is not valid";
    StreamsTopologyFenced = 132 final "the streams topology epoch is outdated";
    ShareSessionLimitReached = 133 retry "the broker has as many share sessions as it may have";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_found_by_their_number() {
        for (code, index) in (-1i16..=133).zip(0usize..) {
            assert_eq!(ErrorCode::ALL[index].code(), code);
            assert_eq!(ErrorCode::from_code(code), ErrorCode::ALL[index]);
        }
        assert_eq!(ErrorCode::ALL.len(), 135);
    }

    #[test]
    fn number_from_the_future_reads_as_unknown_server_error() {
        assert_eq!(ErrorCode::from_code(30_000), ErrorCode::UnknownServerError);
        assert_eq!(ErrorCode::try_from_code(30_000), None);
    }

    #[test]
    fn names_and_retriable_flags_agree_with_the_oracle() {
        // Kafka made this one retriable after the oracle's table was written.
        const DIFFERENT: [ErrorCode; 1] = [ErrorCode::ConcurrentTransactions];
        for code in ErrorCode::ALL.iter().copied().filter(|code| code.is_error()) {
            let theirs = kafka_protocol::ResponseError::try_from_code(code.code()).expect("every code but 0");
            assert_eq!(format!("{code:?}"), format!("{theirs:?}"));
            let is_same = code.is_retriable() == theirs.is_retriable();
            assert_eq!(is_same, !DIFFERENT.contains(&code), "{code:?}");
        }
    }
}
