//! API keys: the generated table plus the rules about headers.

pub use crate::messages::ApiKey;

impl ApiKey {
    /// The key with this number, if the codec knows it.
    pub fn from_i16(number: i16) -> Option<ApiKey> {
        ApiKey::ALL
            .binary_search_by_key(&number, |key| key.as_i16())
            .ok()
            .map(|index| ApiKey::ALL[index])
    }

    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Whether `version` has compact lengths and tagged fields. Versions beyond the codec's count as their successors do.
    pub const fn is_flexible(self, version: i16) -> bool {
        match self.first_flexible_version() {
            Some(first) => version >= first,
            None => false,
        }
    }

    /// Request header version: 2 (tagged fields) in flexible versions, else 1.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Response header version: 1 (tagged fields) in flexible versions, else 0. ApiVersions always has 0, because the
    /// client cannot know yet what the broker speaks (semantic 2, KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_number_and_no_other_number_is() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(key.as_i16()), Some(key));
        }
        for number in [-1, 4, 7, 9999, i16::MIN, i16::MAX] {
            assert_eq!(ApiKey::from_i16(number), None, "{number}");
        }
    }

    #[test]
    fn api_versions_response_header_stays_at_zero_when_flexible() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(8), 0);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
    }

    #[test]
    fn sasl_handshake_and_offset_delete_are_never_flexible() {
        for key in [ApiKey::SaslHandshake, ApiKey::OffsetDelete] {
            assert_eq!(key.first_flexible_version(), None);
            assert_eq!(key.request_header_version(i16::MAX), 1);
        }
    }
}
