//! The SASL mechanisms of a node.

use std::fmt;

use highwater_cluster::ScramMechanism;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Scram(ScramMechanism),
    OAuthBearer,
}

impl Mechanism {
    /// Its name in SASL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(scram) => scram.name(),
            Mechanism::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Its kind of SCRAM, if it is one.
    pub(crate) const fn scram(self) -> Option<ScramMechanism> {
        match self {
            Mechanism::Scram(scram) => Some(scram),
            Mechanism::Plain | Mechanism::OAuthBearer => None,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Mechanism::Plain),
            "OAUTHBEARER" => Some(Mechanism::OAuthBearer),
            _ => ScramMechanism::from_name(name).map(Mechanism::Scram),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
