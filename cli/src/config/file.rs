//! The file: TOML to entries that know their lines.
//!
//! Kafka's names may be quoted (`"num.partitions" = 3`) or not (`num.partitions = 3`, which to TOML is a table in a
//! table): both mean the same.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::settings::PROPERTIES;

/// One key with its value, as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Empty above the first section.
    pub(crate) section: String,
    pub(crate) key: String,
    pub(crate) value: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// Every entry in the order of the file.
pub(crate) fn entries(place: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        problems.push(Problem {
            place: format!("{place}:{line}"),
            message: error.message().to_owned(),
        });
    }
    if !problems.is_empty() {
        return Vec::new();
    }
    let mut walk = Walk {
        text,
        place,
        problems,
        entries: Vec::new(),
    };
    for (key, value) in document.get_ref() {
        match value.get_ref() {
            DeValue::Table(section) => walk.section(key.get_ref(), section),
            _ => walk.value("", key.get_ref().to_string(), key, value),
        }
    }
    let mut entries = walk.entries;
    entries.sort_by_key(|entry| entry.line);
    entries
}

struct Walk<'a> {
    text: &'a str,
    place: &'a str,
    problems: &'a mut Vec<Problem>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.nested(section, key.get_ref().to_string(), key, value);
        }
    }

    fn nested(
        &mut self,
        section: &str,
        name: String,
        key: &Spanned<impl Sized>,
        value: &Spanned<DeValue<'_>>,
    ) {
        match value.get_ref() {
            DeValue::Table(inner) if section == PROPERTIES => {
                for (more, value) in inner {
                    self.nested(section, format!("{name}.{}", more.get_ref()), more, value);
                }
            }
            _ => self.value(section, name, key, value),
        }
    }

    fn value(
        &mut self,
        section: &str,
        name: String,
        key: &Spanned<impl Sized>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let line = line_of(self.text, key.span().start);
        match words(value.get_ref()) {
            Some(value) => self.entries.push(Entry {
                section: section.to_owned(),
                key: name,
                value,
                line,
            }),
            None => self.problems.push(Problem {
                place: format!("{}:{line}", self.place),
                message: format!("'{name}' cannot be a {}", value.get_ref().type_str()),
            }),
        }
    }
}

/// A value as text; a list's items are joined by commas.
fn words(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match number.radix() {
            10 => number.as_str().trim_start_matches('+').to_owned(),
            radix => i64::from_str_radix(number.as_str(), radix).ok()?.to_string(),
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(|item| words(item.get_ref())).collect();
            items?.join(",")
        }
        DeValue::Datetime(_) | DeValue::Table(_) => return None,
    })
}

fn line_of(text: &str, position: usize) -> usize {
    let before = text.as_bytes().get(..position).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_dotted_property_names_are_the_same() {
        let text = "[properties]\n\"log.retention.hours\" = 24\nlog.retention.bytes = 1_000\n\
                    log.cleanup.policy = [\"compact\", \"delete\"]\nlog.preallocate = true\n";
        let mut problems = Vec::new();
        let found: Vec<_> = entries("f", text, &mut problems)
            .into_iter()
            .map(|entry| (entry.line, entry.key, entry.value))
            .collect();
        let expected = [
            (2, "log.retention.hours", "24"),
            (3, "log.retention.bytes", "1000"),
            (4, "log.cleanup.policy", "compact,delete"),
            (5, "log.preallocate", "true"),
        ];
        assert_eq!(problems, []);
        assert_eq!(
            found,
            expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned()))
        );
    }
}
