//! How the listeners of a node are protected.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_cluster::{ConfigView, SecuritySettings};
use highwater_storage::NodeSecret;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::ServerConfig;

use super::failures::Failures;
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
        settings: &SecurityByListener,
        secret: &NodeSecret,
    ) -> Result<Self, SecurityError> {
        // What guessing costs an address does not depend on the door it guesses at.
        let failures = Arc::<Failures>::default();
        let mut shared: Option<Arc<Sasl>> = None;
        let mut protected = BTreeMap::new();
        for listener in listeners {
            let own = settings.own.get(&listener.name);
            let in_force = own.unwrap_or(&settings.shared);
            let tls = match listener.protocol.has_tls() {
                true => Some(Arc::new(tls::of_listener(listener, in_force)?)),
                false => None,
            };
            let sasl = match (listener.protocol.has_sasl(), &shared) {
                (false, _) => None,
                (true, Some(shared)) if own.is_none() => Some(Arc::clone(shared)),
                (true, _) => {
                    check(listener, in_force)?;
                    let sasl = Arc::new(Sasl::new(in_force, secret, Arc::clone(&failures))?);
                    if own.is_none() {
                        shared = Some(Arc::clone(&sasl));
                    }
                    Some(sasl)
                }
            };
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
        // Those that are shared have nothing to read the second time.
        for sasl in self
            .listeners
            .values()
            .filter_map(|listener| listener.sasl.as_ref())
        {
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

/// The settings of security that are in force at each listener.
#[derive(Debug, Clone)]
pub struct SecurityByListener {
    shared: SecuritySettings,
    /// By the names of listeners that have some of their own.
    own: BTreeMap<String, SecuritySettings>,
}

impl SecurityByListener {
    /// Sorts what a configuration says by listener; `shared` is what it says for all.
    ///
    /// # Errors
    /// [`SecurityError::NoListener`], [`SecurityError::Config`].
    pub fn new(
        listeners: &[ListenerConfig],
        view: &ConfigView<'_>,
        shared: SecuritySettings,
    ) -> Result<Self, SecurityError> {
        let mut own = BTreeMap::new();
        for name in view.properties.listeners() {
            let mut named = listeners
                .iter()
                .filter(|listener| listener.name.to_lowercase() == name)
                .peekable();
            if named.peek().is_none() {
                let known = listeners.iter().map(|listener| listener.name.to_lowercase());
                return Err(SecurityError::NoListener {
                    listener: name.to_owned(),
                    known: known.collect(),
                });
            }
            let properties = view.properties.of_listener(name).unwrap_or_default();
            for listener in named {
                let settings = ConfigView {
                    image: view.image,
                    broker_id: view.broker_id,
                    properties: &properties,
                }
                .broker_settings()
                .map_err(|source| SecurityError::Config {
                    listener: listener.name.clone(),
                    source,
                })?;
                own.insert(listener.name.clone(), settings.security);
            }
        }
        Ok(Self { shared, own })
    }

    /// What is in force at a listener.
    pub fn of(&self, listener: &str) -> &SecuritySettings {
        self.own.get(listener).unwrap_or(&self.shared)
    }
}

/// Whether a node could protect these listeners as it is asked to: reads every file that belongs to it.
///
/// # Errors
/// [`SecurityError`]; what a node would refuse to start with.
pub fn check_security(
    listeners: &[ListenerConfig],
    settings: &SecurityByListener,
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
