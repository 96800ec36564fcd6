//! The statements of the two databases, as pure text.

use serde::Deserialize;
use serde_json::Value;

/// What a new column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A floating-point number of 64 bits.
    Float,
    /// Text.
    Text,
    /// Any JSON document.
    Json,
}

impl ColumnType {
    /// The type that holds both values; anything that fits nowhere else fits into JSON.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_i64() => Self::Integer,
            Value::Number(_) => Self::Float,
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) => Self::Json,
        })
    }

    /// The narrowest type that holds values of both.
    pub(crate) fn join(self, other: Self) -> Self {
        match (self, other) {
            (left, right) if left == right => left,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            _ => Self::Json,
        }
    }
}

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 9.5 or newer.
    Postgres,
    /// SQLite 3.38 or newer.
    Sqlite,
}

/// A column of a table that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in the database's own words.
    pub sql_type: String,
}

impl Dialect {
    /// The database's word for a type.
    pub(crate) fn type_name(self, column: ColumnType) -> &'static str {
        match (self, column) {
            (Self::Postgres, ColumnType::Boolean) | (Self::Sqlite, ColumnType::Boolean) => "boolean",
            (Self::Postgres, ColumnType::Integer) => "bigint",
            (Self::Postgres, ColumnType::Float) => "double precision",
            (Self::Postgres, ColumnType::Json) => "jsonb",
            (Self::Sqlite, ColumnType::Integer) => "integer",
            (Self::Sqlite, ColumnType::Float) => "real",
            (_, ColumnType::Text) | (Self::Sqlite, ColumnType::Json) => "text",
        }
    }

    /// `CREATE TABLE` with the key's columns not null.
    pub(crate) fn create_table(
        self,
        table: &str,
        columns: &[(String, ColumnType)],
        key: &[String],
    ) -> String {
        let mut parts: Vec<String> = columns
            .iter()
            .map(|(name, kind)| {
                let not_null = if key.contains(name) { " not null" } else { "" };
                format!("{} {}{not_null}", quoted(name), self.type_name(*kind))
            })
            .collect();
        if !key.is_empty() {
            parts.push(format!("primary key ({})", quoted_list(key)));
        }
        format!(
            "create table if not exists {} ({})",
            quoted_table(table),
            parts.join(", ")
        )
    }

    /// `ALTER TABLE` that adds one nullable column.
    pub(crate) fn add_column(self, table: &str, column: &str, kind: ColumnType) -> String {
        let if_absent = if self == Self::Postgres {
            "if not exists "
        } else {
            ""
        };
        format!(
            "alter table {} add column {if_absent}{} {}",
            quoted_table(table),
            quoted(column),
            self.type_name(kind)
        )
    }

    /// Writes the rows of a JSON array, the statement's one parameter; upserts them where there is a key.
    pub(crate) fn write(self, table: &str, columns: &[Column], key: &[String]) -> String {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        let mut sql = format!(
            "insert into {} ({}) {}",
            quoted_table(table),
            quoted_list(&names),
            self.rows_of_parameter(columns)
        );
        if !key.is_empty() {
            let others: Vec<String> = names
                .iter()
                .filter(|name| !key.contains(name))
                .map(|name| format!("{0} = excluded.{0}", quoted(name)))
                .collect();
            let action = if others.is_empty() {
                "do nothing".to_owned()
            } else {
                format!("do update set {}", others.join(", "))
            };
            sql.push_str(&format!(" on conflict ({}) {action}", quoted_list(key)));
        }
        sql
    }

    /// Deletes the rows whose keys stand in a JSON array, the statement's one parameter.
    pub(crate) fn delete(self, table: &str, key_columns: &[Column]) -> String {
        let names: Vec<String> = key_columns.iter().map(|column| column.name.clone()).collect();
        format!(
            "delete from {} where ({}) in ({})",
            quoted_table(table),
            quoted_list(&names),
            self.rows_of_parameter(key_columns)
        )
    }

    fn rows_of_parameter(self, columns: &[Column]) -> String {
        match self {
            Self::Postgres => {
                let typed: Vec<String> = columns
                    .iter()
                    .map(|c| format!("{} {}", quoted(&c.name), c.sql_type))
                    .collect();
                let names: Vec<String> = columns.iter().map(|c| c.name.clone()).collect();
                format!(
                    "select {} from jsonb_to_recordset($1::text::jsonb) as batch({})",
                    quoted_list(&names),
                    typed.join(", ")
                )
            }
            Self::Sqlite => {
                let extracted: Vec<String> = columns
                    .iter()
                    .map(|c| format!("json_extract(value, {})", json_path(&c.name)))
                    .collect();
                // `where true` keeps `on conflict` from being read as a join condition.
                format!("select {} from json_each(?1) where true", extracted.join(", "))
            }
        }
    }
}

/// An identifier, safe whatever it contains.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table name; a dot separates the schema.
pub(crate) fn quoted_table(table: &str) -> String {
    table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| quoted(name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn json_path(name: &str) -> String {
    format!(
        "'$.\"{}\"'",
        name.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\'', "''")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[(&str, &str)]) -> Vec<Column> {
        names
            .iter()
            .map(|(name, sql_type)| Column {
                name: (*name).to_owned(),
                sql_type: (*sql_type).to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_postgres_upsert_types_every_column_as_the_table_has_it() {
        let sql = Dialect::Postgres.write(
            "public.candles",
            &columns(&[("symbol", "text"), ("open", "double precision")]),
            &["symbol".to_owned()],
        );
        assert_eq!(
            sql,
            "insert into \"public\".\"candles\" (\"symbol\", \"open\") select \"symbol\", \"open\" \
             from jsonb_to_recordset($1::text::jsonb) as batch(\"symbol\" text, \"open\" double precision) \
             on conflict (\"symbol\") do update set \"open\" = excluded.\"open\""
        );
    }

    #[test]
    fn a_sqlite_upsert_of_key_columns_alone_does_nothing_on_conflict() {
        let sql = Dialect::Sqlite.write("t", &columns(&[("id", "integer")]), &["id".to_owned()]);
        assert_eq!(
            sql,
            "insert into \"t\" (\"id\") select json_extract(value, '$.\"id\"') from json_each(?1) where true \
             on conflict (\"id\") do nothing"
        );
    }

    #[test]
    fn hostile_names_stay_inside_their_quotes() {
        assert_eq!(quoted("a\"; drop table b; --"), "\"a\"\"; drop table b; --\"");
        assert_eq!(json_path("it's \"x\""), "'$.\"it''s \\\"x\\\"\"'");
    }

    #[test]
    fn whole_and_broken_numbers_share_a_float_column() {
        assert_eq!(ColumnType::Integer.join(ColumnType::Float), ColumnType::Float);
        assert_eq!(ColumnType::Text.join(ColumnType::Integer), ColumnType::Json);
    }
}
