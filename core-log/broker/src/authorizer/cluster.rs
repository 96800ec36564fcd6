//! Requests about the cluster itself, and about configs of whatever has them.

use bytestring::ByteString;
use highwater_cluster::{AclOperation, Resource, ResourceType};
use highwater_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use highwater_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use highwater_wire::messages::create_acls_response::AclCreationResult;
use highwater_wire::messages::delete_acls_response::DeleteAclsFilterResult;
use highwater_wire::messages::describe_configs_response::DescribeConfigsResult;
use highwater_wire::messages::{
    AlterClientQuotasResponse, AlterConfigsRequest, AlterConfigsResponse,
    AlterPartitionReassignmentsResponse, AlterReplicaLogDirsResponse, AlterUserScramCredentialsResponse,
    CreateAclsResponse, DeleteAclsResponse, DescribeAclsResponse, DescribeClientQuotasResponse,
    DescribeClusterRequest, DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeLogDirsResponse, DescribeQuorumResponse, DescribeUserScramCredentialsResponse,
    ElectLeadersResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
    ListConfigResourcesResponse, ListPartitionReassignmentsResponse, UpdateFeaturesResponse,
    alter_client_quotas_response, alter_configs_response, alter_user_scram_credentials_response,
    incremental_alter_configs_response,
};
use highwater_wire::{ErrorCode, RequestBody};

use super::{Access, Verdict, code, refusal};
use crate::handlers::configs::{GROUP, TOPIC};

const DENIED: i16 = ErrorCode::ClusterAuthorizationFailed.code();

fn message() -> Option<ByteString> {
    Some(refusal(ResourceType::Cluster).message.into())
}

/// The answer to a request that the cluster does not allow its sender: the error wherever that answer has place for it.
pub(super) fn refused(body: RequestBody) -> Verdict {
    let error_code = DENIED;
    let error_message = message();
    match body {
        RequestBody::CreateAcls(r) => Verdict::answer(CreateAclsResponse {
            results: vec![
                AclCreationResult {
                    error_code,
                    error_message
                };
                r.creations.len()
            ],
            ..Default::default()
        }),
        RequestBody::DeleteAcls(r) => {
            let result = DeleteAclsFilterResult {
                error_code,
                error_message,
                ..Default::default()
            };
            Verdict::answer(DeleteAclsResponse {
                filter_results: vec![result; r.filters.len()],
                ..Default::default()
            })
        }
        RequestBody::DescribeAcls(_) => Verdict::answer(DescribeAclsResponse {
            error_code,
            error_message,
            ..Default::default()
        }),
        RequestBody::AlterReplicaLogDirs(r) => {
            let topics = r.dirs.into_iter().flat_map(|dir| dir.topics);
            let denied = |partition_index| AlterReplicaLogDirPartitionResult {
                partition_index,
                error_code,
            };
            let results = topics.map(|topic| AlterReplicaLogDirTopicResult {
                topic_name: topic.name,
                partitions: topic.partitions.into_iter().map(denied).collect(),
            });
            Verdict::answer(AlterReplicaLogDirsResponse {
                results: results.collect(),
                ..Default::default()
            })
        }
        RequestBody::DescribeLogDirs(_) => Verdict::answer(DescribeLogDirsResponse {
            error_code,
            ..Default::default()
        }),
        RequestBody::ElectLeaders(_) => Verdict::answer(ElectLeadersResponse {
            error_code,
            ..Default::default()
        }),
        RequestBody::AlterPartitionReassignments(r) => {
            let denied = |partition_index| ReassignablePartitionResponse {
                partition_index,
                error_code,
                error_message: message(),
            };
            let responses = r.topics.into_iter().map(|topic| ReassignableTopicResponse {
                name: topic.name,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|one| denied(one.partition_index))
                    .collect(),
            });
            Verdict::answer(AlterPartitionReassignmentsResponse {
                error_code,
                error_message,
                responses: responses.collect(),
                ..Default::default()
            })
        }
        RequestBody::ListPartitionReassignments(_) => Verdict::answer(ListPartitionReassignmentsResponse {
            error_code,
            error_message,
            ..Default::default()
        }),
        RequestBody::DescribeClientQuotas(_) => Verdict::answer(DescribeClientQuotasResponse {
            error_code,
            error_message,
            entries: None,
            ..Default::default()
        }),
        RequestBody::AlterClientQuotas(r) => {
            let entries = r
                .entries
                .into_iter()
                .map(|entry| alter_client_quotas_response::EntryData {
                    error_code,
                    error_message: message(),
                    entity: entry
                        .entity
                        .into_iter()
                        .map(|part| alter_client_quotas_response::EntityData {
                            entity_type: part.entity_type,
                            entity_name: part.entity_name,
                        })
                        .collect(),
                });
            Verdict::answer(AlterClientQuotasResponse {
                entries: entries.collect(),
                ..Default::default()
            })
        }
        RequestBody::DescribeUserScramCredentials(_) => {
            Verdict::answer(DescribeUserScramCredentialsResponse {
                error_code,
                error_message,
                ..Default::default()
            })
        }
        RequestBody::AlterUserScramCredentials(r) => {
            use alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
            let deletions = r.deletions.into_iter().map(|one| one.name);
            let mut users: Vec<ByteString> = deletions
                .chain(r.upsertions.into_iter().map(|one| one.name))
                .collect();
            users.sort();
            users.dedup();
            let results = users.into_iter().map(|user| AlterUserScramCredentialsResult {
                user,
                error_code,
                error_message: message(),
            });
            Verdict::answer(AlterUserScramCredentialsResponse {
                results: results.collect(),
                ..Default::default()
            })
        }
        RequestBody::DescribeQuorum(_) => Verdict::answer(DescribeQuorumResponse {
            error_code,
            error_message,
            ..Default::default()
        }),
        RequestBody::UpdateFeatures(_) => Verdict::answer(UpdateFeaturesResponse {
            error_code,
            error_message,
            ..Default::default()
        }),
        RequestBody::ListConfigResources(_) => Verdict::answer(ListConfigResourcesResponse {
            error_code,
            ..Default::default()
        }),
        // No other API is refused for want of rights on the cluster; were one, nothing of it would be told.
        _ => Verdict::Answer(crate::dispatch::Reply::Close),
    }
}

/// Open to all; who asks is told what may be done with the cluster.
pub(super) fn describe(request: DescribeClusterRequest) -> Verdict {
    let tells = request.include_cluster_authorized_operations;
    Verdict::then(request, move |access, response: &mut DescribeClusterResponse| {
        if tells && response.error_code == ErrorCode::None.code() {
            response.cluster_authorized_operations = access.cluster_operations();
        }
    })
}

/// Whose rights count for the configs of a resource.
fn configured(resource_type: i8, name: &str) -> Resource<'_> {
    match resource_type {
        TOPIC => Resource::topic(name),
        GROUP => Resource::group(name),
        // Brokers, their loggers, client metrics, and what nobody has heard of.
        _ => Resource::CLUSTER,
    }
}

/// DescribeConfigs on each resource.
pub(super) fn describe_configs(access: &Access<'_>, mut request: DescribeConfigsRequest) -> Verdict {
    let mut denied = Vec::new();
    request.resources.retain(|resource| {
        let wanted = configured(resource.resource_type, &resource.resource_name);
        let may = access.may(AclOperation::DescribeConfigs, wanted);
        if !may {
            let error = refusal(wanted.resource_type);
            denied.push(DescribeConfigsResult {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs: Vec::new(),
            });
        }
        may
    });
    Verdict::then(request, |_, response: &mut DescribeConfigsResponse| {
        response.results.extend(denied);
    })
}

/// AlterConfigs on each resource.
pub(super) fn replace_configs(access: &Access<'_>, mut request: AlterConfigsRequest) -> Verdict {
    let mut denied = Vec::new();
    request.resources.retain(|resource| {
        let wanted = configured(resource.resource_type, &resource.resource_name);
        let may = access.may(AclOperation::AlterConfigs, wanted);
        if !may {
            denied.push(alter_configs_response::AlterConfigsResourceResponse {
                error_code: code(wanted.resource_type).code(),
                error_message: Some(refusal(wanted.resource_type).message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        may
    });
    Verdict::then(request, |_, response: &mut AlterConfigsResponse| {
        response.responses.extend(denied);
    })
}

/// AlterConfigs on each resource.
pub(super) fn alter_configs(access: &Access<'_>, mut request: IncrementalAlterConfigsRequest) -> Verdict {
    let mut denied = Vec::new();
    request.resources.retain(|resource| {
        let wanted = configured(resource.resource_type, &resource.resource_name);
        let may = access.may(AclOperation::AlterConfigs, wanted);
        if !may {
            denied.push(incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code: code(wanted.resource_type).code(),
                error_message: Some(refusal(wanted.resource_type).message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        may
    });
    Verdict::then(request, |_, response: &mut IncrementalAlterConfigsResponse| {
        response.responses.extend(denied);
    })
}
