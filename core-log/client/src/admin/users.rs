//! Users who log in with SCRAM, as the cluster keeps them (KIP-554).
//!
//! Refuses: to send a password. What is sent is what the cluster derives its verifiers from, made here.

use std::num::NonZeroU32;

use highwater_types::{ByteString, Bytes, scram};
use highwater_wire::{
    ApiKey,
    messages::{
        AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
        DescribeUserScramCredentialsRequest,
        alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion},
        describe_user_scram_credentials_request::UserName,
    },
};
use rand::RngExt as _;
use ring::{digest, pbkdf2};

use super::{Admin, Answers};
use crate::{
    ClientError,
    security::{ScramHash, Secret},
};

/// Rounds of PBKDF2 that Kafka's tools take, and that tell nothing about who exists: names that nobody has are
/// answered with them, too.
pub const DEFAULT_ITERATIONS: NonZeroU32 = match NonZeroU32::new(4096) {
    Some(iterations) => iterations,
    None => NonZeroU32::MIN,
};

/// One way in which a user can log in; what it is checked with is never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScramCredentialInfo {
    /// The hash of the mechanism; `None` if it is one that this client does not know.
    pub hash: Option<ScramHash>,
    /// Rounds of PBKDF2.
    pub iterations: i32,
}

/// A change to how a user logs in.
#[derive(Debug, Clone)]
pub enum UserScramAlteration {
    /// Gives the user this password, or another one than before.
    Set {
        /// The user.
        user: ByteString,
        /// The mechanism the password is for.
        hash: ScramHash,
        /// Rounds of PBKDF2; [`DEFAULT_ITERATIONS`] unless there is a reason.
        iterations: NonZeroU32,
        /// The password, which is not sent.
        password: Secret,
    },
    /// Takes the password for this mechanism away.
    Remove {
        /// The user.
        user: ByteString,
        /// The mechanism.
        hash: ScramHash,
    },
}

const fn code(hash: ScramHash) -> i8 {
    match hash {
        ScramHash::Sha256 => 1,
        ScramHash::Sha512 => 2,
    }
}

impl Admin {
    /// How users log in; all users there are when none is named.
    ///
    /// # Errors
    /// [`ClientError`] when the cluster refuses or no broker answers within `api_timeout`.
    pub async fn describe_user_scram_credentials(
        &self,
        users: impl IntoIterator<Item = ByteString>,
    ) -> Result<Answers<ByteString, Vec<ScramCredentialInfo>>, ClientError> {
        const API: ApiKey = ApiKey::DescribeUserScramCredentials;
        let users: Vec<UserName> = users.into_iter().map(|name| UserName { name }).collect();
        let request = DescribeUserScramCredentialsRequest {
            users: Some(users).filter(|users| !users.is_empty()),
        };
        let response = self.ask_any(request).await?;
        ClientError::check(API, response.error_code, "users", response.error_message)?;
        let answers = response.results.into_iter().map(|result| {
            let resource = format!("user {}", result.user);
            let answer = ClientError::check(API, result.error_code, resource, result.error_message);
            let infos = result
                .credential_infos
                .into_iter()
                .map(|info| ScramCredentialInfo {
                    hash: [ScramHash::Sha256, ScramHash::Sha512]
                        .into_iter()
                        .find(|hash| code(*hash) == info.mechanism),
                    iterations: info.iterations,
                });
            (result.user, answer.map(|()| infos.collect()))
        });
        Ok(answers.collect())
    }

    /// Gives users passwords and takes them away; a user with no password left cannot log in with SCRAM. The cluster
    /// refuses to change the same user twice in one request: two mechanisms take two.
    ///
    /// # Errors
    /// [`ClientError`] when no answer came within `api_timeout`.
    pub async fn alter_user_scram_credentials(
        &self,
        alterations: impl IntoIterator<Item = UserScramAlteration>,
    ) -> Result<Answers<ByteString, ()>, ClientError> {
        const API: ApiKey = ApiKey::AlterUserScramCredentials;
        let mut request = AlterUserScramCredentialsRequest::default();
        for alteration in alterations {
            match alteration {
                UserScramAlteration::Set {
                    user,
                    hash,
                    iterations,
                    password,
                } => {
                    request
                        .upsertions
                        .push(upsertion(user, hash, iterations, &password));
                }
                UserScramAlteration::Remove { user: name, hash } => {
                    let mechanism = code(hash);
                    request
                        .deletions
                        .push(ScramCredentialDeletion { name, mechanism });
                }
            }
        }
        let codes = |r: &AlterUserScramCredentialsResponse| {
            r.results.iter().map(|result| result.error_code).collect()
        };
        let response = self.ask_controller(|_| request.clone(), codes).await?;
        let answers = response.results.into_iter().map(|result| {
            let resource = format!("user {}", result.user);
            let answer = ClientError::check(API, result.error_code, resource, result.error_message);
            (result.user, answer)
        });
        Ok(answers.collect())
    }
}

fn upsertion(
    name: ByteString,
    hash: ScramHash,
    iterations: NonZeroU32,
    password: &Secret,
) -> ScramCredentialUpsertion {
    let (algorithm, digest) = match hash {
        ScramHash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
        ScramHash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, &digest::SHA512),
    };
    let seed: [u8; scram::SEED_BYTES] = rand::rng().random();
    let salt = scram::salt(&seed);
    let mut salted = vec![0; digest.output_len()];
    pbkdf2::derive(
        algorithm,
        iterations,
        &salt,
        password.reveal().as_bytes(),
        &mut salted,
    );
    ScramCredentialUpsertion {
        name,
        mechanism: code(hash),
        iterations: i32::try_from(iterations.get()).unwrap_or(i32::MAX),
        salt: Bytes::from(salt),
        salted_password: Bytes::from(salted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_in_what_is_sent_and_two_users_of_one_password_differ() {
        let password = Secret::new("correct horse");
        let make =
            |user: &'static str| upsertion(user.into(), ScramHash::Sha512, DEFAULT_ITERATIONS, &password);
        let (alice, bob) = (make("alice"), make("bob"));
        assert_eq!((alice.mechanism, alice.iterations), (2, 4096));
        assert_eq!(alice.salted_password.len(), 64);
        assert_ne!(alice.salt, bob.salt);
        assert_ne!(alice.salted_password, bob.salted_password);
        assert!(!format!("{alice:?}").contains("horse"));
    }
}
