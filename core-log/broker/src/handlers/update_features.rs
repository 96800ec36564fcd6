//! UpdateFeatures: finalises the levels of features for the whole cluster (KIP-584, KIP-778).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::MetadataImage;
use highwater_cluster::decide::{self, FeatureDef, FeatureUpdate, UpgradeType};
use highwater_wire::ErrorCode;
use highwater_wire::messages::update_features_request::FeatureUpdateKey;
use highwater_wire::messages::update_features_response::UpdatableFeatureResult;
use highwater_wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::broker::Broker;
use crate::error::ApiError;
use crate::features::FEATURES;

/// From this version on a request says what kind of change it is; version 0 only whether it may go down.
const FIRST_WITH_UPGRADE_TYPE: i16 = 1;

/// Changes all levels or none, or only says whether it would.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    version: i16,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let names: Vec<ByteString> = request
        .feature_updates
        .iter()
        .map(|update| update.feature.clone())
        .collect();
    let updates: Result<Vec<_>, ApiError> = request
        .feature_updates
        .iter()
        .map(|wanted| update(version, wanted))
        .collect();
    let outcome = match updates {
        Ok(updates) => apply(broker, &updates, request.validate_only).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => UpdateFeaturesResponse {
            error_message: None,
            results: names.into_iter().map(success).collect(),
            ..Default::default()
        },
        Err(error) => UpdateFeaturesResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        },
    }
}

async fn apply(broker: &Arc<Broker>, updates: &[FeatureUpdate], validate_only: bool) -> Result<(), ApiError> {
    let supported: Vec<FeatureDef> = FEATURES
        .iter()
        .map(|row| FeatureDef {
            name: row.name,
            min: row.min,
            max: row.max,
            default_level: row.default_level,
        })
        .collect();
    let decide = |image: &MetadataImage| match decide::update_features(image, &supported, updates) {
        Ok(records) => (Ok(()), records),
        Err(error) => (Err(ApiError::from(error)), Vec::new()),
    };
    match validate_only {
        true => decide(&broker.image()).0,
        false => broker.commit(decide).await?,
    }
}

fn update(version: i16, wanted: &FeatureUpdateKey) -> Result<FeatureUpdate, ApiError> {
    let upgrade_type = match (version < FIRST_WITH_UPGRADE_TYPE, wanted.upgrade_type) {
        (true, _) if wanted.allow_downgrade => UpgradeType::SafeDowngrade,
        (true, _) | (false, 1) => UpgradeType::Upgrade,
        (false, 2) => UpgradeType::SafeDowngrade,
        (false, 3) => UpgradeType::UnsafeDowngrade,
        (false, other) => {
            let message = format!("upgrade type {other} is unknown; use 1 (upgrade), 2 or 3 (downgrade)");
            return Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message));
        }
    };
    Ok(FeatureUpdate {
        name: wanted.feature.to_string(),
        level: wanted.max_version_level,
        upgrade_type,
    })
}

fn success(feature: ByteString) -> UpdatableFeatureResult {
    UpdatableFeatureResult {
        feature,
        error_message: None,
        ..Default::default()
    }
}
