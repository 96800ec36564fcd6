//! How the listeners of a node are protected.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_cluster::SecuritySettings;
use highwater_storage::NodeSecret;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;

use super::jwt::JWKS_URL;
use super::reloaded::Reloaded;
use super::sasl::Sasl;
use super::users::USERS_FILE;
use super::{SecurityError, tls};
use crate::config::ListenerConfig;

/// What protects one listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerSecurity {
    pub(crate) tls: Option<Arc<Reloaded<ServerConfig>>>,
    pub(crate) sasl: Option<Arc<Sasl>>,
}

/// What protects all listeners of a node.
#[derive(Debug, Default)]
pub(crate) struct Security {
    /// By the names of the listeners.
    listeners: BTreeMap<String, ListenerSecurity>,
}

impl Security {
    /// Reads everything that the listeners need. Blocks on the disk.
    ///
    /// # Errors
    /// [`SecurityError`]: no listener is opened with less protection than it was asked to have.
    pub(crate) fn new(
        listeners: &[ListenerConfig],
        settings: &SecuritySettings,
        secret: &NodeSecret,
    ) -> Result<Self, SecurityError> {
        let with_sasl = listeners.iter().find(|listener| listener.protocol.has_sasl());
        let sasl = match with_sasl {
            Some(listener) => {
                check(listener, settings)?;
                Some(Arc::new(Sasl::new(settings, secret)?))
            }
            None => None,
        };
        let mut protected = BTreeMap::new();
        for listener in listeners {
            let tls = match listener.protocol.has_tls() {
                true => Some(Arc::new(tls::of_listener(listener, settings)?)),
                false => None,
            };
            let sasl = sasl.clone().filter(|_| listener.protocol.has_sasl());
            protected.insert(listener.name.clone(), ListenerSecurity { tls, sasl });
        }
        Ok(Security { listeners: protected })
    }

    /// What protects the listener of this name.
    pub(crate) fn of(&self, listener: &str) -> ListenerSecurity {
        self.listeners.get(listener).cloned().unwrap_or_default()
    }

    /// Reads files again that have changed. Blocks on the disk.
    pub(crate) fn look(&self) {
        let sasl = self
            .listeners
            .values()
            .find_map(|listener| listener.sasl.as_ref());
        if let Some(sasl) = sasl {
            sasl.look();
        }
        for tls in self
            .listeners
            .values()
            .filter_map(|listener| listener.tls.as_ref())
        {
            tls.look();
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
    // Nobody logs in here.
    Security::new(listeners, settings, &new_secret()?).map(drop)
}

/// A secret that nobody has had before.
///
/// # Errors
/// [`SecurityError::NoRandomness`].
pub(crate) fn new_secret() -> Result<NodeSecret, SecurityError> {
    let mut bytes = [0; NodeSecret::BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SecurityError::NoRandomness)?;
    Ok(NodeSecret::new(bytes))
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
    if is_enabled("OAUTHBEARER") && settings.sasl_oauthbearer_jwks_endpoint_url.is_none() {
        return missing(JWKS_URL, "the keys that tokens are checked with are there");
    }
    if is_enabled("PLAIN") && settings.highwater_sasl_users_file.is_none() {
        return missing(USERS_FILE, "the users of PLAIN are there");
    }
    Ok(())
}
