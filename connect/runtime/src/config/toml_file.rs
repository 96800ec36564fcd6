//! TOML text to a [`Document`], and from a dotted key back to the line it stands on.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeTable, DeValue};

use super::Document;

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TomlFile {
    /// What it says.
    pub document: Document,
    lines: BTreeMap<String, usize>,
}

/// Why a text is no TOML, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TomlError {
    /// What is wrong.
    pub message: String,
    /// The line, from 1, where known.
    pub line: Option<usize>,
}

impl TomlFile {
    /// Parses a file's text.
    ///
    /// # Errors
    /// [`TomlError`] for the first place that is no TOML.
    pub fn parse(text: &str) -> Result<Self, TomlError> {
        let table = DeTable::parse(text).map_err(|error| TomlError {
            message: error.message().to_owned(),
            line: error.span().map(|span| line_of(text, span.start)),
        })?;
        let mut lines = BTreeMap::new();
        let map = table_to_json(text, "", table.get_ref(), &mut lines)?;
        Ok(Self {
            document: Document(map),
            lines,
        })
    }

    /// The line, from 1, of a dotted key or of the nearest table around it.
    pub fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            (key, _) = key.rsplit_once('.')?;
        }
    }
}

fn line_of(text: &str, position: usize) -> usize {
    let before = &text.as_bytes()[..position.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn table_to_json(
    text: &str,
    path: &str,
    table: &DeTable<'_>,
    lines: &mut BTreeMap<String, usize>,
) -> Result<Map<String, Value>, TomlError> {
    let mut map = Map::new();
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let line = line_of(text, key.span().start);
        lines.insert(path.clone(), line);
        map.insert(name, to_json(text, &path, value.get_ref(), lines, line)?);
    }
    Ok(map)
}

fn to_json(
    text: &str,
    path: &str,
    value: &DeValue<'_>,
    lines: &mut BTreeMap<String, usize>,
    line: usize,
) -> Result<Value, TomlError> {
    let unfit = |what: &str| TomlError {
        message: format!("`{path}` is {what}"),
        line: Some(line),
    };
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => integer(number)
            .ok_or_else(|| unfit("a whole number beyond 64 bits"))?
            .into(),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number)
            .ok_or_else(|| unfit("not a finite number"))?,
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| to_json(text, path, item.get_ref(), lines, line))
            .collect::<Result<Vec<_>, _>>()?
            .into(),
        DeValue::Table(table) => Value::Object(table_to_json(text, path, table, lines)?),
    })
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_keep_their_types_and_keys_their_lines() {
        let text =
            "name = \"a\"\n\n[settings]\nrows = 0x10\nlist = [\n  \"x\",\n]\nnested = { deep = 1.5 }\n";
        let file = TomlFile::parse(text).expect("valid");
        let expected =
            json!({ "name": "a", "settings": { "rows": 16, "list": ["x"], "nested": { "deep": 1.5 } } });
        assert_eq!(Value::Object(file.document.0.clone()), expected);
        assert_eq!(file.line("settings.rows"), Some(4));
        assert_eq!(file.line("settings.nested.deep"), Some(8));
        assert_eq!(file.line("settings.absent"), Some(3), "the table that lacks it");
        assert_eq!(file.line("absent"), None);
    }

    #[test]
    fn broken_toml_names_its_line() {
        let error = TomlFile::parse("name = \"a\"\nplugin = = 3\n").expect_err("broken");
        assert_eq!(error.line, Some(2), "{error}");
    }
}
