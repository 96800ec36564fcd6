//! The row of every API: what its sender must be allowed, after the table "Operations and resources on protocols" of
//! Kafka's documentation.

use highwater_cluster::{AclOperation, Resource};
use highwater_wire::{ApiKey, RequestBody, ResponseBody};

use super::{Access, cluster, groups, topics};
use crate::dispatch::Reply;

/// What becomes of a request before its handler sees it.
pub(crate) enum Verdict {
    /// The handler gets what is left of it; the answer is completed afterwards.
    Serve(RequestBody, Completion),
    /// Nothing is left for the handler.
    Answer(Reply),
}

/// Puts into an answer what was refused before, and takes out what is not to be seen.
pub(crate) type Completion = Option<Box<dyn for<'a> FnOnce(&Access<'a>, &mut Reply) + Send>>;

impl Verdict {
    pub(super) fn all(body: impl Into<RequestBody>) -> Self {
        Verdict::Serve(body.into(), None)
    }

    /// Serves, then lets `complete` change the answer, if there is one of the right kind.
    pub(super) fn then<R>(
        body: impl Into<RequestBody>,
        complete: impl for<'a> FnOnce(&Access<'a>, &mut R) + Send + 'static,
    ) -> Self
    where
        R: TryFrom<ResponseBody> + Into<ResponseBody>,
    {
        let complete = move |access: &Access<'_>, reply: &mut Reply| {
            // What is of another kind closes the connection: it might tell more than it may.
            let served = std::mem::replace(reply, Reply::Close);
            if let Reply::Body(body) = served
                && let Ok(mut response) = R::try_from(body)
            {
                complete(access, &mut response);
                *reply = Reply::Body(response.into());
            }
        };
        Verdict::Serve(body.into(), Some(Box::new(complete)))
    }

    pub(super) fn answer(body: impl Into<ResponseBody>) -> Self {
        Verdict::Answer(Reply::Body(body.into()))
    }
}

/// What the cluster must allow before a request is looked at, for APIs that know nothing finer.
const fn needed_of_cluster(api: ApiKey) -> Option<AclOperation> {
    match api {
        ApiKey::CreateAcls
        | ApiKey::DeleteAcls
        | ApiKey::AlterReplicaLogDirs
        | ApiKey::ElectLeaders
        | ApiKey::AlterPartitionReassignments
        | ApiKey::AlterUserScramCredentials
        | ApiKey::UpdateFeatures => Some(AclOperation::Alter),
        ApiKey::DescribeAcls
        | ApiKey::DescribeLogDirs
        | ApiKey::ListPartitionReassignments
        | ApiKey::DescribeUserScramCredentials
        | ApiKey::DescribeQuorum => Some(AclOperation::Describe),
        ApiKey::DescribeClientQuotas | ApiKey::ListConfigResources => Some(AclOperation::DescribeConfigs),
        ApiKey::AlterClientQuotas => Some(AclOperation::AlterConfigs),
        ApiKey::Produce
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::FindCoordinator
        | ApiKey::JoinGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::SaslHandshake
        | ApiKey::SaslAuthenticate
        | ApiKey::ApiVersions
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::DeleteRecords
        | ApiKey::InitProducerId
        | ApiKey::OffsetForLeaderEpoch
        | ApiKey::DescribeConfigs
        | ApiKey::AlterConfigs
        | ApiKey::CreatePartitions
        | ApiKey::DeleteGroups
        | ApiKey::IncrementalAlterConfigs
        | ApiKey::OffsetDelete
        | ApiKey::DescribeCluster
        | ApiKey::DescribeProducers
        | ApiKey::ConsumerGroupHeartbeat
        | ApiKey::ConsumerGroupDescribe
        | ApiKey::DescribeTopicPartitions => None,
    }
}

/// Judges a request of a sender who may not do everything.
pub(crate) fn judge(access: &Access<'_>, version: i16, body: RequestBody) -> Verdict {
    if let Some(operation) = needed_of_cluster(body.api_key())
        && !access.may(operation, Resource::CLUSTER)
    {
        return cluster::refused(body);
    }
    match body {
        // Whoever has come this far may know what the node speaks, and log in.
        RequestBody::ApiVersions(_) | RequestBody::SaslHandshake(_) | RequestBody::SaslAuthenticate(_) => {
            Verdict::all(body)
        }
        // These ask themselves.
        RequestBody::Fetch(_) | RequestBody::Metadata(_) | RequestBody::DescribeTopicPartitions(_) => {
            Verdict::all(body)
        }
        // The cluster allowed it above.
        RequestBody::CreateAcls(_)
        | RequestBody::DeleteAcls(_)
        | RequestBody::DescribeAcls(_)
        | RequestBody::AlterReplicaLogDirs(_)
        | RequestBody::DescribeLogDirs(_)
        | RequestBody::ElectLeaders(_)
        | RequestBody::AlterPartitionReassignments(_)
        | RequestBody::ListPartitionReassignments(_)
        | RequestBody::DescribeClientQuotas(_)
        | RequestBody::AlterClientQuotas(_)
        | RequestBody::DescribeUserScramCredentials(_)
        | RequestBody::AlterUserScramCredentials(_)
        | RequestBody::DescribeQuorum(_)
        | RequestBody::UpdateFeatures(_)
        | RequestBody::ListConfigResources(_) => Verdict::all(body),
        RequestBody::DescribeCluster(r) => cluster::describe(r),
        RequestBody::Produce(r) => topics::produce(access, version, r),
        RequestBody::ListOffsets(r) => topics::list_offsets(access, r),
        RequestBody::OffsetForLeaderEpoch(r) => topics::epochs(access, r),
        RequestBody::InitProducerId(r) => topics::init_producer_id(access, r),
        RequestBody::CreateTopics(r) => topics::create(access, r),
        RequestBody::DeleteTopics(r) => topics::delete(access, version, r),
        RequestBody::CreatePartitions(r) => topics::create_partitions(access, r),
        RequestBody::DeleteRecords(r) => topics::delete_records(access, r),
        RequestBody::DescribeProducers(r) => topics::describe_producers(access, r),
        RequestBody::DescribeConfigs(r) => cluster::describe_configs(access, r),
        RequestBody::AlterConfigs(r) => cluster::replace_configs(access, r),
        RequestBody::IncrementalAlterConfigs(r) => cluster::alter_configs(access, r),
        RequestBody::FindCoordinator(r) => groups::find_coordinator(access, version, r),
        RequestBody::JoinGroup(r) => groups::join(access, r),
        RequestBody::SyncGroup(r) => groups::sync(access, r),
        RequestBody::Heartbeat(r) => groups::heartbeat(access, r),
        RequestBody::LeaveGroup(r) => groups::leave(access, r),
        RequestBody::ConsumerGroupHeartbeat(r) => groups::consumer_heartbeat(access, r),
        RequestBody::OffsetCommit(r) => groups::commit(access, r),
        RequestBody::OffsetFetch(r) => groups::fetch_offsets(access, version, r),
        RequestBody::OffsetDelete(r) => groups::delete_offsets(access, r),
        RequestBody::DescribeGroups(r) => groups::describe(access, r),
        RequestBody::ConsumerGroupDescribe(r) => groups::consumer_describe(access, r),
        RequestBody::ListGroups(r) => groups::list(access, r),
        RequestBody::DeleteGroups(r) => groups::delete(access, r),
    }
}
