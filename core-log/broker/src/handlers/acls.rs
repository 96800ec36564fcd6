//! DescribeAcls, CreateAcls and DeleteAcls (KIP-140, KIP-290).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::decide::{self, NewAcl, RequestedAclFilter};
use highwater_cluster::{AclBinding, MetadataImage, MetadataRecord};
use highwater_types::Uuid;
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_acls_request::AclCreation;
use highwater_wire::messages::create_acls_response::AclCreationResult;
use highwater_wire::messages::delete_acls_request::DeleteAclsFilter;
use highwater_wire::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use highwater_wire::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use highwater_wire::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DescribeAclsRequest,
    DescribeAclsResponse,
};

use crate::broker::Broker;
use crate::error::ApiError;

/// Without an authorizer rules would mean nothing, so there are none: SECURITY_DISABLED, as Kafka has it.
fn require_authorizer(broker: &Broker) -> Result<(), ApiError> {
    match &broker.settings.authorizer {
        Some(_) => Ok(()),
        None => {
            let message = "no authorizer is configured on the broker; set authorizer.class.name";
            Err(ApiError::new(ErrorCode::SecurityDisabled, message))
        }
    }
}

/// The rules that the filter matches, by resource pattern.
pub(crate) fn describe(broker: &Broker, request: DescribeAclsRequest) -> DescribeAclsResponse {
    let requested = RequestedAclFilter {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter.map(Into::into),
        pattern: request.pattern_type_filter,
        principal: request.principal_filter.map(Into::into),
        host: request.host_filter.map(Into::into),
        operation: request.operation,
        permission: request.permission_type,
    };
    let understood = require_authorizer(broker).and_then(|()| requested.understood().map_err(ApiError::from));
    let filter = match understood {
        Ok(filter) => filter,
        Err(error) => {
            return DescribeAclsResponse {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                ..Default::default()
            };
        }
    };
    let image = broker.image();
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    let mut last: Option<&AclBinding> = None;
    for (binding, _) in image.acls().find(&filter) {
        let is_same = last.is_some_and(|last| {
            last.resource_type == binding.resource_type
                && last.pattern == binding.pattern
                && last.name == binding.name
        });
        if !is_same {
            resources.push(DescribeAclsResource {
                resource_type: binding.resource_type.code(),
                resource_name: binding.name.as_str().into(),
                pattern_type: binding.pattern.code(),
                acls: Vec::new(),
            });
        }
        last = Some(binding);
        if let Some(resource) = resources.last_mut() {
            resource.acls.push(AclDescription {
                principal: binding.principal.to_string().into(),
                host: binding.host.to_string().into(),
                operation: binding.operation.code(),
                permission_type: binding.permission.code(),
            });
        }
    }
    DescribeAclsResponse {
        error_message: None,
        resources,
        ..Default::default()
    }
}

/// Makes rules; one answer for each, in their order.
pub(crate) async fn create(broker: &Arc<Broker>, request: CreateAclsRequest) -> CreateAclsResponse {
    let acls: Vec<NewAcl> = request.creations.into_iter().map(new_acl).collect();
    let decide = |image: &MetadataImage| {
        let outcomes = decide::create_acls(image, &acls);
        let good = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok());
        let records: Vec<MetadataRecord> = good.flatten().cloned().collect();
        (outcomes, records)
    };
    let decided = match require_authorizer(broker) {
        Ok(()) => broker.commit(decide).await,
        Err(error) => Err(error),
    };
    let results = match decided {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|outcome| creation(outcome.map(|_| ()).map_err(ApiError::from)))
            .collect(),
        Err(error) => acls.iter().map(|_| creation(Err(error.clone()))).collect(),
    };
    CreateAclsResponse {
        results,
        ..Default::default()
    }
}

fn new_acl(wanted: AclCreation) -> NewAcl {
    NewAcl {
        id: Uuid::new_v4(),
        resource_type: wanted.resource_type,
        name: wanted.resource_name.into(),
        pattern: wanted.resource_pattern_type,
        principal: wanted.principal.into(),
        host: wanted.host.into(),
        operation: wanted.operation,
        permission: wanted.permission_type,
    }
}

fn creation(result: Result<(), ApiError>) -> AclCreationResult {
    let (error_code, error_message) = code_and_message(result.err());
    AclCreationResult {
        error_code,
        error_message,
    }
}

/// Removes the rules that filters match; one answer for each filter, in their order.
pub(crate) async fn delete(broker: &Arc<Broker>, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let filters: Vec<RequestedAclFilter> = request.filters.into_iter().map(requested).collect();
    let decided = match require_authorizer(broker) {
        Ok(()) => broker.commit(|image| decide::delete_acls(image, &filters)).await,
        Err(error) => Err(error),
    };
    let filter_results = match decided {
        Ok(removals) => removals
            .into_iter()
            .map(|removal| deletion(removal.map_err(ApiError::from)))
            .collect(),
        Err(error) => filters.iter().map(|_| deletion(Err(error.clone()))).collect(),
    };
    DeleteAclsResponse {
        filter_results,
        ..Default::default()
    }
}

fn requested(filter: DeleteAclsFilter) -> RequestedAclFilter {
    RequestedAclFilter {
        resource_type: filter.resource_type_filter,
        name: filter.resource_name_filter.map(Into::into),
        pattern: filter.pattern_type_filter,
        principal: filter.principal_filter.map(Into::into),
        host: filter.host_filter.map(Into::into),
        operation: filter.operation,
        permission: filter.permission_type,
    }
}

fn deletion(removed: Result<Vec<AclBinding>, ApiError>) -> DeleteAclsFilterResult {
    let (removed, error) = match removed {
        Ok(removed) => (removed, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let (error_code, error_message) = code_and_message(error);
    let matching = removed.into_iter().map(|binding| DeleteAclsMatchingAcl {
        error_message: None,
        resource_type: binding.resource_type.code(),
        pattern_type: binding.pattern.code(),
        principal: binding.principal.to_string().into(),
        host: binding.host.to_string().into(),
        operation: binding.operation.code(),
        permission_type: binding.permission.code(),
        resource_name: binding.name.into(),
        ..Default::default()
    });
    DeleteAclsFilterResult {
        error_code,
        error_message,
        matching_acls: matching.collect(),
    }
}

fn code_and_message(error: Option<ApiError>) -> (i16, Option<ByteString>) {
    match error {
        None => (ErrorCode::None.code(), None),
        Some(error) => (error.code.code(), Some(error.message.into())),
    }
}
