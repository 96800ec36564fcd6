//! From a salted password to what is kept of it (RFC 5802, section 3).

use highwater_cluster::decide::ScramKeys;
use highwater_cluster::{ScramMechanism, SecretBytes};
use ring::{digest, hmac};

/// StoredKey and ServerKey of a salted password.
pub(crate) fn scram_keys(mechanism: ScramMechanism, salted_password: &SecretBytes) -> ScramKeys {
    let (algorithm, hash) = match mechanism {
        ScramMechanism::Sha256 => (hmac::HMAC_SHA256, &digest::SHA256),
        ScramMechanism::Sha512 => (hmac::HMAC_SHA512, &digest::SHA512),
    };
    let salted = hmac::Key::new(algorithm, &salted_password.0);
    let client_key = hmac::sign(&salted, b"Client Key");
    ScramKeys {
        stored_key: SecretBytes(digest::digest(hash, client_key.as_ref()).as_ref().to_vec()),
        server_key: SecretBytes(hmac::sign(&salted, b"Server Key").as_ref().to_vec()),
    }
}
