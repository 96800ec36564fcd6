//! DescribeCluster: the brokers and who they are to each other (KIP-700, KIP-919).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::ResourceType;
use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_cluster_response::DescribeClusterBroker;
use highwater_wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::broker::Broker;
use crate::dispatch::RequestContext;

/// The only kind of endpoint that a broker's listener has; the other is a controller's.
const BROKER_ENDPOINTS: i8 = 1;
/// The other kind there is; any further one nobody knows.
const CONTROLLER_ENDPOINTS: i8 = 2;

/// From this version on a request says which endpoints it means.
const FIRST_WITH_ENDPOINT_TYPE: i16 = 1;

/// Answers from the latest image.
pub(crate) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let image = broker.image();
    let mut response = DescribeClusterResponse {
        cluster_id: image.cluster_id().map(ByteString::from).unwrap_or_default(),
        controller_id: broker.node_id.get(),
        ..Default::default()
    };
    if version >= FIRST_WITH_ENDPOINT_TYPE && request.endpoint_type != BROKER_ENDPOINTS {
        let error = match request.endpoint_type {
            CONTROLLER_ENDPOINTS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some("this listener serves brokers' endpoints only".into()),
            ..Default::default()
        };
    }
    if request.include_cluster_authorized_operations {
        // Who may not do everything is told so by the authorizer.
        response.cluster_authorized_operations = ResourceType::Cluster.operation_bits();
    }
    response.brokers = broker
        .addresses(&image, &context.listener_name)
        .into_iter()
        .map(|address| DescribeClusterBroker {
            broker_id: address.id.get(),
            host: address.host,
            port: address.port,
            rack: address.rack,
            ..Default::default()
        })
        .collect();
    response
}
