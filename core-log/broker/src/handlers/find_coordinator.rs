//! FindCoordinator: which broker holds a group. The first one to ask makes the offsets topic.

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::MetadataImage;
use highwater_coordinator::partition_for_group;
use highwater_wire::ErrorCode;
use highwater_wire::messages::find_coordinator_response::Coordinator;
use highwater_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::broker::{Address, Broker};
use crate::dispatch::RequestContext;
use crate::error::ApiError;
use crate::groups::OFFSETS_TOPIC;

const GROUP: i8 = 0;
const NO_NODE: i32 = -1;

/// From this version on a request asks about several keys (KIP-699).
const FIRST_WITH_BATCH: i16 = 4;

/// Answers each key by itself.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let ready = prepare(broker, request.key_type).await;
    let image = broker.image();
    let find = |key: &ByteString| ready.clone().and_then(|()| locate(broker, context, &image, key));
    if version >= FIRST_WITH_BATCH {
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| entry(find(&key), key))
            .collect();
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    match find(&request.key) {
        Ok(address) => FindCoordinatorResponse {
            error_message: Some(ByteString::new()),
            node_id: address.id.get(),
            host: address.host,
            port: address.port,
            ..Default::default()
        },
        Err(error) => FindCoordinatorResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            node_id: NO_NODE,
            port: NO_NODE,
            ..Default::default()
        },
    }
}

async fn prepare(broker: &Arc<Broker>, key_type: i8) -> Result<(), ApiError> {
    if key_type != GROUP {
        let message = "only groups have coordinators here; transactions are not served yet";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    broker.ensure_offsets_topic().await
}

fn locate(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    group: &str,
) -> Result<Address, ApiError> {
    let unavailable = || ApiError::plain(ErrorCode::CoordinatorNotAvailable);
    let topic = image.topic(OFFSETS_TOPIC).ok_or_else(unavailable)?;
    let partition = topic.partition(partition_for_group(group, topic.partition_count()));
    let leader = partition
        .and_then(|partition| partition.leader)
        .ok_or_else(unavailable)?;
    let addresses = broker.addresses(image, &context.listener_name);
    addresses
        .into_iter()
        .find(|address| address.id == leader)
        .ok_or_else(unavailable)
}

fn entry(found: Result<Address, ApiError>, key: ByteString) -> Coordinator {
    match found {
        Ok(address) => Coordinator {
            key,
            node_id: address.id.get(),
            host: address.host,
            port: address.port,
            error_message: Some(ByteString::new()),
            ..Default::default()
        },
        Err(error) => Coordinator {
            key,
            node_id: NO_NODE,
            port: NO_NODE,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        },
    }
}
