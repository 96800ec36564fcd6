//! What drivers and tools say before and between the questions: settings, transactions, "who are you".
//!
//! Each is answered as a Postgres with one read-only user would. Settings that shape Postgres' own workings are
//! taken and have no effect; transactions begin and end, while every statement in them reads its own snapshot.

/// An answer that needs no engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A command that is done.
    Done(&'static str),
    Begin,
    End(&'static str),
    /// One row of one text column.
    Row {
        column: String,
        value: String,
    },
}

/// The version that is told to clients; they choose their dialect by its first number.
pub(super) const SERVER_VERSION: &str = "16.0";

/// Settings that are shown, and may be set without effect.
const SETTINGS: [(&str, &str); 22] = [
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("client_min_messages", "notice"),
    ("datestyle", "ISO, MDY"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "1"),
    ("idle_in_transaction_session_timeout", "0"),
    ("integer_datetimes", "on"),
    ("intervalstyle", "postgres"),
    ("jit", "off"),
    ("lock_timeout", "0"),
    ("max_identifier_length", "63"),
    ("row_security", "on"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "160000"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("transaction_isolation", "repeatable read"),
];

/// The statements in `sql`, without comments; empty ones are left out.
///
/// Not the parser's business, since it does not know every courtesy and one of them may stand beside a question.
pub(super) fn split(sql: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => quoted_bytes(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match (token, statements.last_mut()) {
            (";", _) => statements.push(String::new()),
            (_, Some(statement)) if token.starts_with("--") || token.starts_with("/*") => statement.push(' '),
            (_, Some(statement)) => statement.push_str(token),
            (_, None) => {}
        }
    }
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

/// Bytes up to and with the closing quote. A doubled quote closes one text and opens the next, which comes to the same.
fn quoted_bytes(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

/// The answer to a statement of courtesy; `None` for everything else. One statement, as [`split`] gives it.
pub(super) fn reply(sql: &str) -> Option<Reply> {
    let text = sql.trim().to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let done = |tag| Some(Reply::Done(tag));
    match words.as_slice() {
        ["begin", ..] | ["start", "transaction", ..] => Some(Reply::Begin),
        ["commit", ..] | ["end", ..] => Some(Reply::End("COMMIT")),
        ["rollback", "to", ..] => done("ROLLBACK"),
        ["rollback", ..] | ["abort", ..] => Some(Reply::End("ROLLBACK")),
        ["savepoint", _] => done("SAVEPOINT"),
        ["release", ..] => done("RELEASE"),
        ["discard", _] => done("DISCARD ALL"),
        ["deallocate", ..] => done("DEALLOCATE"),
        ["unlisten", _] => done("UNLISTEN"),
        ["reset", name] if *name == "all" || setting(name).is_some() => done("RESET"),
        ["set", "transaction", ..]
        | ["set", "session", "characteristics", ..]
        | ["set", "names", ..]
        | ["set", "session", "authorization", "default"]
        | ["set", "role", ..] => done("SET"),
        ["set", "session" | "local", assignment @ ..] | ["set", assignment @ ..] => {
            let name = assignment.first()?.split('=').next()?;
            setting(name).and_then(|_| done("SET"))
        }
        ["show", "transaction", "isolation", "level"] => {
            Some(row("transaction_isolation", "repeatable read"))
        }
        ["show", "timezone"] | ["show", "time", "zone"] => Some(row("TimeZone", "UTC")),
        ["show", name] => setting(name).map(|value| row(name, value)),
        _ => None,
    }
}

fn setting(name: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn row(column: &str, value: &str) -> Reply {
    Reply::Row {
        column: column.to_owned(),
        value: value.to_owned(),
    }
}

/// Functions without arguments that drivers call; each with the names it goes by.
pub(super) fn constants() -> Vec<(&'static [&'static str], String)> {
    let version = format!(
        "PostgreSQL {SERVER_VERSION} (Highwater {})",
        env!("CARGO_PKG_VERSION")
    );
    vec![
        (&["version", "pg_catalog.version"], version),
        (
            &["current_schema", "pg_catalog.current_schema"],
            crate::SCHEMA.to_owned(),
        ),
        (
            &[
                "current_database",
                "pg_catalog.current_database",
                "current_catalog",
            ],
            crate::CATALOG.to_owned(),
        ),
        (
            &["current_user", "session_user", "user", "current_role"],
            crate::CATALOG.to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_at_semicolons_that_are_not_quoted() {
        let cases: &[(&str, &[&str])] = &[
            ("BEGIN; SELECT 1;", &["BEGIN", " SELECT 1"]),
            (
                "SELECT ';', \"a;b\" -- ; no\n, 'it''s;'",
                &["SELECT ';', \"a;b\"  \n, 'it''s;'"],
            ),
            ("/* ; */ SET x = 1 ;; ", &["  SET x = 1 "]),
            ("SELECT 'é;", &["SELECT 'é;"]),
            ("SELECT 1 - 2 / 3", &["SELECT 1 - 2 / 3"]),
            ("/* open", &[]),
        ];
        for (sql, expected) in cases {
            assert_eq!(split(sql), *expected, "{sql}");
        }
    }

    #[test]
    fn what_drivers_say_is_answered_and_questions_are_not() {
        let cases = [
            ("BEGIN", Some(Reply::Begin)),
            ("begin read only", Some(Reply::Begin)),
            (
                "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                Some(Reply::Begin),
            ),
            ("COMMIT", Some(Reply::End("COMMIT"))),
            ("ROLLBACK", Some(Reply::End("ROLLBACK"))),
            ("SET extra_float_digits = 3", Some(Reply::Done("SET"))),
            ("SET application_name='DBeaver'", Some(Reply::Done("SET"))),
            ("set session statement_timeout to 1000", Some(Reply::Done("SET"))),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                Some(Reply::Done("SET")),
            ),
            (
                "SHOW TRANSACTION ISOLATION LEVEL",
                Some(row("transaction_isolation", "repeatable read")),
            ),
            (
                "show standard_conforming_strings",
                Some(row("standard_conforming_strings", "on")),
            ),
            ("SHOW TABLES", None),
            ("SHOW ALL", None),
            ("SET datafusion.execution.batch_size = 1", None),
            ("SET nonsense = 1", None),
            ("SELECT 1", None),
        ];
        for (sql, expected) in cases {
            assert_eq!(reply(sql), expected, "{sql}");
        }
    }
}
