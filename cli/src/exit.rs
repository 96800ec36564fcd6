//! Exit codes, so that a supervisor knows whether trying again can help. They are documented in `docs/operations.md`.

use highwater_broker::NodeError;
use highwater_client::PropertiesError;
use highwater_embedded::EmbeddedError;
use highwater_storage::StorageError;

use crate::config::InvalidConfig;

/// Anything that has no code of its own.
pub(crate) const FAILED: u8 = 1;
/// Another process has the port or the data directory (sysexits' EX_UNAVAILABLE): it may go away.
pub(crate) const TAKEN: u8 = 69;
/// The configuration is wrong (sysexits' EX_CONFIG): trying again does not help.
pub(crate) const CONFIG: u8 = 78;

/// The code for an error.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<InvalidConfig>() || cause.is::<PropertiesError>() {
            return CONFIG;
        }
        if let Some(EmbeddedError::Node(node)) = cause.downcast_ref::<EmbeddedError>() {
            return of_node(node);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::AddrInUse
        {
            return TAKEN;
        }
    }
    FAILED
}

fn of_node(error: &NodeError) -> u8 {
    match error {
        NodeError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => TAKEN,
        NodeError::Storage {
            source: StorageError::DirectoryInUse { .. },
            ..
        } => TAKEN,
        NodeError::Property(_) | NodeError::DuplicateListener { .. } | NodeError::WrongDirectory { .. } => {
            CONFIG
        }
        _ => FAILED,
    }
}
