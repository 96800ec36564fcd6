//! SaslHandshake and SaslAuthenticate where nobody logs in: both are advertised on every listener, as in Kafka, and
//! answered with ILLEGAL_SASL_STATE on those without SASL.

use highwater_wire::ErrorCode;
use highwater_wire::messages::{SaslAuthenticateResponse, SaslHandshakeResponse};

pub(crate) fn handshake() -> SaslHandshakeResponse {
    SaslHandshakeResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        ..Default::default()
    }
}

pub(crate) fn authenticate() -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some("nobody logs in on this listener".into()),
        ..Default::default()
    }
}
