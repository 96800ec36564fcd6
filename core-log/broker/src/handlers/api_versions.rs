//! ApiVersions: which requests this node serves (KIP-35, KIP-511).

use highwater_wire::messages::api_versions_response::ApiVersion;
use highwater_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use highwater_wire::{ApiKey, ErrorCode};

use crate::broker::Broker;
use crate::features::{self, FEATURES};
use crate::versions::{self, TABLE};

/// From this version on clients say what software they are (KIP-511).
const FIRST_WITH_SOFTWARE: i16 = 3;

/// Answers with the advertised table and the features in force.
pub(crate) fn handle(broker: &Broker, version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let named_well =
        is_software_word(&request.client_software_name) && is_software_word(&request.client_software_version);
    if version >= FIRST_WITH_SOFTWARE && !named_well {
        // Semantic 3.
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    let api_keys = TABLE
        .iter()
        .map(|row| ApiVersion {
            api_key: row.key.as_i16(),
            min_version: row.min,
            max_version: row.max,
        })
        .collect();
    let image = broker.image();
    ApiVersionsResponse {
        api_keys,
        supported_features: features::supported(FEATURES, version),
        finalized_features_epoch: i64::try_from(image.version()).unwrap_or(i64::MAX),
        finalized_features: features::finalized(FEATURES, |name| image.features().get(name).copied()),
        ..Default::default()
    }
}

/// The answer to a version we do not know: sent in version 0, with only our own range in the list so
/// that the client can ask again (semantic 1).
pub(crate) fn unsupported() -> ApiVersionsResponse {
    let api_keys = versions::find(ApiKey::ApiVersions)
        .map(|row| ApiVersion {
            api_key: row.key.as_i16(),
            min_version: row.min,
            max_version: row.max,
        })
        .into_iter()
        .collect();
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys,
        ..Default::default()
    }
}

/// Letters and digits, with dots and dashes inside only.
fn is_software_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    word.chars().all(inner)
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semantic_03_software_words_follow_kip_511() {
        for good in ["librdkafka", "2.15.0", "kafka-python", "a"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "-x", "x.", "a b", "é"] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }
}
