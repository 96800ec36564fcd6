//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$` in the strings of a document.
//!
//! Works on parsed strings only, so a variable's value can never become structure and a comment never matters.
//! The environment is a function handed in; only [`process_environment`] reads the real one.

use std::fmt;
use std::sync::Arc;

use highwater_connect_api::ConfigProblem;
use serde_json::Value;
use thiserror::Error;

use super::Document;

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Looks variables up.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

impl Environment {
    /// An environment that asks `lookup`.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// An environment without any variable.
    pub fn empty() -> Self {
        Self::new(|_| None)
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment") // Its values may be secrets.
    }
}

/// The environment of this process. A variable that is not UTF-8 counts as unset.
pub fn process_environment() -> Environment {
    Environment::new(|name| std::env::var(name).ok())
}

/// Why a text could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InterpolateError {
    /// The variable has no value.
    #[error("needs the environment variable {name}; set it, or give a default with ${{{name}:-...}}")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The variable has no value and the text says what that means.
    #[error("needs the environment variable {name}: {message}")]
    Demanded {
        /// The variable.
        name: String,
        /// The words after `:?`.
        message: String,
    },
    /// No `}` follows.
    #[error("has a `${{` without a `}}`; write $$ for a dollar sign")]
    Unclosed,
    /// Something else stands between the braces.
    #[error("has `${{{inside}}}`; write ${{NAME}}, ${{NAME:-default}} or ${{NAME:?message}}")]
    Malformed {
        /// What stands there.
        inside: String,
    },
}

/// Fills one text in. An empty variable counts as unset where a default or a message is given, as in a shell.
///
/// # Errors
/// [`InterpolateError`]; none of its texts holds a variable's value.
pub fn interpolate(text: &str, environment: &Environment) -> Result<String, InterpolateError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or(InterpolateError::Unclosed)?;
            filled.push_str(&variable(&after[..end], environment)?);
            rest = &after[end + 1..];
        } else {
            filled.push('$');
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn variable(inside: &str, environment: &Environment) -> Result<String, InterpolateError> {
    let end = inside
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inside.len());
    let (name, operator) = inside.split_at(end);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let malformed = || InterpolateError::Malformed {
        inside: inside.to_owned(),
    };
    if !starts_well {
        return Err(malformed());
    }
    let name = name.to_owned();
    let value = environment.get(&name);
    if operator.is_empty() {
        return value.ok_or(InterpolateError::Unset { name });
    }
    let value = value.filter(|value| !value.is_empty());
    if let Some(default) = operator.strip_prefix(":-") {
        Ok(value.unwrap_or_else(|| default.to_owned()))
    } else if let Some(message) = operator.strip_prefix(":?") {
        let message = message.to_owned();
        value.ok_or(InterpolateError::Demanded { name, message })
    } else {
        Err(malformed())
    }
}

/// The text that interpolation turns back into `literal`.
pub(crate) fn escaped(literal: &str) -> String {
    literal.replace('$', "$$")
}

/// Fills every string of a document in; problems are noted under their dotted keys.
pub(super) fn document(
    document: &Document,
    environment: &Environment,
    problems: &mut Vec<ConfigProblem>,
) -> Document {
    let mut filled = document.clone();
    for (key, value) in &mut filled.0 {
        fill(key, value, environment, problems);
    }
    filled
}

/// Fills every string of a value in.
pub(crate) fn fill(
    path: &str,
    value: &mut Value,
    environment: &Environment,
    problems: &mut Vec<ConfigProblem>,
) {
    match value {
        Value::String(text) => match interpolate(text, environment) {
            Ok(filled) => *text = filled,
            Err(error) => problems.push(ConfigProblem {
                key: path.to_owned(),
                message: error.to_string(),
            }),
        },
        Value::Array(items) => {
            for item in items {
                fill(path, item, environment, problems);
            }
        }
        Value::Object(table) => {
            for (key, value) in table {
                fill(&format!("{path}.{key}"), value, environment, problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::new(|name| match name {
            "URL" => Some("http://localhost:8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${URL}\"]".to_owned()),
            _ => None,
        })
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(interpolate(text, &environment()), Ok(expected.to_owned()));
    }

    #[test]
    fn variables_defaults_and_dollar_signs_are_filled_in() {
        check("${URL}/api", "http://localhost:8080/api");
        check("${NOPE:-a default}", "a default");
        check("${EMPTY:-x}${EMPTY}", "x");
        check("${URL:?say where}", "http://localhost:8080");
        check(
            "cost: 5$$ and $ alone and $${URL}",
            "cost: 5$ and $ alone and ${URL}",
        );
    }

    #[test]
    fn a_value_is_never_interpolated_again() {
        check("${TRICKY}", "${URL}\"]");
    }

    #[test]
    fn what_cannot_be_filled_in_says_how_to_mend_it() {
        let error = |text| {
            interpolate(text, &environment())
                .expect_err("cannot be filled in")
                .to_string()
        };
        assert_eq!(
            error("${NOPE}"),
            "needs the environment variable NOPE; set it, or give a default with ${NOPE:-...}"
        );
        assert_eq!(
            error("${NOPE:?the token of your account}"),
            "needs the environment variable NOPE: the token of your account"
        );
        assert_eq!(
            error("${URL"),
            "has a `${` without a `}`; write $$ for a dollar sign"
        );
        assert!(error("${9}").starts_with("has `${9}`"), "{}", error("${9}"));
    }

    #[test]
    fn an_escaped_literal_survives_interpolation() {
        for literal in ["plain", "${URL}", "5$", "$$"] {
            assert_eq!(
                interpolate(&escaped(literal), &environment()).as_deref(),
                Ok(literal)
            );
        }
    }
}
