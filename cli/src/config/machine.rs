//! Whether this machine can run a configuration: what would stop a node, and what will hurt later.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use highwater_broker::{BrokerId, SecurityByListener, SecurityProtocol, check_security};
use highwater_cluster::{BrokerProperties, ConfigView, MetadataImage};
use highwater_storage::StdDisk;

use super::ServerConfig;
use crate::open_files;

/// Segments and indexes of a few thousand partitions, and as many connections.
const FILES_WANTED: u64 = 65_536;

/// A node with less room than this is a toy.
const ROOM_WANTED_BYTES: u64 = 10 << 30;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A node would not start.
    Error(String),
    /// A node would start, and somebody should know.
    Warning(String),
}

/// Looks at the data directory, the ports and the limits of this process. Nothing is left behind.
pub(crate) fn look(config: &ServerConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    data_dir(&config.data_dir, &mut findings);
    ports(config, &mut findings);
    if let Ok(files) = open_files::hard_limit()
        && files < FILES_WANTED
    {
        findings.push(Finding::Warning(format!(
            "this process may open {files} files; {FILES_WANTED} are a good start (ulimit -Hn, LimitNOFILE=)"
        )));
    }
    for listener in &config.kafka {
        if listener.bind.ip().is_unspecified() && listener.advertised.is_none() {
            findings.push(Finding::Warning(format!(
                "listener {} is every address, and listeners.advertised does not name it: clients on other machines are \
                 told to connect to localhost",
                listener.name
            )));
        }
    }
    security(config, &mut findings);
    findings
}

fn data_dir(path: &Path, findings: &mut Vec<Finding>) {
    // A node makes the directory; what counts is the nearest one that is there.
    let there = path
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    if let Err(error) = writable(there) {
        findings.push(Finding::Error(format!(
            "the data directory {} cannot be written: {error}",
            path.display()
        )));
        return;
    }
    if let Ok(room) = StdDisk::shared().space(there)
        && room.free_bytes < ROOM_WANTED_BYTES.max(room.total_bytes / 10)
    {
        findings.push(Finding::Warning(format!(
            "the disk of {} has {:.1} GiB left of {:.1}; retention must fit into that",
            path.display(),
            gib(room.free_bytes),
            gib(room.total_bytes)
        )));
    }
}

/// Reads the files that the listeners are protected with, as a node would.
fn security(config: &ServerConfig, findings: &mut Vec<Finding>) {
    // What is wrong with the values themselves is said where they stand.
    let Ok(properties) = BrokerProperties::new(config.properties.clone()) else {
        return;
    };
    let view = ConfigView {
        image: &MetadataImage::default(),
        broker_id: BrokerId::new(1),
        properties: &properties,
    };
    let Ok(settings) = view.broker_settings() else {
        return;
    };
    let by_listener = match SecurityByListener::new(&config.kafka, &view, settings.security) {
        Ok(by_listener) => by_listener,
        Err(error) => return findings.push(Finding::Error(error.to_string())),
    };
    if let Err(error) = check_security(&config.kafka, &by_listener) {
        findings.push(Finding::Error(error.to_string()));
    }
    for listener in &config.kafka {
        let enabled = &by_listener.of(&listener.name).sasl_enabled_mechanisms;
        let is_enabled = |name: &&str| enabled.iter().any(|enabled| enabled == name);
        let open_mechanisms: Vec<&str> = ["PLAIN", "OAUTHBEARER"].into_iter().filter(is_enabled).collect();
        let is_readable =
            listener.protocol == SecurityProtocol::SaslPlaintext && !listener.bind.ip().is_loopback();
        if is_readable && !open_mechanisms.is_empty() {
            findings.push(Finding::Warning(format!(
                "listener {} takes {} without TLS: whoever can listen to the network can log in as its users",
                listener.name,
                open_mechanisms.join(" and ")
            )));
        }
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Makes a file in the directory and removes it.
fn writable(path: &Path) -> std::io::Result<()> {
    let probe = path.join(format!(".check-config-{}", std::process::id()));
    std::fs::write(&probe, b"x")?;
    std::fs::remove_file(&probe)
}

fn ports(config: &ServerConfig, findings: &mut Vec<Finding>) {
    let kafka = config.kafka.iter().map(|listener| {
        let name = match config.kafka.len() {
            1 => "listeners.kafka".to_owned(),
            _ => format!("listener {}", listener.name),
        };
        (name, listener.bind)
    });
    let others = [
        ("listeners.http", config.http),
        ("listeners.connect", config.connect),
        ("listeners.sql", config.sql),
    ]
    .map(|(name, address)| (name.to_owned(), address));
    let mut seen: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for (name, address) in kafka.chain(others) {
        if address.port() != 0
            && let Some(other) = seen.insert(address, name.clone())
        {
            findings.push(Finding::Error(format!("{name} and {other} are both {address}")));
            continue;
        }
        if let Err(error) = TcpListener::bind(address) {
            findings.push(Finding::Warning(format!(
                "{name}: {address} cannot be listened on now: {error}; fine if the node itself is running"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::from_text;

    #[test]
    fn a_directory_that_cannot_be_and_ports_that_collide_are_errors() {
        let text = "[node]\ndata_dir = \"/proc/nowhere\"\n[listeners]\nkafka = \"127.0.0.1:5\"\nhttp = \"127.0.0.1:5\"\n";
        let config = from_text("f", text, &BTreeMap::new()).into_config().unwrap();
        let errors = look(&config)
            .into_iter()
            .filter(|finding| matches!(finding, Finding::Error(_)));
        assert_eq!(errors.count(), 2);
    }
}
