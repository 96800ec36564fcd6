//! Listeners on which clients log in: what is served before, during and after a login.

pub(crate) mod client;

mod certificates;
mod oauth;
mod plain;
mod scram;
mod tls;
