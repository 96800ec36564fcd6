//! How many files and connections this process may have open.
//!
//! Shells and supervisors give a soft limit, often of 1024, for the sake of old programs that use `select`; a server
//! takes what the hard limit allows.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// The most the system lets this process have.
pub(crate) fn hard_limit() -> nix::Result<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| number(hard))
}

/// Raises the soft limit to the hard one, and says so in the log.
pub(crate) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok((soft, hard))
    });
    match raised {
        Ok((was, limit)) => tracing::info!(was, limit, "open files"),
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files; it stays as it was given")
        }
    }
}

/// The type has another width elsewhere.
#[allow(clippy::useless_conversion, reason = "it is no u64 on every system")]
fn number(limit: rlim_t) -> u64 {
    u64::from(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, (hard / 2).min(4_096), hard).unwrap();
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert_eq!(number(hard), hard_limit().unwrap());
    }
}
