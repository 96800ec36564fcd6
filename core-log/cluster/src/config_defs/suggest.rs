//! The key a person probably meant.

use super::{ConfigDef, ConfigScope, GROUP_CONFIGS, TOPIC_CONFIGS};

/// The known key closest to an unknown one: its counterpart in the other table if it has one (`log.retention.ms` for
/// `retention.ms`), else the one with the fewest edits, if they are few.
pub(super) fn closest(scope: ConfigScope, key: &str) -> Option<&'static str> {
    let lower = key.to_ascii_lowercase().replace(['_', '-'], ".");
    let with_synonym = |table: &'static [ConfigDef]| {
        table
            .iter()
            .find(|row| row.synonyms.iter().any(|synonym| synonym.name == lower))
            .map(|row| row.name)
    };
    let counterpart = match scope {
        ConfigScope::Topic => with_synonym(TOPIC_CONFIGS),
        ConfigScope::Group => with_synonym(GROUP_CONFIGS),
        ConfigScope::Broker => TOPIC_CONFIGS
            .iter()
            .chain(GROUP_CONFIGS)
            .find(|row| row.name == lower)
            .and_then(|row| row.synonyms.first())
            .map(|synonym| synonym.name),
        ConfigScope::ClientMetrics => None,
    };
    counterpart.or_else(|| nearest(&lower, scope.table().iter().map(|row| row.name)))
}

/// The name with the fewest edits from `given`, if they are few: at most a quarter of its letters.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (edits(given, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / 4)
        .map(|(_, name)| name)
}

/// The tail of a message that names the suggestion, or nothing.
pub(super) fn hint(suggestion: Option<&'static str>) -> String {
    suggestion
        .map(|name| format!("; did you mean '{name}'?"))
        .unwrap_or_default()
}

/// Levenshtein's distance in bytes. Keys are short, but the text is the caller's: beyond 128 bytes nothing is close.
fn edits(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    if from.len() > 128 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (from_index, from_byte) in from.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = from_index + 1;
        for (to_index, to_byte) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from_byte != to_byte);
            diagonal = row[to_index + 1];
            row[to_index + 1] = replaced.min(diagonal + 1).min(row[to_index] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::edits;

    #[test]
    fn edits_counts_insertions_deletions_and_replacements() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("segment.ms", "segment.ms"), 0);
    }
}
