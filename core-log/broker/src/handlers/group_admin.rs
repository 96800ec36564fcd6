//! Requests about groups from the outside: describe, list, delete, delete of commits.

use std::sync::Arc;

use highwater_coordinator::GroupRequest;
use highwater_wire::{RequestBody, ResponseBody};

use super::groups::call;
use crate::broker::Broker;
use crate::dispatch::RequestContext;

/// Hands the request to the shards it concerns and joins their answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    body: RequestBody,
) -> ResponseBody {
    let request = match body {
        RequestBody::DescribeGroups(r) => GroupRequest::Describe(r),
        RequestBody::ConsumerGroupDescribe(r) => GroupRequest::ConsumerDescribe(r),
        RequestBody::ListGroups(r) => GroupRequest::List(r),
        RequestBody::DeleteGroups(r) => GroupRequest::Delete(r),
        RequestBody::OffsetDelete(r) => GroupRequest::OffsetDelete(r),
        other => unreachable!("{} is not dispatched here", other.api_key().name()),
    };
    call(broker, context, version, request).await
}
