//! DescribeClientQuotas and AlterClientQuotas (KIP-546).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::decide::{
    self, Outcome, QuotaAlteration, QuotaError, QuotaFilter, QuotaMatch, RequestedEntity,
};
use highwater_cluster::{MetadataImage, MetadataRecord, QuotaName};
use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_client_quotas_request::ComponentData;
use highwater_wire::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, alter_client_quotas_request, alter_client_quotas_response,
    describe_client_quotas_response,
};

use crate::broker::Broker;
use crate::error::ApiError;

/// The entities that match the filter, with their limits.
pub(crate) fn describe(
    broker: &Arc<Broker>,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    use describe_client_quotas_response::{EntityData, EntryData, ValueData};
    let image = broker.image();
    let parts: Result<Vec<_>, ApiError> = request.components.into_iter().map(part).collect();
    let found = parts.and_then(|parts| {
        let filter = QuotaFilter {
            parts,
            strict: request.strict,
        };
        decide::find_client_quotas(&image, &filter).map_err(|error| match error {
            QuotaError::UnknownEntityType { .. } => {
                ApiError::new(ErrorCode::UnsupportedVersion, error.to_string())
            }
            other => ApiError::from(other),
        })
    });
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            return DescribeClientQuotasResponse {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                entries: None,
                ..Default::default()
            };
        }
    };
    let entries = found
        .into_iter()
        .map(|(entity, limits)| EntryData {
            entity: entity
                .parts()
                .into_iter()
                .map(|(entity_type, name)| EntityData {
                    entity_type: entity_type.into(),
                    entity_name: match name {
                        QuotaName::Named(name) => Some(name.as_str().into()),
                        QuotaName::Default => None,
                    },
                })
                .collect(),
            values: limits
                .iter()
                .map(|(key, limit)| ValueData {
                    key: key.name().into(),
                    value: limit.get(),
                })
                .collect(),
        })
        .collect();
    DescribeClientQuotasResponse {
        error_message: None,
        entries: Some(entries),
        ..Default::default()
    }
}

fn part(component: ComponentData) -> Result<(String, QuotaMatch), ApiError> {
    let wanted = match (component.match_type, component.match_name) {
        (0, Some(name)) => QuotaMatch::Exact(name.to_string()),
        (1, None) => QuotaMatch::Default,
        (2, None) => QuotaMatch::Any,
        (match_type, name) => {
            let given = if name.is_some() { "a name" } else { "no name" };
            let message = format!(
                "match type {match_type} with {given} is not understood; use 0 (exact) with a name, 1 (default) or 2 (any)"
            );
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok((component.entity_type.to_string(), wanted))
}

/// Changes quotas, or only says whether it would; one answer per entity.
pub(crate) async fn alter(
    broker: &Arc<Broker>,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let alterations: Vec<QuotaAlteration> = request.entries.into_iter().map(alteration).collect();
    let decide = |image: &MetadataImage| {
        let outcomes = decide::alter_client_quotas(image, &alterations);
        let good = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records: Vec<MetadataRecord> = good.flatten().cloned().collect();
        (outcomes, records)
    };
    let decided = match request.validate_only {
        true => Ok(decide(&broker.image()).0),
        false => broker.commit(decide).await,
    };
    let entries = match decided {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|Outcome { subject, result }| entry(subject, result.map(|_| ()).map_err(ApiError::from)))
            .collect(),
        Err(error) => alterations
            .into_iter()
            .map(|alteration| entry(alteration.entity, Err(error.clone())))
            .collect(),
    };
    AlterClientQuotasResponse {
        entries,
        ..Default::default()
    }
}

fn alteration(entry: alter_client_quotas_request::EntryData) -> QuotaAlteration {
    let entity = entry.entity.into_iter().map(|part| {
        let name = part.entity_name.map(|name| name.to_string());
        (part.entity_type.to_string(), name)
    });
    let operations = entry.ops.into_iter().map(|operation| {
        let limit = (!operation.remove).then_some(operation.value);
        (operation.key.to_string(), limit)
    });
    QuotaAlteration {
        entity: entity.collect(),
        operations: operations.collect(),
    }
}

fn entry(entity: RequestedEntity, result: Result<(), ApiError>) -> alter_client_quotas_response::EntryData {
    let (code, message) = match result {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, Some(error.message.into())),
    };
    alter_client_quotas_response::EntryData {
        error_code: code.code(),
        error_message: message,
        entity: entity
            .into_iter()
            .map(|(entity_type, name)| alter_client_quotas_response::EntityData {
                entity_type: entity_type.into(),
                entity_name: name.map(ByteString::from),
            })
            .collect(),
    }
}
