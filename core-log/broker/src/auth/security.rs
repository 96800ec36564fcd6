//! How the listeners of a node are protected.

use std::sync::Arc;

use highwater_cluster::SecuritySettings;

use super::SecurityError;
use super::sasl::Sasl;
use super::users::USERS_FILE;
use crate::config::{ListenerConfig, SecurityProtocol};

/// What protects one listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerSecurity {
    pub(crate) sasl: Option<Arc<Sasl>>,
}

/// What protects all listeners of a node.
#[derive(Debug, Default)]
pub(crate) struct Security {
    sasl: Option<Arc<Sasl>>,
}

impl Security {
    /// Reads everything that the listeners need. Blocks on the disk.
    ///
    /// # Errors
    /// [`SecurityError`]: no listener is opened with less protection than it was asked to have.
    pub(crate) fn new(
        listeners: &[ListenerConfig],
        settings: &SecuritySettings,
    ) -> Result<Self, SecurityError> {
        let with_sasl = listeners.iter().find(|listener| listener.protocol.has_sasl());
        let sasl = match with_sasl {
            Some(listener) => {
                check(listener, settings)?;
                Some(Arc::new(Sasl::new(settings)?))
            }
            None => None,
        };
        Ok(Security { sasl })
    }

    /// What protects this listener.
    pub(crate) fn of(&self, protocol: SecurityProtocol) -> ListenerSecurity {
        ListenerSecurity {
            sasl: self.sasl.clone().filter(|_| protocol.has_sasl()),
        }
    }

    /// Reads files again that have changed. Blocks on the disk.
    pub(crate) fn look(&self) {
        if let Some(sasl) = &self.sasl {
            sasl.look();
        }
    }
}

/// Whether a node could protect these listeners as it is asked to: reads every file that belongs to it.
///
/// # Errors
/// [`SecurityError`]; what a node would refuse to start with.
pub fn check_security(
    listeners: &[ListenerConfig],
    settings: &SecuritySettings,
) -> Result<(), SecurityError> {
    Security::new(listeners, settings).map(drop)
}

/// Refuses mechanisms that nobody could log in with.
fn check(listener: &ListenerConfig, settings: &SecuritySettings) -> Result<(), SecurityError> {
    let missing = |setting, why| {
        Err(SecurityError::Missing {
            listener: listener.name.clone(),
            setting,
            why,
        })
    };
    let is_enabled = |name: &str| {
        settings
            .sasl_enabled_mechanisms
            .iter()
            .any(|enabled| enabled == name)
    };
    if settings.sasl_enabled_mechanisms.is_empty() {
        return missing("sasl.enabled.mechanisms", "without a mechanism nobody can log in");
    }
    if is_enabled("PLAIN") && settings.highwater_sasl_users_file.is_none() {
        return missing(USERS_FILE, "the users of PLAIN are there");
    }
    Ok(())
}
