//! The client's side of SCRAM (RFC 5802, RFC 7677), as a state machine without effects.
//!
//! # Invariants
//! - The password leaves only as a proof, and only to a peer that repeated this exchange's nonce.
//! - The exchange ends well only after the broker proved that it knows the verifier too; a broker that does not is
//!   one that pretends.
//! - Rounds of hashing that the broker asks for are bounded both ways: too few give the password away to whoever
//!   reads the exchange, too many cost whatever a hostile broker likes (lesson of CVE-2026-10143).

use std::num::NonZeroU32;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use highwater_types::Bytes;
use rand::RngExt as _;
use ring::{digest, hmac, pbkdf2};

use super::{Problem, Step, credentials_fix, quoted};
use crate::{
    limits,
    security::{Login, ScramHash, Secret},
};

/// "n,,": no channel binding, no other identity to act for.
const GS2_HEADER: &str = "n,,";

/// 192 random bits in characters the mechanism allows.
pub(super) fn nonce() -> String {
    let bits: [u8; 24] = rand::rng().random();
    STANDARD.encode(bits)
}

/// An exchange, between two messages.
#[derive(Debug)]
pub(super) struct Scram {
    hash: ScramHash,
    password: Secret,
    nonce: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The broker's salt is awaited.
    First { client_first_bare: String },
    /// The broker's proof is awaited.
    Final { expected: Expected },
    /// Both have proved themselves.
    Done,
}

/// What the broker must prove: the key and the message it must have signed.
struct Expected {
    server_key: hmac::Key,
    auth_message: String,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl Scram {
    /// The exchange and its first message.
    pub(super) fn start(hash: ScramHash, login: &Login, nonce: &str) -> (Self, Bytes) {
        let username = login.username.replace('=', "=3D").replace(',', "=2C");
        let client_first_bare = format!("n={username},r={nonce}");
        let message = format!("{GS2_HEADER}{client_first_bare}");
        let scram = Self {
            hash,
            password: login.password.clone(),
            nonce: nonce.to_owned(),
            state: State::First { client_first_bare },
        };
        (scram, message.into())
    }

    /// Takes a message of the broker.
    pub(super) fn answered(&mut self, said: &[u8]) -> Result<Step, Problem> {
        let said = std::str::from_utf8(said)
            .ok()
            .filter(|said| said.len() <= limits::MAX_SCRAM_MESSAGE_BYTES)
            .ok_or_else(|| Problem::breach("its SCRAM message is no text of reasonable length"))?;
        match std::mem::replace(&mut self.state, State::Done) {
            State::First { client_first_bare } => {
                let first = ServerFirst::parse(said, &self.nonce)?;
                let (message, expected) = self.prove(&client_first_bare, said, &first);
                self.state = State::Final { expected };
                Ok(Step::Send(message))
            }
            State::Final { expected } => {
                check_server_final(said, &expected)?;
                Ok(Step::Done)
            }
            State::Done => Err(Problem::breach("it goes on after the exchange has ended")),
        }
    }

    fn prove(
        &self,
        client_first_bare: &str,
        server_first: &str,
        first: &ServerFirst<'_>,
    ) -> (Bytes, Expected) {
        let (hmac_algorithm, pbkdf2_algorithm, digest_algorithm) = match self.hash {
            ScramHash::Sha256 => (hmac::HMAC_SHA256, pbkdf2::PBKDF2_HMAC_SHA256, &digest::SHA256),
            ScramHash::Sha512 => (hmac::HMAC_SHA512, pbkdf2::PBKDF2_HMAC_SHA512, &digest::SHA512),
        };
        let mut salted = vec![0; digest_algorithm.output_len()];
        let password = self.password.reveal().as_bytes();
        pbkdf2::derive(
            pbkdf2_algorithm,
            first.iterations,
            &first.salt,
            password,
            &mut salted,
        );
        let salted = hmac::Key::new(hmac_algorithm, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(digest_algorithm, client_key.as_ref());
        let server_key = hmac::sign(&salted, b"Server Key");
        let without_proof = format!("c={},r={}", STANDARD.encode(GS2_HEADER), first.nonce);
        let auth_message = format!("{client_first_bare},{server_first},{without_proof}");
        let signature = hmac::sign(
            &hmac::Key::new(hmac_algorithm, stored_key.as_ref()),
            auth_message.as_bytes(),
        );
        let proof: Vec<u8> = client_key
            .as_ref()
            .iter()
            .zip(signature.as_ref())
            .map(|(key, signed)| key ^ signed)
            .collect();
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        let expected = Expected {
            server_key: hmac::Key::new(hmac_algorithm, server_key.as_ref()),
            auth_message,
        };
        (message.into(), expected)
    }
}

/// `r=<nonce>,s=<salt>,i=<iterations>`, checked.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    fn parse(said: &'a str, our_nonce: &str) -> Result<Self, Problem> {
        if let Some(refusal) = said.strip_prefix("e=") {
            return Err(Problem::new(quoted(refusal), credentials_fix("SCRAM")));
        }
        // In this order and with nothing before them: an extension in front ("m=") must be understood or refused.
        let mut attributes = said.split(',');
        let mut value = |name: &str| {
            attributes
                .next()
                .and_then(|attribute| attribute.strip_prefix(name))
                .ok_or_else(|| {
                    Problem::breach(format!("its first SCRAM message has no {name} where one belongs"))
                })
        };
        let (nonce, salt, iterations) = (value("r=")?, value("s=")?, value("i=")?);
        if !nonce.starts_with(our_nonce) || nonce.len() == our_nonce.len() {
            return Err(Problem::breach("its SCRAM nonce does not continue this client's"));
        }
        let salt = STANDARD
            .decode(salt)
            .ok()
            .filter(|salt| !salt.is_empty())
            .ok_or_else(|| Problem::breach("its SCRAM salt is empty or not in Base64"))?;
        let iterations = iterations
            .parse::<u32>()
            .ok()
            .filter(|count| limits::SCRAM_ITERATIONS.contains(count))
            .and_then(NonZeroU32::new)
            .ok_or_else(|| {
                Problem::new(
                    format!(
                        "it asks for {} SCRAM iterations; this client does {} to {}",
                        quoted(iterations),
                        limits::SCRAM_ITERATIONS.start(),
                        limits::SCRAM_ITERATIONS.end()
                    ),
                    "create the user's SCRAM credential anew with a number between them",
                )
            })?;
        Ok(Self {
            nonce,
            salt,
            iterations,
        })
    }
}

fn check_server_final(said: &str, expected: &Expected) -> Result<(), Problem> {
    if let Some(refusal) = said.strip_prefix("e=") {
        return Err(Problem::new(quoted(refusal), credentials_fix("SCRAM")));
    }
    let signature = said
        .split(',')
        .next()
        .and_then(|attribute| attribute.strip_prefix("v="))
        .and_then(|signature| STANDARD.decode(signature).ok())
        .ok_or_else(|| Problem::breach("its last SCRAM message has no signature"))?;
    hmac::verify(&expected.server_key, expected.auth_message.as_bytes(), &signature)
        .map_err(|_| Problem::breach("its SCRAM signature is wrong, so it does not know this user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            username: "user".to_owned(),
            password: Secret::new("pencil"),
        }
    }

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn started() -> Scram {
        Scram::start(ScramHash::Sha256, &login(), NONCE).0
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard_comes_out_byte_for_byte() {
        let (mut scram, first) = Scram::start(ScramHash::Sha256, &login(), NONCE);
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let Ok(Step::Send(last)) = scram.answered(SERVER_FIRST.as_bytes()) else {
            panic!("a proof is due");
        };
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let done = scram.answered(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(done, Ok(Step::Done));
    }

    /// Whoever poses as the broker can say yes, but cannot sign.
    #[test]
    fn a_broker_that_cannot_sign_is_not_believed() {
        for last in [
            "v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            "v=",
            "",
            "ok",
            "v=%",
        ] {
            let mut scram = started();
            scram.answered(SERVER_FIRST.as_bytes()).expect("a proof");
            assert!(scram.answered(last.as_bytes()).is_err(), "{last:?}");
        }
    }

    #[test]
    fn what_a_broker_must_not_say_first_ends_the_exchange_without_a_proof() {
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        let own = format!("r={NONCE}more");
        for first in [
            format!("r={NONCE},{salt},i=4096"),   // nothing added to the nonce
            format!("r=another,{salt},i=4096"),   // another exchange's
            format!("m=x,{own},{salt},i=4096"),   // an extension that must be understood
            format!("{salt},{own},i=4096"),       // out of order
            format!("{own},s=,i=4096"),           // no salt
            format!("{own},s=%,i=4096"),          // not Base64
            format!("{own},{salt}"),              // no iterations
            format!("{own},{salt},i=1"),          // the password is all but told
            format!("{own},{salt},i=2147483647"), // minutes of work
            format!("{own},{salt},i=-1"),
            format!("{own}{},{salt},i=4096", "x".repeat(9000)), // more than anybody needs
            "e=unknown-user".to_owned(),
        ] {
            assert!(started().answered(first.as_bytes()).is_err(), "{first}");
        }
    }

    #[test]
    fn commas_and_equals_signs_in_a_name_do_not_end_it() {
        let login = Login {
            username: "a=b,c".to_owned(),
            password: Secret::new("x"),
        };
        let (_, first) = Scram::start(ScramHash::Sha512, &login, "abc");
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=abc");
    }

    #[test]
    fn two_exchanges_have_two_nonces() {
        assert_ne!(nonce(), nonce());
    }
}
