//! Giving and taking SCRAM credentials (KIP-554).

use std::collections::BTreeMap;

use crate::{
    image::MetadataImage,
    record::{MetadataRecord, ScramCredentialRecord, SecretBytes},
    scram::{ScramCredential, ScramMechanism},
};

use super::Outcome;

/// Users with credentials: whoever may give them may give them to any name.
const MAX_SCRAM_USERS: usize = 10_000;

/// Longest name of a user who logs in by SCRAM.
const MAX_USER_NAME_BYTES: usize = 1_024;

/// Fewest rounds: what RFC 7677 asks for, and Kafka.
const MIN_ITERATIONS: u32 = 4_096;

/// Most rounds, as in Kafka: the client does them with each login, so a large number shuts the user out.
const MAX_ITERATIONS: u32 = 16_384;

/// Longest salt; honest ones have some 20 bytes.
const MAX_SALT_BYTES: usize = 1_024;

/// A change of one user's credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramAlteration {
    /// Whose.
    pub user: String,
    /// The mechanism, as its number in the request.
    pub mechanism: i8,
    /// What to do.
    pub change: ScramChange,
}

/// See [`ScramAlteration`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScramChange {
    /// Takes the credential away.
    Delete,
    /// Gives a credential, or another one.
    Set {
        /// Rounds that led to the salted password.
        iterations: i32,
        /// What the password was salted with.
        salt: SecretBytes,
        /// The password after these rounds.
        salted_password: SecretBytes,
    },
}

/// What is kept of a salted password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// `H(HMAC(salted password, "Client Key"))`.
    pub stored_key: SecretBytes,
    /// `HMAC(salted password, "Server Key")`.
    pub server_key: SecretBytes,
}

/// Why a credential was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScramError {
    /// More than one change for a user, be it for different mechanisms: DUPLICATE_RESOURCE (92), as in Kafka.
    #[error(
        "a user's credential cannot be altered twice in the same request; send one request per mechanism"
    )]
    DuplicateInRequest,
    /// A number that stands for no mechanism: UNSUPPORTED_SASL_MECHANISM (33).
    #[error("{code} is no SCRAM mechanism; use 1 (SCRAM-SHA-256) or 2 (SCRAM-SHA-512)")]
    UnknownMechanism {
        /// The number.
        code: i8,
    },
    /// A name that no user has: UNACCEPTABLE_CREDENTIAL (93).
    #[error("a user's name has 1 to {MAX_USER_NAME_BYTES} bytes, none of them a control character")]
    InvalidUser,
    /// Too few rounds protect nobody, too many shut the user out: UNACCEPTABLE_CREDENTIAL (93).
    #[error("{iterations} iterations are not accepted; use {MIN_ITERATIONS} to {MAX_ITERATIONS}")]
    Iterations {
        /// The number as given.
        iterations: i32,
    },
    /// No salt, or far too much: UNACCEPTABLE_CREDENTIAL (93).
    #[error("a salt has 1 to {MAX_SALT_BYTES} bytes")]
    Salt,
    /// A salted password that is not the mechanism's hash: UNACCEPTABLE_CREDENTIAL (93).
    #[error("a salted password of {mechanism} has {expected_bytes} bytes, not {bytes}")]
    SaltedPassword {
        /// The mechanism.
        mechanism: &'static str,
        /// How long it is there.
        expected_bytes: usize,
        /// How long it is.
        bytes: usize,
    },
    /// There is nothing to take away: RESOURCE_NOT_FOUND (91).
    #[error("the user has no {mechanism} credential that could be deleted")]
    NotFound {
        /// The mechanism.
        mechanism: &'static str,
    },
    /// Too many users: POLICY_VIOLATION (44).
    #[error("{MAX_SCRAM_USERS} users have credentials, as many as may; delete some first")]
    TooManyUsers,
}

/// Decides about credentials. One outcome per user, in order of first mention. `derive` turns a salted password into
/// what is kept of it; it must give the same for the same.
pub fn alter_scram_credentials(
    image: &MetadataImage,
    alterations: &[ScramAlteration],
    derive: impl Fn(ScramMechanism, &SecretBytes) -> ScramKeys,
) -> Vec<Outcome<String, Vec<MetadataRecord>, ScramError>> {
    let mut users_left = MAX_SCRAM_USERS.saturating_sub(image.scram_users().len());
    let mut changed: BTreeMap<&str, usize> = BTreeMap::new();
    for alteration in alterations {
        *changed.entry(&alteration.user).or_default() += 1;
    }
    let mut outcomes = Vec::with_capacity(changed.len());
    for alteration in alterations {
        // Answered with the first mention.
        let Some(mentions) = changed.remove(alteration.user.as_str()) else {
            continue;
        };
        let result = match mentions {
            1 => alter(image, alteration, &mut users_left, &derive),
            _ => Err(ScramError::DuplicateInRequest),
        };
        outcomes.push(Outcome {
            subject: alteration.user.clone(),
            result: result.map(|record| vec![MetadataRecord::ScramCredential(record)]),
        });
    }
    outcomes
}

fn alter(
    image: &MetadataImage,
    alteration: &ScramAlteration,
    users_left: &mut usize,
    derive: impl Fn(ScramMechanism, &SecretBytes) -> ScramKeys,
) -> Result<ScramCredentialRecord, ScramError> {
    let user = &alteration.user;
    if !(1..=MAX_USER_NAME_BYTES).contains(&user.len()) || user.contains(char::is_control) {
        return Err(ScramError::InvalidUser);
    }
    let code = alteration.mechanism;
    let mechanism = ScramMechanism::from_code(code).ok_or(ScramError::UnknownMechanism { code })?;
    match &alteration.change {
        ScramChange::Delete => {
            let mechanism_name = mechanism.name();
            let known = image.scram_credential(user, mechanism);
            known.ok_or(ScramError::NotFound {
                mechanism: mechanism_name,
            })?;
            Ok(ScramCredentialRecord {
                user: user.clone(),
                mechanism: mechanism.stored_name(),
                credential: None,
            })
        }
        ScramChange::Set {
            iterations,
            salt,
            salted_password,
        } => {
            let rounds = u32::try_from(*iterations)
                .ok()
                .filter(|rounds| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(rounds))
                .ok_or(ScramError::Iterations {
                    iterations: *iterations,
                })?;
            if !(1..=MAX_SALT_BYTES).contains(&salt.0.len()) {
                return Err(ScramError::Salt);
            }
            if salted_password.0.len() != mechanism.hash_bytes() {
                return Err(ScramError::SaltedPassword {
                    mechanism: mechanism.name(),
                    expected_bytes: mechanism.hash_bytes(),
                    bytes: salted_password.0.len(),
                });
            }
            if !image.scram_users().contains_key(user) {
                *users_left = users_left.checked_sub(1).ok_or(ScramError::TooManyUsers)?;
            }
            let keys = derive(mechanism, salted_password);
            let credential = ScramCredential {
                salt: salt.0.clone(),
                iterations: rounds,
                stored_key: keys.stored_key.0,
                server_key: keys.server_key.0,
            };
            Ok(credential.record(user, mechanism))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(mechanism: ScramMechanism, salted: &SecretBytes) -> ScramKeys {
        let key = |first: u8| {
            let mut key = vec![0; mechanism.hash_bytes()];
            key[0] = first ^ salted.0[0];
            SecretBytes(key)
        };
        ScramKeys {
            stored_key: key(1),
            server_key: key(2),
        }
    }

    fn set(user: &str, mechanism: i8, iterations: i32, salt: usize, password: usize) -> ScramAlteration {
        ScramAlteration {
            user: user.into(),
            mechanism,
            change: ScramChange::Set {
                iterations,
                salt: SecretBytes(vec![9; salt]),
                salted_password: SecretBytes(vec![7; password]),
            },
        }
    }

    fn delete(user: &str, mechanism: i8) -> ScramAlteration {
        ScramAlteration {
            user: user.into(),
            mechanism,
            change: ScramChange::Delete,
        }
    }

    fn decide(image: &MetadataImage, alterations: &[ScramAlteration]) -> Vec<Result<usize, String>> {
        alter_scram_credentials(image, alterations, keys)
            .into_iter()
            .map(|outcome| {
                outcome
                    .result
                    .map(|records| records.len())
                    .map_err(|error| error.to_string())
            })
            .collect()
    }

    #[test]
    fn hostile_85_iterations_and_salts_that_protect_nobody_or_shut_out_the_user_are_refused() {
        let image = MetadataImage::default();
        for iterations in [i32::MIN, -1, 0, 1, 4095, 16385, i32::MAX] {
            let refused = decide(&image, &[set("ann", 1, iterations, 10, 32)])
                .remove(0)
                .unwrap_err();
            assert!(refused.contains("use 4096 to 16384"), "{refused}");
        }
        for salt in [0, MAX_SALT_BYTES + 1] {
            let refused = decide(&image, &[set("ann", 1, 4096, salt, 32)])
                .remove(0)
                .unwrap_err();
            assert!(refused.contains("a salt has"), "{refused}");
        }
        for (mechanism, password) in [(1, 0), (1, 31), (1, 64), (2, 32), (2, 100_000)] {
            let refused = decide(&image, &[set("ann", mechanism, 4096, 10, password)]);
            assert!(
                refused[0].as_ref().unwrap_err().contains("salted password"),
                "{refused:?}"
            );
        }
        for user in ["", "a\nb", "a\0", &"x".repeat(MAX_USER_NAME_BYTES + 1)] {
            let refused = decide(&image, &[set(user, 1, 4096, 10, 32)]);
            assert!(
                refused[0].as_ref().unwrap_err().contains("a user's name"),
                "{refused:?}"
            );
        }
        for mechanism in [i8::MIN, -1, 0, 3] {
            let refused = decide(&image, &[set("ann", mechanism, 4096, 10, 32)]);
            assert!(
                refused[0].as_ref().unwrap_err().contains("no SCRAM mechanism"),
                "{refused:?}"
            );
        }
        assert_eq!(decide(&image, &[set("ann", 1, 4096, 1, 32)]), [Ok(1)]);
        assert_eq!(decide(&image, &[set("ann", 2, 16384, 1, 64)]), [Ok(1)]);
    }

    #[test]
    fn hostile_85_no_more_users_than_may() {
        let all: Vec<_> = (0..MAX_SCRAM_USERS + 2)
            .map(|number| set(&format!("user-{number}"), 1, 4096, 10, 32))
            .collect();
        let decided = decide(&MetadataImage::default(), &all);
        let refused: Vec<_> = decided
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .collect();
        assert_eq!(refused.len(), 2);
        assert!(refused[0].contains("delete some first"), "{refused:?}");
    }

    #[test]
    fn a_user_is_altered_once_per_request_and_credentials_come_and_go() {
        let image = MetadataImage::default();
        let twice = [
            set("ann", 1, 4096, 9, 32),
            delete("bob", 1),
            set("ann", 2, 4096, 9, 64),
        ];
        let decided = decide(&image, &twice);
        assert!(decided[0].as_ref().unwrap_err().contains("twice"), "{decided:?}");
        assert!(
            decided[1]
                .as_ref()
                .unwrap_err()
                .contains("no SCRAM-SHA-256 credential"),
            "{decided:?}"
        );
        assert_eq!(decided.len(), 2);

        let records = |image: &MetadataImage, alteration| {
            alter_scram_credentials(image, &[alteration], keys)
                .remove(0)
                .result
                .unwrap()
        };
        let image = image.apply(&records(&image, set("ann", 1, 4096, 9, 32))).unwrap();
        let kept = image.scram_credential("ann", ScramMechanism::Sha256).unwrap();
        assert_eq!(
            (kept.iterations, kept.stored_key[0], kept.server_key[0]),
            (4096, 1 ^ 7, 2 ^ 7)
        );
        let image = image.apply(&records(&image, delete("ann", 1))).unwrap();
        assert!(image.scram_users().is_empty());
    }
}
