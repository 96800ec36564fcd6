//! Client settings from a properties file, the same that Kafka's own tools take with `--command-config`, so that what
//! works there works here.
//!
//! The form is that of Java: `name=value`, `#` and `!` begin a comment, a backslash at the end goes on in the next
//! line. `${env:NAME}` in a value stands for an environment variable, as with Kafka's `EnvVarConfigProvider`, so that
//! a file can be kept without its secrets. What the settings mean is in `settings`.
//!
//! # Example
//! ```
//! use highwater_client::{ClientConfig, Properties};
//!
//! let text = "
//! bootstrap.servers=kafka.example.org:9093
//! security.protocol=SASL_SSL
//! sasl.mechanism=SCRAM-SHA-512
//! sasl.username=alice
//! sasl.password=${env:KAFKA_PASSWORD}
//! ";
//! let environment = |name: &str| (name == "KAFKA_PASSWORD").then(|| "alice-secret".to_owned());
//! let mut config = ClientConfig::default();
//! config.apply(&Properties::parse(text, &environment)?)?;
//! assert_eq!(config.security.protocol(), "SASL_SSL");
//! # Ok::<(), highwater_client::PropertiesError>(())
//! ```
//!
//! # Invariants
//! - No value is in any `Debug` output or error, save of settings that are no secret.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::security::read_small_file;

mod jaas;
mod settings;

/// Settings by name, their variables replaced.
#[derive(Clone, Default)]
pub struct Properties {
    entries: BTreeMap<String, String>,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PropertiesError {
    /// The file cannot be read.
    #[error("cannot read the settings in {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A line is not of the form of a properties file, or names a variable that is not set.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong and what to do about it.
        problem: String,
    },
    /// A setting is unknown, or its value cannot work.
    #[error("{name}: {problem}")]
    Setting {
        /// Kafka's name of it.
        name: String,
        /// What is wrong and what to do about it.
        problem: String,
    },
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Properties {
    /// Reads a file; variables are those of this process.
    ///
    /// # Errors
    /// [`PropertiesError::Read`], [`PropertiesError::Line`].
    pub fn read(path: &Path) -> Result<Self, PropertiesError> {
        let text = read_small_file(path)
            .and_then(|bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
            })
            .map_err(|source| PropertiesError::Read {
                path: path.to_owned(),
                source: Arc::new(source),
            })?;
        Self::parse(&text, &|name| std::env::var(name).ok())
    }

    /// Reads text; `environment` knows the variables. Of two lines with the same name the later counts.
    ///
    /// # Errors
    /// [`PropertiesError::Line`].
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, PropertiesError> {
        let mut entries = BTreeMap::new();
        for (line, text) in logical_lines(text) {
            let at_line = |problem| PropertiesError::Line { line, problem };
            let (name, value) = split(&text).map_err(at_line)?;
            let value = expand(&value, environment).map_err(at_line)?;
            entries.insert(name, value);
        }
        Ok(Self { entries })
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }
}

/// Lines without comments and blanks, those that end in a backslash joined with the next, with the number of the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, raw) in text.lines().enumerate() {
        let raw = raw.trim_start();
        if open.is_none() && (raw.is_empty() || raw.starts_with(['#', '!'])) {
            continue;
        }
        let (number, mut line) = open.take().unwrap_or((index + 1, String::new()));
        let backslashes = raw.bytes().rev().take_while(|b| *b == b'\\').count();
        if backslashes % 2 == 1 {
            line.push_str(&raw[..raw.len() - 1]);
            open = Some((number, line));
        } else {
            line.push_str(raw);
            lines.push((number, line));
        }
    }
    lines.extend(open);
    lines
}

/// Name and value: the first `=`, `:` or blank that is not escaped divides them.
fn split(line: &str) -> Result<(String, String), String> {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let divides = !escaped && (matches!(c, '=' | ':') || c.is_whitespace());
        escaped = !escaped && *c == '\\';
        divides
    });
    let (name, rest) = match end {
        Some((at, _)) => line.split_at(at),
        None => (line, ""),
    };
    let rest = rest.trim_start();
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    let name = unescape(name)?;
    if name.is_empty() {
        return Err("there is no name before the =".to_owned());
    }
    Ok((name, unescape(rest)?))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 4);
                let c = code.and_then(char::from_u32).ok_or(
                    "\\u is followed by four hexadecimal digits of a character; a backslash is written \\\\",
                )?;
                out.push(c);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// Replaces `${env:NAME}`; any other `$` is itself.
fn expand(value: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    const OPEN: &str = "${env:";
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(OPEN) {
        out.push_str(&rest[..at]);
        let inside = &rest[at + OPEN.len()..];
        let end = inside.find('}').ok_or("${env: has no } after it")?;
        let name = &inside[..end];
        let found = environment(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
        out.push_str(&found);
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Properties, PropertiesError> {
        Properties::parse(text, &|name| (name == "PASSWORD").then(|| "p=1".to_owned()))
    }

    #[test]
    fn the_forms_of_java_are_read() {
        let properties = parse(
            "# a comment\n! another\n\n a = 1 \nb:2\nc 3\n  d\nlong = one \\\n   two\\\\\nkey\\ with\\=signs=x\nu=\\u00e9\\t\na=last\n",
        )
        .expect("reads");
        let expected = [
            ("a", "last"),
            ("b", "2"),
            ("c", "3"),
            ("d", ""),
            ("key with=signs", "x"),
            ("long", "one two\\"),
            ("u", "é\t"),
        ];
        let found: Vec<(&str, &str)> = properties
            .entries
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn variables_come_from_the_environment_and_other_dollars_stay() {
        let properties = parse("sasl.password=a${env:PASSWORD}z\nother=${file:x} $5\n").expect("reads");
        assert_eq!(properties.get("sasl.password"), Some("ap=1z"));
        assert_eq!(properties.get("other"), Some("${file:x} $5"));
        assert_eq!(format!("{properties:?}"), r#"{"other", "sasl.password"}"#);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        for (text, problem) in [
            (
                "a=1\nb=${env:NOPE}",
                "line 2: the environment variable NOPE is not set",
            ),
            ("a=${env:NOPE", "line 1: ${env: has no } after it"),
            ("\n=1", "line 2: there is no name before the ="),
            ("a=\\u12", "line 1: \\u is followed"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
