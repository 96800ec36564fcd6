//! How answers are printed: tables for people, JSON for programs, colours only on a terminal.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One JSON document, or one per line where answers go on.
    Json,
}

/// Prints answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
}

/// Whether colours help: a terminal, and nobody said NO_COLOR.
pub(crate) fn is_colourful(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints rows under headings; as JSON, an array of objects with the headings as keys.
    pub(crate) fn rows(&self, headings: &[&str], rows: Vec<Vec<Value>>) -> anyhow::Result<()> {
        if self.is_json() {
            let objects: Vec<Value> = rows
                .into_iter()
                .map(|row| {
                    Value::Object(
                        headings
                            .iter()
                            .map(|h| h.to_lowercase().replace(' ', "_"))
                            .zip(row)
                            .collect(),
                    )
                })
                .collect();
            return line(&serde_json::to_string_pretty(&objects)?);
        }
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(headings.iter().map(|h| h.to_uppercase()));
        for row in rows {
            table.add_row(row.iter().map(cell));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        line(table.trim_fmt().as_str())
    }

    /// Says that something was done; as JSON, an object.
    pub(crate) fn done(&self, sentence: &str, facts: Value) -> anyhow::Result<()> {
        if self.is_json() {
            line(&facts.to_string())
        } else {
            line(sentence)
        }
    }
}

/// Prints a line. A reader that went away (a closed pipe) ends the program without a complaint.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// An error with its causes, each said once: many errors repeat their cause in their own words.
pub(crate) fn words_of(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words.push_str(": ");
            words.push_str(&cause);
        }
    }
    words
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_said_already_is_not_repeated() {
        let cause = anyhow::anyhow!("port 9092 is taken");
        let error = cause
            .context("cannot listen: port 9092 is taken")
            .context("the node does not start");
        assert_eq!(
            words_of(&error),
            "the node does not start: cannot listen: port 9092 is taken"
        );
    }
}
