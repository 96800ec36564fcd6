//! InitProducerId: an identity for an idempotent producer (semantic 37). Transactional ids are refused:
//! there is no transaction coordinator yet.

use std::sync::Arc;

use highwater_types::{ProducerEpoch, ProducerId};
use highwater_wire::ErrorCode;
use highwater_wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::NONE;
use crate::broker::Broker;
use crate::error::ApiError;

/// No epoch, in answers.
const NO_EPOCH: i16 = -1;

/// Without a transactional id the answer is always a new id with epoch 0, whatever id and epoch the
/// producer had.
pub(crate) async fn handle(broker: &Arc<Broker>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match identity(broker, &request).await {
        Ok((id, epoch)) => InitProducerIdResponse {
            producer_id: id.get(),
            producer_epoch: epoch.get(),
            ..Default::default()
        },
        Err(error) => {
            tracing::debug!(error = error.message, "no producer id given");
            InitProducerIdResponse {
                error_code: error.code.code(),
                producer_id: NONE,
                producer_epoch: NO_EPOCH,
                ..Default::default()
            }
        }
    }
}

async fn identity(
    broker: &Arc<Broker>,
    request: &InitProducerIdRequest,
) -> Result<(ProducerId, ProducerEpoch), ApiError> {
    if request.transactional_id.is_some() {
        let message = "transactions are not served yet; leave transactional.id out";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    // The answer does not depend on them, but half an identity is a client's mistake (KIP-360).
    if (request.producer_id < 0) != (request.producer_epoch < 0) {
        let message = "producer id and epoch are given together or not at all";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let id = broker
        .producer_ids
        .next(async || broker.take_producer_ids().await)
        .await?;
    Ok((id, ProducerEpoch::new(0)))
}
