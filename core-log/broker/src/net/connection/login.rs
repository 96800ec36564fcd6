//! The requests of a login on one connection: what the gate decides, as answers.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use highwater_wire::messages::SaslAuthenticateResponse;
use highwater_wire::{ErrorCode, RequestBody, RequestHeader, ResponseBody, encode_response};

use super::{Admission, Connection, Ended};
use crate::auth::Login;
use crate::net::frames::Readable;
use crate::net::outlet::Outlet;

impl<R: Readable, W: Outlet> Connection<R, W> {
    /// Answers SaslHandshake and SaslAuthenticate.
    pub(super) async fn login(&mut self, header: &RequestHeader, body: RequestBody) -> Result<(), Ended> {
        let Some(gate) = &mut self.gate else {
            return Err(Ended::ByHandler);
        };
        let started = self.broker.clock.instant();
        let key = body.api_key();
        let (answer, ends) = match body {
            RequestBody::SaslHandshake(request) => {
                let response = gate.handshake(header.api_version, &request);
                let is_refused = response.error_code != ErrorCode::None.code();
                // As in Kafka: whoever cannot log in so is told how they could, and begins anew.
                (
                    ResponseBody::SaslHandshake(response),
                    is_refused && !gate.is_open(),
                )
            }
            RequestBody::SaslAuthenticate(request) => {
                let login = gate.token(&self.broker, &request.auth_bytes).await;
                let is_open = gate.is_open();
                let (response, ends) = framed(&login, is_open);
                self.enter(login);
                (ResponseBody::SaslAuthenticate(response), ends)
            }
            _ => return Err(Ended::ByHandler),
        };
        self.broker
            .telemetry
            .request(key, self.broker.clock.instant() - started);
        self.broker.telemetry.errors(&answer);
        let frame = encode_response(key, header.api_version, header.correlation_id, &answer);
        self.sink.push(frame);
        self.expect_what_follows();
        if ends { Err(Ended::LoginAnswered) } else { Ok(()) }
    }

    /// Answers a token without a header, which follows the oldest handshake. A failure has no form there but closing.
    pub(super) async fn bare_token(&mut self, token: Bytes) -> Result<(), Ended> {
        let Some(gate) = &mut self.gate else {
            return Err(Ended::ByHandler);
        };
        let login = gate.token(&self.broker, &token).await;
        let message = match &login {
            Login::Asks(message) | Login::Done { message, .. } => message,
            Login::OutOfTurn | Login::Refused(_) => return Err(Ended::LoginRefused),
        };
        // What the node says in a login is a few hundred bytes.
        let mut frame = BytesMut::with_capacity(4 + message.len());
        frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
        frame.put_slice(message);
        self.sink.push_bytes(frame.freeze());
        self.enter(login);
        self.expect_what_follows();
        Ok(())
    }

    /// From here on requests are those of whoever has logged in.
    fn enter(&mut self, login: Login) {
        if let Login::Done { principal, .. } = login {
            self.context.principal = principal;
        }
    }

    fn expect_what_follows(&mut self) {
        let Some(gate) = &self.gate else { return };
        let has_session = gate.deadline().is_none();
        self.source.expect(if has_session && !gate.awaits_bare_token() {
            Admission::of_requests(&self.broker)
        } else {
            Admission::of_login(&self.broker, gate)
        });
    }
}

/// The answer to a token, and whether it is the last of this connection.
fn framed(login: &Login, is_open: bool) -> (SaslAuthenticateResponse, bool) {
    let refused = |code: ErrorCode, message: &'static str| SaslAuthenticateResponse {
        error_code: code.code(),
        error_message: Some(message.into()),
        ..Default::default()
    };
    match login {
        Login::OutOfTurn => (
            refused(
                ErrorCode::IllegalSaslState,
                "SaslAuthenticate comes after a SaslHandshake that names the mechanism",
            ),
            !is_open,
        ),
        Login::Refused(told) => (refused(ErrorCode::SaslAuthenticationFailed, told), true),
        Login::Asks(message) => (
            SaslAuthenticateResponse {
                auth_bytes: Bytes::copy_from_slice(message),
                ..Default::default()
            },
            false,
        ),
        Login::Done {
            message, lifetime, ..
        } => (
            SaslAuthenticateResponse {
                auth_bytes: Bytes::copy_from_slice(message),
                session_lifetime_ms: lifetime.map_or(0, whole_ms),
                ..Default::default()
            },
            false,
        ),
    }
}

/// A lifetime as answers carry it; 0 would mean for ever.
fn whole_ms(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX).max(1)
}
