//! Who is at the other end of a connection: listeners' protection, TLS, SASL.
//!
//! Reading order: [`mechanism`], the messages ([`plain`], [`scram`], [`oauth`]), what they are checked with ([`users`],
//! [`jwt`]), [`failures`] (what guessing costs), [`sasl`] (all of it for a node), [`login`] (one connection), [`tls`] and
//! [`name`] (certificates), [`reloaded`] (files that change), [`security`] (a listener).
//!
//! Refuses: to act for somebody else (authorization ids other than one's own), channel binding, delegation tokens,
//! Kerberos. A login that cannot be checked fails: nothing that is missing or unreadable turns a check off.
//!
//! # Invariants
//! - Passwords and tokens are in no `Debug` output, log line or error message.
//! - What a client is told of a failed login does not depend on whether the user exists, nor does the work done for it.

mod error;
mod failures;
mod jwt;
mod login;
mod mechanism;
mod name;
mod oauth;
mod plain;
mod reloaded;
mod sasl;
mod scram;
mod security;
mod tls;
mod users;

/// What reads the messages of strangers.
#[cfg(feature = "testing")]
pub(crate) mod fuzzing {
    pub(crate) use super::jwt::{KeySet, Rules};
    pub(crate) use super::name::text as subject_text;
    pub(crate) use super::oauth::parse as bearer_message;
    pub(crate) use super::plain::parse as plain_message;
    pub(crate) use super::scram::{Challenge, ClientFirst, Verifier, credential};
}

pub use self::error::SecurityError;
pub(crate) use self::login::{Gate, Login};
pub(crate) use self::reloaded::LOOK_EVERY;
pub(crate) use self::sasl::count;
pub(crate) use self::security::{ListenerSecurity, Security, new_secret};
pub use self::security::{SecurityByListener, check_security};
pub(crate) use self::tls::principal;
