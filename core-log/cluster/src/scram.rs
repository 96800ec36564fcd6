//! What is kept of a user's password for SCRAM (RFC 5802, KIP-554): enough to check a proof, not enough to give one.

use std::{collections::BTreeMap, fmt};

use crate::record::{ScramCredentialRecord, ScramMechanismName, SecretBytes, StoredScramCredential};

/// A SCRAM mechanism, by its hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramMechanism {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
}

/// The verifier of one user's password under one mechanism.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Random bytes the password was salted with.
    pub salt: Vec<u8>,
    /// Rounds of PBKDF2.
    pub iterations: u32,
    /// `H(ClientKey)`.
    pub stored_key: Vec<u8>,
    /// What the server proves itself with.
    pub server_key: Vec<u8>,
}

impl ScramMechanism {
    /// Both of them.
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    /// Its name in SASL.
    pub const fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// Its number in Kafka's requests (KIP-554).
    pub const fn code(self) -> i8 {
        match self {
            ScramMechanism::Sha256 => 1,
            ScramMechanism::Sha512 => 2,
        }
    }

    /// The mechanism of a number in Kafka's requests.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            1 => Some(ScramMechanism::Sha256),
            2 => Some(ScramMechanism::Sha512),
            _ => None,
        }
    }

    /// The mechanism of a name in SASL.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Length of its hashes, in bytes.
    pub const fn hash_bytes(self) -> usize {
        match self {
            ScramMechanism::Sha256 => 32,
            ScramMechanism::Sha512 => 64,
        }
    }
}

/// The credentials of one user, by mechanism; never empty in an image.
pub type UserScramCredentials = BTreeMap<ScramMechanism, ScramCredential>;

impl ScramMechanism {
    /// The form in which the mechanism is stored.
    pub(crate) const fn stored_name(self) -> ScramMechanismName {
        match self {
            ScramMechanism::Sha256 => ScramMechanismName::Sha256,
            ScramMechanism::Sha512 => ScramMechanismName::Sha512,
        }
    }

    pub(crate) const fn from_stored(name: ScramMechanismName) -> Self {
        match name {
            ScramMechanismName::Sha256 => ScramMechanism::Sha256,
            ScramMechanismName::Sha512 => ScramMechanism::Sha512,
        }
    }
}

impl ScramCredential {
    /// The record that gives the user this credential.
    pub(crate) fn record(&self, user: &str, mechanism: ScramMechanism) -> ScramCredentialRecord {
        ScramCredentialRecord {
            user: user.to_owned(),
            mechanism: mechanism.stored_name(),
            credential: Some(StoredScramCredential {
                iterations: self.iterations,
                salt: SecretBytes(self.salt.clone()),
                stored_key: SecretBytes(self.stored_key.clone()),
                server_key: SecretBytes(self.server_key.clone()),
            }),
        }
    }

    /// What was stored, if it is whole.
    pub(crate) fn from_stored(mechanism: ScramMechanism, stored: &StoredScramCredential) -> Option<Self> {
        let is_hash = |key: &SecretBytes| key.0.len() == mechanism.hash_bytes();
        let whole = is_hash(&stored.stored_key)
            && is_hash(&stored.server_key)
            && !stored.salt.0.is_empty()
            && stored.iterations > 0;
        whole.then(|| ScramCredential {
            salt: stored.salt.0.clone(),
            iterations: stored.iterations,
            stored_key: stored.stored_key.0.clone(),
            server_key: stored.server_key.0.clone(),
        })
    }
}

impl fmt::Debug for ScramCredential {
    /// Salt and keys stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
