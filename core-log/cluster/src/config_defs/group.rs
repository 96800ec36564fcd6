//! Keys of one consumer group of the newer protocol (KIP-848).

use super::{Check, ConfigDef, ConfigType, Synonym, UpdateMode};

const fn row(
    name: &'static str,
    default: &'static str,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        config_type: ConfigType::Int,
        default: Some(default),
        check: Check::AtLeast(1),
        update: UpdateMode::ClusterWide,
        synonyms,
        doc,
    }
}

/// Every group key, sorted by name.
#[rustfmt::skip]
pub const GROUP_CONFIGS: &[ConfigDef] = &[
    row("consumer.heartbeat.interval.ms", "5000", &[Synonym::same("group.consumer.heartbeat.interval.ms")],
        "How often the group's members are told to send a heartbeat, within the bounds of the broker configs group.consumer.min.heartbeat.interval.ms and group.consumer.max.heartbeat.interval.ms."),
    row("consumer.session.timeout.ms", "45000", &[Synonym::same("group.consumer.session.timeout.ms")],
        "How long a member of the group may be silent before it is taken out, within the bounds of the broker configs group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms."),
];
