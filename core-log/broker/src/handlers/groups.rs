//! The requests of group members: join, sync, heartbeat (of both protocols), leave, commit, fetch of commits.

use std::collections::HashMap;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_coordinator::{ClientContext, GroupRequest};
use highwater_types::{PartitionId, Uuid};
use highwater_wire::messages::OffsetCommitRequest;
use highwater_wire::messages::offset_commit_request::OffsetCommitRequestTopic;
use highwater_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_wire::{ErrorCode, RequestBody, ResponseBody};

use crate::broker::Broker;
use crate::dispatch::RequestContext;

/// Hands the request to its shard.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    body: RequestBody,
) -> ResponseBody {
    let request = match body {
        RequestBody::JoinGroup(r) => GroupRequest::Join(r),
        RequestBody::SyncGroup(r) => GroupRequest::Sync(r),
        RequestBody::Heartbeat(r) => GroupRequest::Heartbeat(r),
        RequestBody::LeaveGroup(r) => GroupRequest::Leave(r),
        RequestBody::OffsetCommit(r) => return commit(broker, context, version, r).await,
        RequestBody::OffsetFetch(r) => GroupRequest::OffsetFetch(r),
        RequestBody::ConsumerGroupHeartbeat(r) => GroupRequest::ConsumerHeartbeat(r),
        other => unreachable!("{} is not dispatched here", other.api_key().name()),
    };
    call(broker, context, version, request).await
}

/// Hands a request to the shards it concerns.
pub(crate) async fn call(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: GroupRequest,
) -> ResponseBody {
    let client = ClientContext {
        client_id: context.client_id.clone().unwrap_or_default(),
        client_host: context.client_host.clone(),
        api_version: version,
        member_id_seed: Uuid::new_v4().as_u128(),
    };
    broker
        .groups
        .call(&client, request, broker.offsets_partitions())
        .await
}

/// Offsets of partitions that do not exist are refused here, since shards do not know topics; the
/// others go on.
async fn commit(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    mut request: OffsetCommitRequest,
) -> ResponseBody {
    let unknown = take_unknown(broker, &mut request);
    if unknown.is_empty() {
        return call(broker, context, version, GroupRequest::OffsetCommit(request)).await;
    }
    let answer = call(broker, context, version, GroupRequest::OffsetCommit(request)).await;
    let ResponseBody::OffsetCommit(mut response) = answer else {
        return answer;
    };
    for (name, partitions) in unknown {
        let refused = partitions
            .into_iter()
            .map(|partition_index| OffsetCommitResponsePartition {
                partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
            });
        match response.topics.iter_mut().find(|topic| topic.name == name) {
            Some(topic) => topic.partitions.extend(refused),
            None => response.topics.push(OffsetCommitResponseTopic {
                name,
                partitions: refused.collect(),
            }),
        }
    }
    ResponseBody::OffsetCommit(response)
}

fn take_unknown(broker: &Broker, request: &mut OffsetCommitRequest) -> HashMap<ByteString, Vec<i32>> {
    let image = broker.image();
    let mut unknown: HashMap<ByteString, Vec<i32>> = HashMap::new();
    for topic in &mut request.topics {
        let OffsetCommitRequestTopic { name, partitions, .. } = topic;
        partitions.retain(|partition| {
            let id = PartitionId::new(partition.partition_index);
            let exists = image.partition(name, id).is_some();
            if !exists {
                unknown
                    .entry(name.clone())
                    .or_default()
                    .push(partition.partition_index);
            }
            exists
        });
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    unknown
}
