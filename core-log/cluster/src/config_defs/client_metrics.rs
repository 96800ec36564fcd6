//! Keys of one subscription to the metrics of clients (KIP-714).

use regex_syntax::ast::parse::ParserBuilder;

use super::{Check, ConfigDef, ConfigType, UpdateMode};

/// Most metrics or patterns of one subscription.
const MAX_ITEMS: usize = 1_000;
/// Longest of either.
const MAX_ITEM_BYTES: usize = 1_024;
/// Groups within groups of a pattern.
const MAX_NESTING: u32 = 50;

/// What a client can be recognised by.
const ATTRIBUTES: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

const fn row(
    name: &'static str,
    config_type: ConfigType,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        config_type,
        default: Some(default),
        check,
        update: UpdateMode::ClusterWide,
        synonyms: &[],
        doc,
    }
}

/// Every key of a subscription, sorted by name.
#[rustfmt::skip]
pub const CLIENT_METRICS_CONFIGS: &[ConfigDef] = &[
    row("interval.ms", ConfigType::Int, "300000", Check::Between(100, 3_600_000),
        "How often clients are to push their metrics. Kept and shown; nothing here receives what clients push."),
    row("match", ConfigType::List, "", Check::ClientPatterns,
        "Which clients are meant: attribute=pattern items, all of which must match the whole attribute, of client_instance_id, client_id, client_software_name, client_software_version, client_source_address and client_source_port; empty means all clients. Kept and shown; nothing here receives what clients push."),
    row("metrics", ConfigType::List, "", Check::Items { most: MAX_ITEMS, most_bytes: MAX_ITEM_BYTES },
        "Which metrics clients are to push: prefixes of their names, or * for all. Kept and shown; nothing here receives what clients push."),
];

/// Whether each item is `attribute=pattern` with a known attribute and a regular expression. Patterns are read and
/// never run; Kafka's dialect knows look-around and back-references beyond what is accepted here.
pub(super) fn are_patterns(items: &[String]) -> bool {
    let is_pattern = |item: &String| {
        item.len() <= MAX_ITEM_BYTES
            && item.split_once('=').is_some_and(|(attribute, pattern)| {
                let mut parser = ParserBuilder::new().nest_limit(MAX_NESTING).build();
                ATTRIBUTES.contains(&attribute.trim()) && parser.parse(pattern.trim()).is_ok()
            })
    };
    items.len() <= MAX_ITEMS && items.iter().all(is_pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_defs::ConfigScope;

    #[test]
    fn subscriptions_take_what_kafkas_take_within_bounds() {
        let takes = |key, value: &str| {
            let row = ConfigScope::ClientMetrics.find(key).unwrap();
            row.parse(value).is_ok()
        };
        let long = "x".repeat(MAX_ITEM_BYTES + 1);
        let many: Vec<_> = (0..=MAX_ITEMS).map(|item| format!("a.{item}")).collect();
        let many = many.join(",");
        let nested = format!("client_id={}a{}", "(".repeat(60), ")".repeat(60));
        for (key, value, is_taken) in [
            ("interval.ms", "100", true),
            ("interval.ms", "3600000", true),
            ("interval.ms", "99", false),
            ("interval.ms", "3600001", false),
            ("metrics", "", true),
            ("metrics", "*", true),
            (
                "metrics",
                "org.apache.kafka.producer.,org.apache.kafka.consumer.coordinator.",
                true,
            ),
            ("metrics", long.as_str(), false),
            ("metrics", many.as_str(), false),
            ("match", "", true),
            (
                "match",
                "client_software_name=apache-kafka-java, client_source_address=10\\.0\\..*",
                true,
            ),
            ("match", "client_id=(?i)app-[0-9]{2}", true),
            ("match", "client_id", false),
            ("match", "client_name=x", false),
            ("match", "client_id=(", false),
            ("match", "client_id=[a", false),
            ("match", nested.as_str(), false),
        ] {
            assert_eq!(takes(key, value), is_taken, "{key}={value:.80}");
        }
    }
}
