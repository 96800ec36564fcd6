//! What clients may do: Kafka's authorizer between the decoded request and its handler.
//!
//! [`Access`] answers single questions; [`guard`] asks them for each request, takes out of it what its sender may not
//! do, and puts the refusals into the answer. Handlers therefore see only what is allowed, but for three that have to
//! ask themselves: Fetch, since sessions remember partitions, and Metadata and DescribeTopicPartitions, since without
//! a list they mean all topics.
//!
//! # Invariants
//! - Every API has a place in [`guard`]: its match has no wildcard arm, so a new one does not compile without.
//! - Whether something exists is not told to who may not describe it.
//! - Without an authorizer, and for callers within the node's own process, nothing of this runs.

mod cluster;
mod groups;
mod guard;
mod topics;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use highwater_cluster::{
    AclOperation, Authorizer, MetadataImage, Principal, Requester, Resource, ResourceType,
};
use highwater_wire::{ApiKey, ErrorCode};

use crate::broker::Broker;
use crate::dispatch::RequestContext;
use crate::error::ApiError;

pub(crate) use guard::{Verdict, judge};

/// Where a request comes from, and with that how far its sender's word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// From within the node's own process: whoever runs the node may do everything.
    Owner,
    /// From a listener; what the client may do is up to the authorizer.
    Client {
        /// The client's address.
        address: IpAddr,
    },
}

/// What the sender of one request may do.
#[derive(Debug)]
pub(crate) struct Access<'a>(Option<Limited<'a>>);

#[derive(Debug)]
struct Limited<'a> {
    broker: &'a Broker,
    authorizer: &'a Authorizer,
    image: Arc<MetadataImage>,
    principal: &'a Principal,
    address: IpAddr,
    api: ApiKey,
}

impl Broker {
    /// What the sender of a request may do.
    pub(crate) fn access<'a>(&'a self, context: &'a RequestContext, api: ApiKey) -> Access<'a> {
        let (Some(authorizer), Caller::Client { address }) = (&self.settings.authorizer, context.caller)
        else {
            return Access(None);
        };
        Access(Some(Limited {
            broker: self,
            authorizer,
            image: self.image(),
            principal: &context.principal,
            address,
            api,
        }))
    }
}

impl Access<'_> {
    /// Whether there is nothing to ask.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.0.is_none()
    }

    /// Whether something that was asked for may be done; a denial is counted and logged.
    pub(crate) fn may(&self, operation: AclOperation, resource: Resource<'_>) -> bool {
        let allowed = self.sees(operation, resource);
        if !allowed && let Some(limited) = &self.0 {
            limited.denied(operation, resource);
        }
        allowed
    }

    /// Whether something may be done that was not asked for by name: a denial only leaves it out.
    pub(crate) fn sees(&self, operation: AclOperation, resource: Resource<'_>) -> bool {
        self.0.as_ref().is_none_or(|limited| {
            let acls = limited.image.acls();
            limited
                .authorizer
                .allows(acls, limited.requester(), operation, resource)
        })
    }

    /// Whether something may be done with at least one resource of a type.
    fn may_somewhere(&self, operation: AclOperation, resource_type: ResourceType) -> bool {
        self.0.as_ref().is_none_or(|limited| {
            let acls = limited.image.acls();
            let requester = limited.requester();
            limited
                .authorizer
                .allows_somewhere(acls, requester, operation, resource_type)
        })
    }

    /// The operations that may be done with a resource, as bits (KIP-430).
    pub(crate) fn operations(&self, resource: Resource<'_>) -> i32 {
        match &self.0 {
            None => resource.resource_type.operation_bits(),
            Some(limited) => {
                let acls = limited.image.acls();
                limited.authorizer.operations(acls, limited.requester(), resource)
            }
        }
    }

    /// The operations that may be done with the cluster, as bits; none for who may not describe it.
    pub(crate) fn cluster_operations(&self) -> i32 {
        match self.may(AclOperation::Describe, Resource::CLUSTER) {
            true => self.operations(Resource::CLUSTER),
            false => 0,
        }
    }

    /// The metadata that the questions are answered by.
    fn image(&self) -> Option<&MetadataImage> {
        self.0.as_ref().map(|limited| &*limited.image)
    }
}

impl<'a> Limited<'a> {
    fn requester(&self) -> Requester<'a> {
        Requester {
            principal: self.principal,
            address: self.address,
        }
    }

    fn denied(&self, operation: AclOperation, resource: Resource<'_>) {
        let api = self.api.name();
        metrics::counter!("highwater_broker_authorization_denials_total", "api" => api).increment(1);
        let Some(denials) = self.broker.denials.note(self.broker.clock.monotonic_ms()) else {
            return;
        };
        // Names come from clients: in `Debug` form, so that they cannot break the line, and not without end.
        let name: String = resource.name.chars().take(SHOWN_CHARS).collect();
        tracing::info!(
            principal = ?self.principal.to_string(), address = %self.address, api, ?operation,
            resource = ?resource.resource_type, ?name, denials,
            "denied; an access rule (ACL) would allow it"
        );
    }
}

/// How much of a name a log line shows.
const SHOWN_CHARS: usize = 100;

/// Time between two log lines about denials: who is denied asks again and again.
pub(crate) const DENIAL_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What is not allowed with a resource of some type, as clients are told.
fn code(resource_type: ResourceType) -> ErrorCode {
    match resource_type {
        ResourceType::Topic => ErrorCode::TopicAuthorizationFailed,
        ResourceType::Group => ErrorCode::GroupAuthorizationFailed,
        ResourceType::Cluster => ErrorCode::ClusterAuthorizationFailed,
        ResourceType::TransactionalId => ErrorCode::TransactionalIdAuthorizationFailed,
        ResourceType::DelegationToken | ResourceType::User => ErrorCode::DelegationTokenAuthorizationFailed,
    }
}

/// [`code`] with its sentence.
fn refusal(resource_type: ResourceType) -> ApiError {
    ApiError::plain(code(resource_type))
}
