//! The table of a node's own keys: section, name, kind, default, meaning.
//!
//! Brokers' properties under Kafka's names are not here but in the registry of `highwater-cluster`.

use std::net::SocketAddr;

use highwater_cluster::config_defs::nearest;

use super::listeners;

/// The section that holds Kafka's broker properties.
pub(crate) const PROPERTIES: &str = "properties";

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Path,
    /// In the file a list of strings; in the environment separated by commas.
    Paths,
    Address,
    /// One or several; in the file a text or a list, in the environment separated by commas.
    Listeners,
    /// The same for `host:port`.
    Advertised,
    /// A list of `NAME:PROTOCOL`.
    Protocols,
    Bytes,
    Milliseconds,
    Text,
    OneOf(&'static [&'static str]),
}

/// One key.
#[derive(Debug)]
pub(crate) struct SettingDef {
    /// `section.key`.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) is_required: bool,
    /// Shown in the reference where there is no default.
    pub(crate) example: &'static str,
    pub(crate) doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> SettingDef {
    SettingDef {
        name,
        kind,
        default: Some(default),
        is_required: false,
        example: default,
        doc,
    }
}

/// Every key, by section.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[SettingDef] = &[
    SettingDef {
        name: "node.data_dir", kind: Kind::Path, default: None, is_required: true, example: "/var/lib/highwater",
        doc: "Where the log, the offsets and the metadata live. Made if it does not exist. One process at a time.",
    },
    key("node.connectors", Kind::Paths, "",
        "Connector files, or folders of them, to run from the start."),
    key("listeners.kafka", Kind::Listeners, "127.0.0.1:9092",
        "Where Kafka clients connect: an address, or a list of listeners such as [\"PLAINTEXT://127.0.0.1:9092\", \"SASL_SSL://0.0.0.0:9093\"]. A name is a security protocol (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL) or has one in listeners.protocols; an address alone is PLAINTEXT. 0.0.0.0 is every address of the machine. Port 0 takes a free one."),
    SettingDef {
        name: "listeners.advertised", kind: Kind::Advertised, default: None, is_required: false,
        example: "broker.example.org:9092",
        doc: "What Kafka clients are told to connect to; they must be able to resolve and reach it. With several listeners a list such as [\"SASL_SSL://broker.example.org:9093\"]. Without it they are told where the listener is bound, or localhost when that is every address.",
    },
    SettingDef {
        name: "listeners.protocols", kind: Kind::Protocols, default: None, is_required: false,
        example: "PLAINTEXT:PLAINTEXT",
        doc: "Security protocols of listeners that are named otherwise, such as [\"INSIDE:PLAINTEXT\", \"OUTSIDE:SASL_SSL\"].",
    },
    key("listeners.http", Kind::Address, "127.0.0.1:8080",
        "Metrics for Prometheus, /health and /ready."),
    key("listeners.connect", Kind::Address, "127.0.0.1:8083",
        "Connect's REST API. Whoever reaches it can run connectors: keep it off public networks."),
    key("listeners.sql", Kind::Address, "127.0.0.1:5433",
        "SQL on the Postgres wire. Whoever reaches it can read every topic."),
    key("logging.level", Kind::Text, "info,openraft=warn,sqlx=warn",
        "What is logged to standard error: error, warn, info, debug or trace, also per module. --log and HIGHWATER_LOG win over it."),
    key("logging.format", Kind::OneOf(&["text", "json"]), "text",
        "text for people, json for one object per line."),
    key("limits.request_memory_bytes", Kind::Bytes, "536870912",
        "The most memory for requests that are read or handled, over all connections. Reading waits when it is reached."),
    key("limits.response_memory_bytes", Kind::Bytes, "536870912",
        "The most memory for fetch answers that are not yet written. Fetches wait when it is reached."),
    key("limits.slow_frame_timeout_ms", Kind::Milliseconds, "30000",
        "A request that has begun to arrive must be complete within this time, and a second more per mebibyte."),
    key("limits.write_timeout_ms", Kind::Milliseconds, "30000",
        "A client that takes no byte of an answer for this long is closed."),
    key("limits.drain_timeout_ms", Kind::Milliseconds, "5000",
        "How long a clean stop waits for requests that are in work."),
];

impl SettingDef {
    pub(crate) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    pub(crate) fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }

    /// The variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("HIGHWATER_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }
}

impl Kind {
    /// Whether a value can be meant; if not, what is expected.
    pub(crate) fn check(self, value: &str) -> Result<(), String> {
        let is_fine = match self {
            Kind::Path | Kind::Text => !value.trim().is_empty(),
            Kind::Paths => true,
            Kind::Address => value.parse::<SocketAddr>().is_ok(),
            Kind::Listeners => listeners::are_listeners(value),
            Kind::Advertised => listeners::are_advertised(value),
            Kind::Protocols => listeners::are_protocols(value),
            Kind::Bytes | Kind::Milliseconds => value.parse::<u32>().is_ok_and(|number| number > 0),
            Kind::OneOf(words) => words.contains(&value),
        };
        if is_fine { Ok(()) } else { Err(self.expected()) }
    }

    pub(crate) fn expected(self) -> String {
        match self {
            Kind::Path => "a path".to_owned(),
            Kind::Paths => "a list of paths".to_owned(),
            Kind::Address => "an address and a port, such as 127.0.0.1:8080".to_owned(),
            Kind::Listeners => "an address and a port, or a list of NAME://address:port".to_owned(),
            Kind::Advertised => {
                "host:port, such as broker.example.org:9092, or a list of NAME://host:port".to_owned()
            }
            Kind::Protocols => {
                "a list of NAME:PROTOCOL, with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL".to_owned()
            }
            Kind::Bytes => "a number of bytes, from 1 to 4294967295".to_owned(),
            Kind::Milliseconds => "a number of milliseconds, from 1 to 4294967295".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// The sections with keys of their own.
pub(crate) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    SETTINGS.iter().map(SettingDef::section).filter(move |section| {
        let is_new = *section != last;
        last = section;
        is_new
    })
}

/// The key of a section.
pub(crate) fn find(section: &str, key: &str) -> Result<&'static SettingDef, String> {
    let of_section = || SETTINGS.iter().filter(|def| def.section() == section);
    if of_section().next().is_none() {
        let hint = nearest(section, sections().chain([PROPERTIES]));
        let hint = hint
            .map(|name| format!("; did you mean [{name}]?"))
            .unwrap_or_default();
        return Err(match section {
            "" => format!("'{key}' stands outside of every section"),
            _ => format!("unknown section [{section}]{hint}"),
        });
    }
    of_section().find(|def| def.key() == key).ok_or_else(|| {
        let hint = nearest(key, of_section().map(SettingDef::key));
        let hint = hint
            .map(|name| format!("; did you mean '{name}'?"))
            .unwrap_or_default();
        format!("unknown key '{key}' in [{section}]{hint}")
    })
}

/// The items of a list value.
pub(crate) fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Host and port of `host:port`.
pub(crate) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
