//! Logins that failed: why, and what it costs to try again.
//!
//! Guessing passwords is bounded per address (hostile 94): every failure puts the address into debt for
//! [`FAILURE_COST`], debt elapses with time, and an address that owes more than [`FREE_DEBT`] waits for its turn before
//! its next password is looked at, however many connections it opens. Who owes more than [`MAX_DEBT`] is closed unheard.
//! A user is never locked: that would let anybody keep anybody out.
//!
//! # Invariants
//! - The table holds at most [`MAX_ADDRESSES`] addresses; those that owe nothing are forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::jwt::BadToken;
use crate::seldom::Seldom;

/// Why a login failed. Clients are told less; see [`Refusal::told`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the message is malformed")]
    Malformed,
    #[error("the client wants to act as somebody else")]
    OtherIdentity,
    #[error("the client wants channel binding, which is not offered")]
    ChannelBinding,
    #[error("the client shows a delegation token; there are none")]
    DelegationToken,
    #[error("the proof belongs to another exchange")]
    OtherExchange,
    #[error("unknown user or wrong password")]
    Credentials,
    #[error("the token is refused: {0}")]
    Token(BadToken),
    #[error("logging in again as another user is not allowed")]
    PrincipalChanged,
    #[error("too many failed logins from this address")]
    TooMany,
}

impl Refusal {
    /// What the client is told. It is the same whether the user exists or not.
    pub(crate) fn told(self) -> &'static str {
        match self {
            Refusal::PrincipalChanged => {
                "Authentication failed: a connection keeps its user when it logs in again"
            }
            Refusal::OtherIdentity => {
                "Authentication failed: the authorization id must be empty or the name of the user"
            }
            Refusal::ChannelBinding => "Authentication failed: channel binding is not supported",
            Refusal::Token(BadToken::Expired) => "Authentication failed: the token has expired",
            Refusal::Token(_) => "Authentication failed: the token is not accepted",
            Refusal::DelegationToken => "Authentication failed: delegation tokens are not supported",
            Refusal::Malformed | Refusal::OtherExchange | Refusal::Credentials | Refusal::TooMany => {
                "Authentication failed: invalid credentials"
            }
        }
    }
}

/// How long an address pays for one failure.
const FAILURE_COST: Duration = Duration::from_millis(100);

/// What an address may owe without waiting: a fleet behind one address may start with a wrong password once.
const FREE_DEBT: Duration = Duration::from_secs(3);

/// The longest queue of one address.
const MAX_DEBT: Duration = Duration::from_secs(13);

/// Addresses in debt at a time; 40 bytes each.
const MAX_ADDRESSES: usize = 50_000;

/// Failures are put into words at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Who owes how much, and when failures are put into words.
#[derive(Debug)]
pub(crate) struct Failures {
    table: Mutex<Table>,
    said: Seldom,
}

#[derive(Debug, Default)]
struct Table {
    /// When the debt of an address has elapsed.
    paid_at_ms: HashMap<IpAddr, u64>,
}

impl Failures {
    /// How long a login from here waits before it is looked at; `None` if it is not looked at.
    pub(crate) fn wait(&self, address: IpAddr, now_ms: u64) -> Option<Duration> {
        let table = self.lock();
        let paid_at_ms = table.paid_at_ms.get(&key_of(address)).copied().unwrap_or(0);
        let debt = Duration::from_millis(paid_at_ms.saturating_sub(now_ms));
        (debt <= MAX_DEBT).then(|| debt.saturating_sub(FREE_DEBT))
    }

    /// Notes a failure; gives the number of failures to put into words now, if it is time to.
    pub(crate) fn failed(&self, address: IpAddr, now_ms: u64) -> Option<u64> {
        let mut table = self.lock();
        let address = key_of(address);
        if table.paid_at_ms.len() >= MAX_ADDRESSES && !table.paid_at_ms.contains_key(&address) {
            table.paid_at_ms.retain(|_, paid_at_ms| *paid_at_ms > now_ms);
        }
        let has_room = table.paid_at_ms.len() < MAX_ADDRESSES;
        if has_room || table.paid_at_ms.contains_key(&address) {
            let paid_at_ms = table.paid_at_ms.entry(address).or_insert(0);
            *paid_at_ms = (*paid_at_ms).max(now_ms) + FAILURE_COST.as_millis() as u64;
        }
        drop(table);
        self.said.note(now_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // The table is whole after every statement that can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Failures {
    fn default() -> Self {
        Failures {
            table: Mutex::default(),
            said: Seldom::every(LOG_INTERVAL),
        }
    }
}

/// One customer of a network usually has 2^64 addresses of IPv6.
fn key_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn hostile_94_one_address_guesses_ten_times_a_second_at_most_and_hurts_no_other() {
        let failures = Failures::default();
        let mut guesses = 0;
        // A minute of somebody who never waits, on as many connections as they like.
        for now_ms in 0..60_000 {
            while failures.wait(HERE, now_ms).is_some_and(|wait| wait.is_zero()) {
                failures.failed(HERE, now_ms);
                guesses += 1;
            }
        }
        assert!((600..650).contains(&guesses), "{guesses}");
        assert_eq!(failures.wait([10, 0, 0, 2].into(), 60_000), Some(Duration::ZERO));
        assert_eq!(failures.wait(HERE, 70_000), Some(Duration::ZERO));
    }

    #[test]
    fn hostile_94_waiting_logins_are_few_and_the_rest_is_not_heard() {
        let failures = Failures::default();
        for _ in 0..1_000 {
            failures.failed(HERE, 0);
        }
        assert_eq!(failures.wait(HERE, 0), None);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..40 {
            failures.failed(v6("2001:db8::1"), 0);
        }
        assert_eq!(
            failures.wait(v6("2001:db8::ffff:1"), 0),
            Some(Duration::from_secs(1))
        );
        assert_eq!(failures.wait(v6("2001:db8:0:1::1"), 0), Some(Duration::ZERO));
    }

    #[test]
    fn hostile_94_addresses_in_debt_are_forgotten_in_time_and_never_too_many() {
        let failures = Failures::default();
        for address in 0..2 * MAX_ADDRESSES as u32 {
            failures.failed(IpAddr::V4(address.into()), 0);
        }
        assert_eq!(failures.lock().paid_at_ms.len(), MAX_ADDRESSES);
        failures.failed([255, 0, 0, 1].into(), 1_000);
        assert_eq!(failures.lock().paid_at_ms.len(), 1);
    }
}
