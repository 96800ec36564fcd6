//! Who somebody is, once they have proved it.

use std::fmt;
use std::str::FromStr;

use highwater_types::ByteString;

/// An identity in the form that ACLs, quotas and logs use: `User:alice` (KIP-111).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    kind: ByteString,
    name: ByteString,
}

/// A text that names no principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a principal; write its type, a colon and its name, such as User:alice")]
pub struct PrincipalError {
    text: String,
}

impl Principal {
    /// The type of everybody who logs in, and of those who do not.
    pub const USER: &str = "User";

    /// A user of this name.
    pub fn user(name: impl Into<ByteString>) -> Self {
        Principal {
            kind: ByteString::from_static(Self::USER),
            name: name.into(),
        }
    }

    /// Whoever comes in by a listener that asks nobody to log in; Kafka's name for them.
    pub const fn anonymous() -> Self {
        Principal {
            kind: ByteString::from_static(Self::USER),
            name: ByteString::from_static("ANONYMOUS"),
        }
    }

    /// In a rule: everybody, whatever their type.
    pub const fn everybody() -> Self {
        Principal {
            kind: ByteString::from_static(Self::USER),
            name: ByteString::from_static("*"),
        }
    }

    /// Whether the written form of the principal is this text.
    pub(crate) fn is_written(&self, text: &str) -> bool {
        text.split_once(':')
            .is_some_and(|(kind, name)| self.kind == kind && self.name == name)
    }

    /// The type, such as `User`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name, without its type.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    /// The name may contain colons, as the names in certificates do.
    fn from_str(text: &str) -> Result<Self, PrincipalError> {
        match text.split_once(':') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(Principal {
                kind: kind.into(),
                name: name.into(),
            }),
            _ => Err(PrincipalError {
                text: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_reads_what_it_writes() {
        let certificate: Principal = "User:CN=a:b,O=c".parse().unwrap();
        assert_eq!(certificate, Principal::user("CN=a:b,O=c"));
        assert_eq!(certificate.to_string(), "User:CN=a:b,O=c");
        assert_eq!(Principal::anonymous().to_string(), "User:ANONYMOUS");
        for bad in ["", "alice", ":alice", "User:"] {
            assert!(bad.parse::<Principal>().is_err(), "{bad}");
        }
    }
}
