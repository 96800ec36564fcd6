//! The users file: who may log in with PLAIN, and with SCRAM before the metadata knows anybody.
//!
//! ```toml
//! [[user]]
//! name = "alice"
//! password = "correct horse battery staple"
//! ```
//!
//! Passwords are not kept: PLAIN is checked against a keyed hash, SCRAM against credentials made when the file is read.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use highwater_cluster::{ScramCredential, ScramMechanism};
use highwater_storage::NodeSecret;
use highwater_types::scram::{SEED_BYTES, salt};
use ring::hmac;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::scram::{self, ITERATIONS};
use super::{SecurityError, reloaded};

/// The setting that names the file.
pub(crate) const USERS_FILE: &str = "highwater.sasl.users.file";

/// A key of this node, which makes salts and hashes that nobody outside can make. Salts stay the same over restarts if
/// the key does: what changed with a restart would tell names that exist in the metadata from those that do not.
pub(crate) struct NodeKey(hmac::Key);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

impl NodeKey {
    pub(crate) fn new(secret: &NodeSecret) -> Self {
        NodeKey(hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()))
    }

    /// The same bytes for the same purpose and name, always.
    fn derive(&self, purpose: &str, name: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose.as_bytes());
        context.update(b"\0");
        context.update(name.as_bytes());
        context.sign()
    }

    fn salt(&self, mechanism: ScramMechanism, user: &str) -> Vec<u8> {
        let tag = self.derive(mechanism.name(), user);
        let mut seed = [0; SEED_BYTES];
        for (byte, derived) in seed.iter_mut().zip(tag.as_ref()) {
            *byte = *derived;
        }
        salt(&seed)
    }

    /// A credential for somebody who does not exist: its salt is always the same and looks like those that Kafka's
    /// tools and ours make, and nothing fits it (hostile 93).
    pub(crate) fn made_up(&self, mechanism: ScramMechanism, user: &str) -> ScramCredential {
        let key = |purpose| {
            let tag = self.derive(purpose, user);
            let mut key = tag.as_ref().repeat(2);
            key.truncate(mechanism.hash_bytes());
            key
        };
        ScramCredential {
            salt: self.salt(mechanism, user),
            iterations: ITERATIONS,
            stored_key: key("stored"),
            server_key: key("server"),
        }
    }
}

/// The users of the file.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<String, User>);

struct User {
    password: hmac::Tag,
    scram: BTreeMap<ScramMechanism, ScramCredential>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    user: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    password: String,
}

impl Users {
    /// Reads the file; credentials are made for `mechanisms`.
    ///
    /// # Errors
    /// [`SecurityError`], which tells lines but nothing that stands in them.
    pub(crate) fn read(
        path: &Path,
        key: &NodeKey,
        mechanisms: &[ScramMechanism],
    ) -> Result<Self, SecurityError> {
        let invalid = |problem: String| SecurityError::Invalid {
            setting: USERS_FILE,
            path: PathBuf::from(path),
            problem,
        };
        let bytes = reloaded::read(USERS_FILE, path)?;
        let text = String::from_utf8(bytes).map_err(|_| invalid("is not UTF-8".to_owned()))?;
        // The parser's own words quote the line, and the line may hold a password.
        let file: File = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            invalid(format!(
                "cannot be read at line {line}: it has to consist of [[user]], name = \"...\", password = \"...\""
            ))
        })?;
        let mut users = BTreeMap::new();
        for Entry { name, password } in file.user {
            if name.is_empty() || password.is_empty() || name.contains(char::is_control) {
                return Err(invalid(format!(
                    "has a user {name:?} whose name or password is empty or whose name is no text"
                )));
            }
            let user = User {
                password: key.derive("password", &password),
                scram: mechanisms
                    .iter()
                    .map(|mechanism| {
                        let salt = key.salt(*mechanism, &name);
                        (*mechanism, scram::credential(*mechanism, &password, salt, ROUNDS))
                    })
                    .collect(),
            };
            if users.insert(name.clone(), user).is_some() {
                return Err(invalid(format!("has user {name:?} twice")));
            }
        }
        Ok(Users(users))
    }

    /// Whether this is the user's password. The work is the same whether the user exists or not.
    pub(crate) fn has(&self, key: &NodeKey, user: &str, password: &str) -> bool {
        let shown = key.derive("password", password);
        let nobody = key.derive("nobody", user);
        let user = self.0.get(user);
        let kept = user.map_or(&nobody, |user| &user.password);
        bool::from(kept.as_ref().ct_eq(shown.as_ref())) & user.is_some()
    }

    /// What SCRAM checks a proof with.
    pub(crate) fn scram(&self, user: &str, mechanism: ScramMechanism) -> Option<&ScramCredential> {
        self.0.get(user)?.scram.get(&mechanism)
    }
}

const ROUNDS: NonZeroU32 = match NonZeroU32::new(ITERATIONS) {
    Some(rounds) => rounds,
    None => NonZeroU32::MIN,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Users, SecurityError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        std::fs::write(&path, text).unwrap();
        Users::read(&path, &key(7), &ScramMechanism::ALL)
    }

    fn key(byte: u8) -> NodeKey {
        NodeKey::new(&NodeSecret::new([byte; NodeSecret::BYTES]))
    }

    #[test]
    fn passwords_are_checked_and_not_kept() {
        let users = read("[[user]]\nname = \"tim\"\npassword = \"pencil\"\n").unwrap();
        let key = key(7);
        assert!(users.has(&key, "tim", "pencil"));
        assert!(!users.has(&key, "tim", "Pencil"));
        assert!(!users.has(&key, "tom", "pencil"));
        assert!(users.scram("tim", ScramMechanism::Sha512).is_some());
        assert!(!format!("{users:?}").contains("pencil"));
    }

    #[test]
    fn hostile_93_a_made_up_salt_is_stable_differs_by_user_and_looks_like_a_real_one() {
        let made_up = key(7).made_up(ScramMechanism::Sha512, "nobody");
        assert_eq!(made_up, key(7).made_up(ScramMechanism::Sha512, "nobody"));
        for other in [
            key(8).made_up(ScramMechanism::Sha512, "nobody"),
            key(7).made_up(ScramMechanism::Sha256, "nobody"),
            key(7).made_up(ScramMechanism::Sha512, "somebody"),
        ] {
            assert_ne!(made_up.salt, other.salt);
        }
        let users = read("[[user]]\nname = \"tim\"\npassword = \"pencil\"\n").unwrap();
        let real = users.scram("tim", ScramMechanism::Sha512).unwrap();
        // As Kafka's tools make them: 130 bits in base 36.
        for salt in [&real.salt, &made_up.salt] {
            assert!((20..=26).contains(&salt.len()), "{salt:?}");
            assert!(
                salt.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z')),
                "{salt:?}"
            );
        }
        assert_eq!(real.iterations, made_up.iterations);
        assert_eq!(real.stored_key.len(), made_up.stored_key.len());
    }

    #[test]
    fn hostile_102_a_broken_file_is_named_with_its_line_and_none_of_its_passwords() {
        for (text, expected) in [
            ("[[user]]\nname = \"tim\"\npassword = 815471100\n", "line 3"),
            ("[[user]]\nname = \"tim\"\npassword = \"815471100\n", "line 3"),
            ("[[user]]\nname = \"tim\"\npasswort = \"815471100\"\n", "line 3"),
            ("[[user]]\nname = \"\"\npassword = \"815471100\"\n", "empty"),
            ("[[user]]\nname = \"tim\"\npassword = \"\"\n", "empty"),
            (
                "[[user]]\nname=\"tim\"\npassword=\"815471100\"\n[[user]]\nname=\"tim\"\npassword=\"815471100\"\n",
                "twice",
            ),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("815471100"), "{error}");
        }
    }
}
