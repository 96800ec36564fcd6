//! ListConfigResources: what has configs (KIP-1142); in version 0, the subscriptions to client metrics only (KIP-1000).

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_wire::ErrorCode;
use highwater_wire::messages::list_config_resources_response::ConfigResource;
use highwater_wire::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::broker::Broker;

/// From this version on a request names the kinds it wants.
const FIRST_WITH_KINDS: i16 = 1;

/// The resources of the kinds asked for, or of all kinds; of groups those that have configs of their own.
pub(crate) fn handle(
    broker: &Arc<Broker>,
    version: i16,
    request: &ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let wanted: BTreeSet<i8> = match version >= FIRST_WITH_KINDS {
        true if request.resource_types.is_empty() => ALL.into(),
        true => request.resource_types.iter().copied().collect(),
        false => [CLIENT_METRICS].into(),
    };
    if !wanted.iter().all(|kind| ALL.contains(kind)) {
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..Default::default()
        };
    }
    let image = broker.image();
    let mut config_resources = Vec::new();
    let mut list = |resource_type: i8, names: Vec<String>| {
        if wanted.contains(&resource_type) {
            config_resources.extend(names.into_iter().map(|name| ConfigResource {
                resource_name: name.into(),
                resource_type,
            }));
        }
    };
    let brokers: Vec<String> = image.brokers().keys().map(|id| id.get().to_string()).collect();
    list(
        TOPIC,
        image
            .topics()
            .map(|topic| topic.name.as_str().to_owned())
            .collect(),
    );
    list(BROKER_LOGGER, brokers.clone());
    list(BROKER, brokers);
    let subscriptions = image.client_metrics_subscriptions();
    list(CLIENT_METRICS, subscriptions.map(str::to_owned).collect());
    list(GROUP, image.configured_groups().map(str::to_owned).collect());
    ListConfigResourcesResponse {
        config_resources,
        ..Default::default()
    }
}
