//! Settings of the sink.

use std::collections::BTreeMap;

use highwater_connect_api::{ConfigDef, ConfigKey, Kind};
use serde::Deserialize;

use crate::dialect::ColumnType;

/// The table of settings.
pub const CONFIG: ConfigDef = ConfigDef {
    keys: &[
        ConfigKey::required("url", Kind::Password, "the database: postgres://user:password@host/database or sqlite:FILE"),
        ConfigKey::optional("table", Kind::Text, "the table to write; {topic} stands for the record's topic").with_default("{topic}"),
        ConfigKey::optional("pk_mode", Kind::Choice(&["record_key", "record_value", "none"]), "where the primary key comes from; with none rows are only inserted, and a redelivery repeats them").with_default("record_value"),
        ConfigKey::optional("pk_fields", Kind::List, "the columns of the primary key").with_default("[]"),
        ConfigKey::optional("auto_create", Kind::Boolean, "create a missing table from the first batch").with_default("true"),
        ConfigKey::optional("auto_evolve", Kind::Boolean, "add missing columns, always nullable").with_default("true"),
        ConfigKey::optional("delete_enabled", Kind::Boolean, "a tombstone deletes its row; needs pk_mode = record_key").with_default("false"),
        ConfigKey::optional("fields", Kind::List, "the fields to write; empty means all").with_default("[]"),
        ConfigKey::optional("columns", Kind::Table, "types of new columns that the data must not decide: boolean, integer, float, text or json").with_default("{}"),
    ],
};

/// Where the primary key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PkMode {
    /// From the record's key: its fields if it is a JSON object, else the key itself in the one key column.
    RecordKey,
    /// From fields of the record's value.
    RecordValue,
    /// No key: rows are only inserted.
    None,
}

/// The settings, read.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The database; may hold a password, hence no `Debug` of it.
    pub url: String,
    /// The table, with `{topic}` for the record's topic.
    #[serde(default = "topic_as_table")]
    pub table: String,
    /// Where the primary key comes from.
    #[serde(default = "key_from_value")]
    pub pk_mode: PkMode,
    /// The columns of the primary key.
    #[serde(default)]
    pub pk_fields: Vec<String>,
    /// Create a missing table.
    #[serde(default = "yes")]
    pub auto_create: bool,
    /// Add missing columns.
    #[serde(default = "yes")]
    pub auto_evolve: bool,
    /// A tombstone deletes its row.
    #[serde(default)]
    pub delete_enabled: bool,
    /// The fields to write; empty means all.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Types of new columns that the data must not decide.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnType>,
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSettings")
            .field("table", &self.table)
            .field("pk_mode", &self.pk_mode)
            .finish_non_exhaustive()
    }
}

fn topic_as_table() -> String {
    "{topic}".to_owned()
}

fn key_from_value() -> PkMode {
    PkMode::RecordValue
}

fn yes() -> bool {
    true
}

impl DatabaseSettings {
    /// The table of a topic. Dots and dashes of the topic's name become underscores; a dot written in the
    /// setting itself separates schema and table.
    pub(crate) fn table_for(&self, topic: &str) -> String {
        self.table.replace("{topic}", &topic.replace(['.', '-'], "_"))
    }
}
