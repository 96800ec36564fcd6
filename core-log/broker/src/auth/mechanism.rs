//! The SASL mechanisms of a node.

use std::fmt;

use highwater_cluster::ScramMechanism;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    Scram(ScramMechanism),
}

impl Mechanism {
    /// Its name in SASL.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(scram) => scram.name(),
        }
    }

    /// Its kind of SCRAM, if it is one.
    pub(crate) const fn scram(self) -> Option<ScramMechanism> {
        match self {
            Mechanism::Scram(scram) => Some(scram),
            Mechanism::Plain => None,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "PLAIN" => Some(Mechanism::Plain),
            _ => ScramMechanism::from_name(name).map(Mechanism::Scram),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
