//! The listeners for Kafka clients: three keys that belong together, in the words of Kafka's `listeners`,
//! `advertised.listeners` and `listener.security.protocol.map`.

use std::net::SocketAddr;

use highwater_broker::{ListenerConfig, SecurityProtocol};

use super::settings::{host_and_port, items};

/// The keys, for messages.
const KAFKA: &str = "listeners.kafka";
const ADVERTISED: &str = "listeners.advertised";
const PROTOCOLS: &str = "listeners.protocols";

/// Whether a value names addresses to listen on.
pub(crate) fn are_listeners(value: &str) -> bool {
    let mut parsed = items(value).map(|item| split(item).1.parse::<SocketAddr>().is_ok());
    items(value).next().is_some() && parsed.all(|is_fine| is_fine)
}

/// Whether a value names addresses to connect to.
pub(crate) fn are_advertised(value: &str) -> bool {
    let mut parsed = items(value).map(|item| host_and_port(split(item).1).is_some());
    items(value).next().is_some() && parsed.all(|is_fine| is_fine)
}

/// Whether a value gives protocols to names.
pub(crate) fn are_protocols(value: &str) -> bool {
    items(value).all(|item| protocol_of(item).is_some())
}

/// `NAME://address`, or an address alone.
fn split(item: &str) -> (Option<&str>, &str) {
    match item.split_once("://") {
        Some((name, address)) => (Some(name), address),
        None => (None, item),
    }
}

fn protocol_of(item: &str) -> Option<(&str, SecurityProtocol)> {
    let (name, protocol) = item.split_once(':')?;
    Some((name.trim(), protocol.trim().parse().ok()?))
}

/// What the three keys say together; every value has passed its own check.
pub(crate) fn build(
    kafka: &str,
    advertised: Option<&str>,
    protocols: Option<&str>,
) -> Result<Vec<ListenerConfig>, String> {
    let protocols: Vec<(&str, SecurityProtocol)> = items(protocols.unwrap_or_default())
        .filter_map(protocol_of)
        .collect();
    let mut listeners: Vec<ListenerConfig> = Vec::new();
    for item in items(kafka) {
        let (name, address) = split(item);
        let name = name.unwrap_or(SecurityProtocol::Plaintext.name());
        let mapped = protocols
            .iter()
            .find(|(of, _)| *of == name)
            .map(|(_, protocol)| *protocol);
        let Some(protocol) = mapped.or_else(|| name.parse().ok()) else {
            return Err(format!(
                "{KAFKA}: listener '{name}' has no security protocol; name it PLAINTEXT, SSL, SASL_PLAINTEXT or \
                 SASL_SSL, or give it one in {PROTOCOLS}"
            ));
        };
        if listeners.iter().any(|other| other.name == name) {
            return Err(format!(
                "{KAFKA}: two listeners are named '{name}'; give each its own name, and its protocol in {PROTOCOLS}"
            ));
        }
        let bind = address
            .parse()
            .map_err(|_| format!("{KAFKA}: '{address}' is no address and port"))?;
        listeners.push(ListenerConfig {
            name: name.to_owned(),
            protocol,
            bind,
            advertised: None,
        });
    }
    advertise(&mut listeners, advertised.unwrap_or_default())?;
    Ok(listeners)
}

fn advertise(listeners: &mut [ListenerConfig], advertised: &str) -> Result<(), String> {
    for item in items(advertised) {
        let (name, address) = split(item);
        let listener = match (name, &mut *listeners) {
            (Some(name), all) => all.iter_mut().find(|listener| listener.name == name),
            (None, [only]) => Some(only),
            (None, _) => {
                return Err(format!(
                    "{ADVERTISED}: '{address}' could be any of several listeners; write NAME://{address}"
                ));
            }
        };
        let Some(listener) = listener else {
            return Err(format!(
                "{ADVERTISED}: '{item}' names a listener that {KAFKA} does not have"
            ));
        };
        listener.advertised = host_and_port(address);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_plaintext_and_names_get_protocols_and_advertised_addresses() {
        let one = build("127.0.0.1:9092", Some("b:1"), None).unwrap();
        assert_eq!(
            (one[0].name.as_str(), one[0].protocol),
            ("PLAINTEXT", SecurityProtocol::Plaintext)
        );
        assert_eq!(one[0].advertised, Some(("b".to_owned(), 1)));
        let kafka = "INSIDE://127.0.0.1:9092,SASL_SSL://0.0.0.0:9093";
        let two = build(kafka, Some("SASL_SSL://b:2"), Some("INSIDE:SASL_PLAINTEXT")).unwrap();
        assert_eq!(two[0].protocol, SecurityProtocol::SaslPlaintext);
        assert_eq!(
            (&two[0].advertised, &two[1].advertised),
            (&None, &Some(("b".to_owned(), 2)))
        );
    }

    #[test]
    fn names_without_protocol_repeated_or_unknown_are_refused() {
        let refused = |kafka, advertised, expected: &str| {
            let message = build(kafka, advertised, None).unwrap_err();
            assert!(message.contains(expected), "{message}");
        };
        refused("INSIDE://127.0.0.1:1", None, "no security protocol");
        refused("127.0.0.1:1,127.0.0.1:2", None, "two listeners");
        refused("127.0.0.1:1,SSL://127.0.0.1:2", Some("b:1"), "any of several");
        refused("127.0.0.1:1", Some("SSL://b:1"), "does not have");
    }
}
