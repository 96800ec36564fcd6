//! The decoders of what strangers send before anybody has logged in, for fuzzing. Nothing else uses them.

use std::num::NonZeroU32;

use highwater_cluster::ScramMechanism;

use crate::auth::fuzzing::{
    Challenge, ClientFirst, KeySet, Rules, Verifier, bearer_message, credential, plain_message,
};

/// A message of PLAIN as user and password.
pub fn plain(message: &[u8]) -> Option<(String, String)> {
    let login = plain_message(message).ok()?;
    Some((login.user.to_owned(), login.password.to_owned()))
}

/// Whether these messages of SCRAM-SHA-256 let a client in whose password is `pencil` and whom the server gives `nonce`.
pub fn scram(first: &[u8], nonce: &str, last: &[u8]) -> bool {
    let Ok(first) = ClientFirst::parse(first) else {
        return false;
    };
    let verifier = Verifier {
        credential: credential(
            ScramMechanism::Sha256,
            "pencil",
            b"salt".to_vec(),
            NonZeroU32::MIN,
        ),
        is_known: true,
    };
    Challenge::new(ScramMechanism::Sha256, first, verifier, nonce)
        .finish(last)
        .is_ok()
}

/// A message of OAUTHBEARER as its token.
pub fn bearer(message: &[u8]) -> Option<String> {
    bearer_message(message).ok().map(|login| login.token.to_owned())
}

/// The user of a token, if these keys believe it at this time.
pub fn token(keys: &[u8], token: &str, now_ms: i64) -> Option<String> {
    let rules = Rules {
        issuer: None,
        audience: Vec::new(),
        subject_claim: "sub".to_owned(),
        skew_ms: 0,
    };
    let keys = KeySet::parse(keys).ok()?;
    keys.verify(token, &rules, now_ms).ok().map(|bearer| bearer.user)
}

/// The inside of a certificate's subject as text.
pub fn subject(der: &[u8]) -> Option<String> {
    crate::auth::fuzzing::subject_text(der).ok()
}
