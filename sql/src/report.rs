//! What a query has to say besides its rows: counts of what it had to null or pass over, as warnings.
//!
//! # Invariants
//! - One report per query, shared by all its scans; counts are final once the result's stream has ended.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use highwater_types::{Offset, TopicPartition};

/// Counts shared by the scans of a query.
#[derive(Debug, Default)]
pub(crate) struct QueryReport {
    malformed: Count,
    misfits: Count,
    not_text: Count,
    expired: Count,
    cut: Count,
}

#[derive(Debug, Default)]
struct Count {
    count: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Count {
    fn add(&self, count: u64, describe: impl FnOnce() -> String) {
        if self.count.fetch_add(count, Relaxed) == 0 {
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(describe);
        }
    }

    fn warn(&self, warnings: &mut Vec<String>, sentence: impl FnOnce(u64, &str) -> String) {
        let count = self.count.load(Relaxed);
        if count > 0 {
            let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push(sentence(count, first.as_deref().unwrap_or("")));
        }
    }
}

impl QueryReport {
    /// A value was not a JSON object; its row is NULL.
    pub(crate) fn malformed(&self, at: &TopicPartition, offset: Offset, problem: &serde_json::Error) {
        self.malformed
            .add(1, || format!("{at} offset {offset}: {problem}"));
    }

    /// A value did not fit its column and is NULL.
    pub(crate) fn misfit(&self, at: &TopicPartition, offset: Offset, field: &str, value: &str) {
        self.misfits
            .add(1, || format!("{at} offset {offset}: {field} = {value}"));
    }

    /// Bytes of a text column were no text, and are shown with replacement characters.
    pub(crate) fn not_text(&self, at: &TopicPartition, offset: Offset) {
        self.not_text.add(1, || format!("{at} offset {offset}"));
    }

    /// Offsets left the log while the query was reading it.
    pub(crate) fn expired(&self, at: &TopicPartition, offsets: u64) {
        self.expired.add(offsets, || at.to_string());
    }

    /// The result was cut at the engine's limit.
    pub(crate) fn cut(&self, rows: usize) {
        self.cut.add(1, || rows.to_string());
    }

    /// One sentence per kind of trouble.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        self.malformed.warn(&mut warnings, |count, first| {
            format!(
                "{} not a JSON object and shown as NULL; first: {first}",
                values(count)
            )
        });
        self.misfits.warn(&mut warnings, |count, first| {
            format!(
                "{} did not fit the column's type and {} shown as NULL; first: {first}. A sampled schema has \
                 learned them by now: run the query again. A declared one needs another type.",
                count_of(count, "value"),
                if count == 1 { "is" } else { "are" },
            )
        });
        self.not_text.warn(&mut warnings, |count, first| {
            format!(
                "{} not UTF-8 text and shown with replacement characters; first: {first}",
                values(count)
            )
        });
        self.expired.warn(&mut warnings, |count, first| {
            format!(
                "{} left the log while the query was reading; first: {first}",
                count_of(count, "offset")
            )
        });
        self.cut.warn(&mut warnings, |_, rows| {
            format!("the result ends here, at the limit of {rows} rows")
        });
        warnings
    }
}

fn values(count: u64) -> String {
    format!(
        "{} {}",
        count_of(count, "value"),
        if count == 1 { "is" } else { "are" }
    )
}

fn count_of(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
