//! Which version of each request to use with a broker: the highest that both sides have.
//!
//! A broker's minimum is not always to be believed from its maximum: Kafka 4 advertises Produce from version 0 on
//! although it refuses 0 to 2 (KAFKA-18659), and others have had minimums above a client's maximum. So the choice is
//! made from the intersection, from the top.

use std::{collections::HashMap, ops::RangeInclusive};

use highwater_types::ByteString;
use highwater_wire::{
    ApiKey, ErrorCode, RequestBody, ResponseBody,
    messages::{ApiVersionsRequest, ApiVersionsResponse},
};

use crate::{TransportError, transport::Connection};

/// The versions this client is written for, where the codec knows more than it uses.
///
/// Produce above 11 and Fetch above 12 name topics by id only or imply transactions of KIP-890; OffsetCommit and
/// OffsetFetch above 9 name topics by id; Metadata above 12 and the rest are as the codec has them.
fn client_maximum(api: ApiKey) -> i16 {
    match api {
        ApiKey::ApiVersions => 3,
        ApiKey::Produce => 11,
        ApiKey::Fetch => 12,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        ApiKey::InitProducerId => 4,
        ApiKey::Metadata => 12,
        ApiKey::ListOffsets => 10,
        ApiKey::DescribeGroups => 5,
        _ => i16::MAX,
    }
}

/// The versions below which this client would lose what it relies on: record batches of format 2 for Produce and
/// Fetch, offsets per timestamp for ListOffsets, commits without a retention field of their own kind.
fn client_minimum(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce => 3,
        ApiKey::Fetch => 4,
        ApiKey::ListOffsets | ApiKey::Metadata => 1,
        ApiKey::OffsetCommit => 2,
        ApiKey::OffsetFetch => 1,
        _ => 0,
    }
}

/// What one broker speaks, cut down to what this client speaks.
#[derive(Debug, Clone, Default)]
pub(crate) struct VersionTable {
    common: HashMap<i16, RangeInclusive<i16>>,
}

impl VersionTable {
    pub(crate) fn negotiate(response: &ApiVersionsResponse) -> Self {
        let offered = response.api_keys.iter().filter_map(|key| {
            let api = ApiKey::from_i16(key.api_key)?;
            let codec = api.codec_versions();
            let low = key.min_version.max(*codec.start()).max(client_minimum(api));
            let high = key.max_version.min(*codec.end()).min(client_maximum(api));
            (low <= high).then_some((key.api_key, low..=high))
        });
        Self {
            common: offered.collect(),
        }
    }

    /// The highest common version.
    pub(crate) fn latest(&self, api: ApiKey) -> Option<i16> {
        self.common.get(&api.as_i16()).map(|range| *range.end())
    }
}

/// Asks in version 3, and again in version 0 when the broker knows only older ones (KIP-511).
pub(crate) async fn ask_versions(
    connection: &dyn Connection,
) -> Result<Option<ApiVersionsResponse>, TransportError> {
    let request = ApiVersionsRequest {
        client_software_name: ByteString::from_static("highwater"),
        client_software_version: ByteString::from_static(env!("CARGO_PKG_VERSION")),
    };
    for version in [3, 0] {
        let answer = connection
            .call(version, RequestBody::ApiVersions(request.clone()))
            .await?;
        match answer {
            ResponseBody::ApiVersions(response)
                if version > 0 && response.error_code == ErrorCode::UnsupportedVersion.code() => {}
            ResponseBody::ApiVersions(response) => return Ok(Some(response)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use highwater_wire::messages::api_versions_response::ApiVersion;

    use super::*;

    fn table(api: ApiKey, min_version: i16, max_version: i16) -> VersionTable {
        let key = ApiVersion {
            api_key: api.as_i16(),
            min_version,
            max_version,
        };
        VersionTable::negotiate(&ApiVersionsResponse {
            api_keys: vec![key],
            ..Default::default()
        })
    }

    #[test]
    fn the_highest_version_both_sides_have_is_taken() {
        assert_eq!(table(ApiKey::Produce, 0, 7).latest(ApiKey::Produce), Some(7));
        assert_eq!(table(ApiKey::Fetch, 4, 18).latest(ApiKey::Fetch), Some(12));
        assert_eq!(table(ApiKey::Heartbeat, 0, 3).latest(ApiKey::Heartbeat), Some(3));
    }

    #[test]
    fn ranges_that_do_not_meet_offer_nothing() {
        assert_eq!(
            table(ApiKey::Produce, 0, 2).latest(ApiKey::Produce),
            None,
            "message sets only"
        );
        assert_eq!(
            table(ApiKey::Produce, 90, 95).latest(ApiKey::Produce),
            None,
            "all too new"
        );
        assert_eq!(
            table(ApiKey::Produce, 7, 3).latest(ApiKey::Produce),
            None,
            "an empty range"
        );
        assert_eq!(
            table(ApiKey::Fetch, 4, 12).latest(ApiKey::Produce),
            None,
            "not offered at all"
        );
    }

    #[test]
    fn keys_this_client_has_never_heard_of_are_passed_over() {
        let key = ApiVersion {
            api_key: 9999,
            min_version: 0,
            max_version: 1,
        };
        let table = VersionTable::negotiate(&ApiVersionsResponse {
            api_keys: vec![key],
            ..Default::default()
        });
        assert_eq!(table.latest(ApiKey::Produce), None);
    }
}
