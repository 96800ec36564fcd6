//! Listeners on which clients log in: what is served before, during and after a login.

pub(crate) mod client;

mod plain;
mod scram;
