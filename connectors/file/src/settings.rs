//! Settings of the sink.

use std::path::PathBuf;
use std::time::Duration;

use highwater_connect_api::{ConfigDef, ConfigKey, Kind, units};
use serde::Deserialize;

/// The table of settings.
pub const CONFIG: ConfigDef = ConfigDef {
    keys: &[
        key(
            "directory",
            Kind::Text,
            None,
            true,
            "where the files go; created if it is missing",
        ),
        key(
            "format",
            Kind::Choice(&["value", "envelope"]),
            Some("value"),
            false,
            "a line is the value alone, or an object with topic, partition, offset, timestamp, key and value",
        ),
        key(
            "roll_bytes",
            Kind::Size,
            Some("64MiB"),
            false,
            "a file is complete before it grows beyond this size",
        ),
        key(
            "roll_rows",
            Kind::Integer {
                min: 1,
                max: i64::MAX,
            },
            None,
            false,
            "a file is complete when it has this many lines",
        ),
        key(
            "roll_interval",
            Kind::Duration,
            Some("10m"),
            false,
            "a file is complete when its first line is this old",
        ),
        key(
            "fsync",
            Kind::Boolean,
            Some("true"),
            false,
            "whether lines survive a power failure, not only a killed process",
        ),
    ],
};

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    required: bool,
    doc: &'static str,
) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default,
        required,
        doc,
    }
}

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
