//! Hints for mistakes that everybody makes once: unquoted dashes and dots in topic names, and slips of the finger.

use crate::error::SqlError;

/// A statement that does not parse may name a topic with a dash or dot in it.
pub(crate) fn at_parsing(error: SqlError, sql: &str, tables: &[String]) -> SqlError {
    match unquoted(sql, tables) {
        Some(table) => error.with_hint(&format!("write \"{table}\" in double quotes")),
        None => error,
    }
}

/// A statement that names what does not exist may mean what does.
pub(crate) fn at_planning(error: SqlError, sql: &str, tables: &[String]) -> SqlError {
    let message = error.to_string();
    let Some(missing) = missing_table(&message) else {
        return error;
    };
    if let Some(table) = unquoted(sql, tables) {
        return error.with_hint(&format!("write \"{table}\" in double quotes"));
    }
    let nearest = tables
        .iter()
        .map(|table| (distance(&missing.to_lowercase(), &table.to_lowercase()), table))
        .min();
    match nearest {
        Some((distance, table)) if distance <= 2 => error.with_hint(&format!("there is a topic {table}")),
        _ => error.with_hint("SHOW TABLES lists the topics"),
    }
}

/// A table whose name cannot stand without quotes, standing without them.
fn unquoted<'a>(sql: &str, tables: &'a [String]) -> Option<&'a str> {
    let needs_quotes = |name: &&String| name.contains(['-', '.']);
    let stands_bare = |name: &&String| sql.contains(name.as_str()) && !sql.contains(&format!("\"{name}\""));
    // The longest, since "a-b" is also a part of "a-b-c".
    let bare = tables.iter().filter(needs_quotes).filter(stands_bare);
    bare.max_by_key(|name| name.len()).map(String::as_str)
}

/// The name in DataFusion's message about a table that is not there.
fn missing_table(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("table '")?;
    let (name, rest) = rest.split_once('\'')?;
    rest.contains("not found")
        .then(|| name.rsplit('.').next().unwrap_or(name))
}

/// Letters to insert, delete or replace to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
