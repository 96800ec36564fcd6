//! The server's side of SCRAM (RFC 5802, RFC 7677): two messages in, two messages out.
//!
//! Pure: nonces and credentials come in as arguments. Refuses everything RFC 5802 does not let a client say: channel
//! binding (which is not offered), authorization ids other than the user's own, mandatory extensions, attributes out of
//! order, repeated or missing, a nonce or a header that is not exactly the one agreed upon (CVE-2024-56128).
//!
//! # Invariants
//! - A user that does not exist goes through the same steps, with the same work, as one whose password is wrong.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_cluster::{ScramCredential, ScramMechanism, SecretBytes};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use super::failures::Refusal;
use crate::scram_keys::{Hashes, hashes, scram_keys};

/// Rounds of PBKDF2 for passwords of the users file; what `kafka-configs.sh` takes, too.
pub(crate) const ITERATIONS: u32 = 4096;

/// The longest message of a client; a user's name and two nonces fit many times.
const MAX_MESSAGE_BYTES: usize = 4096;

/// `client-first-message`.
pub(crate) struct ClientFirst {
    gs2_header: String,
    /// `client-first-message-bare`.
    bare: String,
    user: String,
    nonce: String,
}

impl fmt::Debug for ClientFirst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFirst").finish_non_exhaustive()
    }
}

impl ClientFirst {
    /// Takes the message apart.
    pub(crate) fn parse(token: &[u8]) -> Result<Self, Refusal> {
        let text = text_of(token)?;
        let (binding, rest) = text.split_once(',').ok_or(Refusal::Malformed)?;
        if binding.starts_with("p=") {
            return Err(Refusal::ChannelBinding);
        }
        if binding != "n" && binding != "y" {
            return Err(Refusal::Malformed);
        }
        let (authorization_id, bare) = rest.split_once(',').ok_or(Refusal::Malformed)?;
        let mut attributes = bare.split(',');
        let user = attribute(attributes.next(), 'n')?;
        let nonce = attribute(attributes.next(), 'r')?;
        if nonce.is_empty() || user.is_empty() {
            return Err(Refusal::Malformed);
        }
        extensions(attributes, &['n', 'r'])?;
        let user = unescaped(user)?;
        if !authorization_id.is_empty() && unescaped(attribute(Some(authorization_id), 'a')?)? != user {
            return Err(Refusal::OtherIdentity);
        }
        Ok(ClientFirst {
            gs2_header: format!("{binding},{authorization_id},"),
            bare: bare.to_owned(),
            nonce: nonce.to_owned(),
            user,
        })
    }

    /// Who wants to log in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

/// What the server asks, and waits to see answered.
pub(crate) struct Challenge {
    mechanism: ScramMechanism,
    credential: ScramCredential,
    is_known: bool,
    first: ClientFirst,
    nonce: String,
    message: String,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}

/// The credential that a login is checked with.
pub(crate) struct Verifier {
    pub(crate) credential: ScramCredential,
    /// Whether it is somebody's; if not, no proof is good enough.
    pub(crate) is_known: bool,
}

impl Challenge {
    /// Asks for the proof that belongs to `verifier`; `server_nonce` must never have been used before.
    pub(crate) fn new(
        mechanism: ScramMechanism,
        first: ClientFirst,
        verifier: Verifier,
        server_nonce: &str,
    ) -> Self {
        let Verifier { credential, is_known } = verifier;
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = BASE64.encode(&credential.salt);
        let message = format!("r={nonce},s={salt},i={}", credential.iterations);
        Challenge {
            mechanism,
            credential,
            is_known,
            first,
            nonce,
            message,
        }
    }

    /// `server-first-message`.
    pub(crate) fn message(&self) -> &[u8] {
        self.message.as_bytes()
    }

    /// Checks `client-final-message`; gives the user and `server-final-message`.
    pub(crate) fn finish(self, token: &[u8]) -> Result<(String, String), Refusal> {
        let text = text_of(token)?;
        let (without_proof, proof) = text.rsplit_once(',').ok_or(Refusal::Malformed)?;
        let proof = attribute(Some(proof), 'p')?;
        let proof = BASE64.decode(proof).map_err(|_| Refusal::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding = attribute(attributes.next(), 'c')?;
        let nonce = attribute(attributes.next(), 'r')?;
        extensions(attributes, &['c', 'r', 'p'])?;
        if binding != BASE64.encode(&self.first.gs2_header) || nonce != self.nonce {
            return Err(Refusal::OtherExchange);
        }
        let Hashes { hmac, digest } = hashes(self.mechanism);
        let signed = format!("{},{},{without_proof}", self.first.bare, self.message);
        let stored = hmac::Key::new(hmac, &self.credential.stored_key);
        let signature = hmac::sign(&stored, signed.as_bytes());
        let is_length_right = proof.len() == signature.as_ref().len();
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let shown = digest::digest(digest, &client_key);
        let is_key_right = bool::from(shown.as_ref().ct_eq(&self.credential.stored_key));
        let server = hmac::Key::new(hmac, &self.credential.server_key);
        let verifier = BASE64.encode(hmac::sign(&server, signed.as_bytes()));
        if is_length_right & is_key_right & self.is_known {
            Ok((self.first.user, format!("v={verifier}")))
        } else {
            Err(Refusal::Credentials)
        }
    }
}

/// What is kept of a password.
pub(crate) fn credential(
    mechanism: ScramMechanism,
    password: &str,
    salt: Vec<u8>,
    iterations: std::num::NonZeroU32,
) -> ScramCredential {
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let mut salted = vec![0; mechanism.hash_bytes()];
    pbkdf2::derive(algorithm, iterations, &salt, password.as_bytes(), &mut salted);
    let keys = scram_keys(mechanism, &SecretBytes(salted));
    ScramCredential {
        salt,
        iterations: iterations.get(),
        stored_key: keys.stored_key.0,
        server_key: keys.server_key.0,
    }
}

/// Printable text; a NUL or a line break has no place in any attribute.
fn text_of(token: &[u8]) -> Result<&str, Refusal> {
    if token.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::Malformed);
    }
    let text = std::str::from_utf8(token).map_err(|_| Refusal::Malformed)?;
    match text.contains(|c: char| c.is_control()) {
        true => Err(Refusal::Malformed),
        false => Ok(text),
    }
}

/// The value of the attribute that must stand here.
fn attribute(found: Option<&str>, name: char) -> Result<&str, Refusal> {
    found
        .and_then(|text| text.strip_prefix(name)?.strip_prefix('='))
        .ok_or(Refusal::Malformed)
}

/// Optional extensions are allowed and mean nothing; no attribute may come twice, none may be `m`.
fn extensions<'a>(attributes: impl Iterator<Item = &'a str>, taken: &[char]) -> Result<(), Refusal> {
    let mut seen = taken.to_vec();
    for extension in attributes {
        let mut chars = extension.chars();
        let name = chars.next().filter(char::is_ascii_alphabetic);
        // Kafka's clients name one extension by a word, which says that they show a delegation token.
        let named = extension.split_once('=').map(|(name, _)| name);
        match (name, named) {
            (Some(name), Some(word)) if word.len() == 1 => {
                if name == 'm' || seen.contains(&name) {
                    return Err(Refusal::Malformed);
                }
                seen.push(name);
            }
            (Some(_), Some("tokenauth")) => return Err(Refusal::DelegationToken),
            _ => return Err(Refusal::Malformed),
        }
    }
    Ok(())
}

/// `saslname`: a comma is `=2C`, an equals sign is `=3D`, and neither stands for itself.
fn unescaped(name: &str) -> Result<String, Refusal> {
    let mut user = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('=') {
        user.push_str(before);
        let (code, after) = after.split_at_checked(2).ok_or(Refusal::Malformed)?;
        user.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return Err(Refusal::Malformed),
        });
        rest = after;
    }
    user.push_str(rest);
    Ok(user)
}

#[cfg(test)]
mod tests;
