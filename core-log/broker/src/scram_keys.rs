//! From a salted password to what is kept of it (RFC 5802, section 3).

use highwater_cluster::decide::ScramKeys;
use highwater_cluster::{ScramMechanism, SecretBytes};
use ring::{digest, hmac};

/// What a mechanism signs and hashes with.
pub(crate) struct Hashes {
    pub(crate) hmac: hmac::Algorithm,
    pub(crate) digest: &'static digest::Algorithm,
}

/// The hash function of a mechanism.
pub(crate) fn hashes(mechanism: ScramMechanism) -> Hashes {
    match mechanism {
        ScramMechanism::Sha256 => Hashes {
            hmac: hmac::HMAC_SHA256,
            digest: &digest::SHA256,
        },
        ScramMechanism::Sha512 => Hashes {
            hmac: hmac::HMAC_SHA512,
            digest: &digest::SHA512,
        },
    }
}

/// StoredKey and ServerKey of a salted password.
pub(crate) fn scram_keys(mechanism: ScramMechanism, salted_password: &SecretBytes) -> ScramKeys {
    let Hashes { hmac, digest } = hashes(mechanism);
    let salted = hmac::Key::new(hmac, &salted_password.0);
    let client_key = hmac::sign(&salted, b"Client Key");
    ScramKeys {
        stored_key: SecretBytes(digest::digest(digest, client_key.as_ref()).as_ref().to_vec()),
        server_key: SecretBytes(hmac::sign(&salted, b"Server Key").as_ref().to_vec()),
    }
}
