//! Settings of the sink.

use std::path::PathBuf;
use std::time::Duration;

use highwater_connect_api::{ConfigDef, ConfigKey, Kind, units};
use serde::Deserialize;

/// The table of settings.
pub const CONFIG: ConfigDef = ConfigDef {
    keys: &[
        ConfigKey::required(
            "directory",
            Kind::Text,
            "where the files go; created if it is missing",
        ),
        ConfigKey::optional(
            "format",
            Kind::Choice(&["value", "envelope"]),
            "a line is the value alone, or an object with topic, partition, offset, timestamp, key and value",
        )
        .with_default("value"),
        ConfigKey::optional(
            "roll_bytes",
            Kind::Size,
            "a file is complete before it grows beyond this size",
        )
        .with_default("64MiB"),
        ConfigKey::optional(
            "roll_rows",
            Kind::Integer {
                min: 1,
                max: i64::MAX,
            },
            "a file is complete when it has this many lines",
        ),
        ConfigKey::optional(
            "roll_interval",
            Kind::Duration,
            "a file is complete when its first line is this old",
        )
        .with_default("10m"),
        ConfigKey::optional(
            "fsync",
            Kind::Boolean,
            "whether lines survive a power failure, not only a killed process",
        )
        .with_default("true"),
    ],
};

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineFormat {
    /// The value.
    #[default]
    Value,
    /// The value and where it comes from.
    Envelope,
}

/// The settings, read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// Where the files go.
    pub directory: PathBuf,
    /// What a line holds.
    #[serde(default)]
    pub format: LineFormat,
    /// Size at which a file is complete, in bytes.
    #[serde(default = "roll_bytes", deserialize_with = "units::size_bytes")]
    pub roll_bytes: u64,
    /// Lines at which a file is complete; `None` for any number.
    #[serde(default)]
    pub roll_rows: Option<u64>,
    /// Age at which a file is complete.
    #[serde(default = "roll_interval", deserialize_with = "units::duration")]
    pub roll_interval: Duration,
    /// Whether data is synced to the disk.
    #[serde(default = "fsync")]
    pub fsync: bool,
}

fn roll_bytes() -> u64 {
    64 << 20
}

fn roll_interval() -> Duration {
    Duration::from_secs(600)
}

fn fsync() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_connect_api::Settings;
    use serde_json::json;

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_struct() {
        let mut written = serde_json::Map::from_iter([("directory".to_owned(), json!("out"))]);
        let sparse: FileSettings = Settings(written.clone()).read().expect("the minimum");
        for key in CONFIG.keys {
            if let Some(default) = key.default {
                let value = match key.kind {
                    Kind::Boolean => json!(default == "true"),
                    _ => json!(default),
                };
                written.insert(key.name.to_owned(), value);
            }
        }
        let full = Settings(written);
        assert_eq!(CONFIG.check(&full), []);
        assert_eq!(full.read::<FileSettings>().expect("valid"), sparse);
    }
}
