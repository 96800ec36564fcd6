//! Subscriptions by regular expression (KIP-848, ConsumerGroupHeartbeat v1).
//!
//! An expression must match a topic's whole name. The engine takes time linear in the name whatever the expression,
//! like RE2, and refuses one whose automaton would be large (hostile input 73). Topics of the system, whose names
//! begin with two underscores, match only an expression that begins so too.

use std::collections::BTreeSet;

use bytestring::ByteString;
use regex::{Regex, RegexBuilder};

use super::draft::Draft;
use super::records::Change;
use crate::limits::{MAX_REGEX_BYTES, MAX_REGEX_PROGRAM_BYTES};
use crate::topics::Topics;

const SYSTEM_PREFIX: &str = "__";

/// Compiles an expression; the error is for the client to read.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > MAX_REGEX_BYTES {
        return Err(format!(
            "SubscribedTopicRegex has {} bytes; the broker accepts {MAX_REGEX_BYTES}",
            pattern.len()
        ));
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .size_limit(MAX_REGEX_PROGRAM_BYTES)
            .dfa_size_limit(MAX_REGEX_PROGRAM_BYTES)
            .build()
            .map_err(|error| format!("SubscribedTopicRegex `{pattern}` is not valid: {error}"))
    };
    // By itself first: brackets that do not pair up must not pair up with ours.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

/// The topics whose whole name matches.
pub(crate) fn matching(pattern: &str, regex: &Regex, topics: &dyn Topics) -> BTreeSet<ByteString> {
    let wants_system = pattern.trim_start_matches('^').starts_with(SYSTEM_PREFIX);
    let mut found = BTreeSet::new();
    topics.each_name(&mut |name| {
        let is_open = wants_system || !name.starts_with(SYSTEM_PREFIX);
        if is_open && regex.is_match(name) {
            found.insert(ByteString::from(name));
        }
    });
    found
}

/// Forgets expressions that no member subscribes to any more.
pub(crate) fn drop_unused(draft: &mut Draft<'_>) {
    let wanted = draft.group().regexes_in_use();
    let unused: Vec<_> = draft
        .group()
        .regexes
        .keys()
        .filter(|regex| !wanted.contains(*regex))
        .cloned()
        .collect();
    for regex in unused {
        draft.write(Change::Regex(regex, None));
    }
}

/// Brings the group's resolved expressions in line with its members and the topics there are.
pub(crate) fn refresh(draft: &mut Draft<'_>, topics: &dyn Topics) {
    drop_unused(draft);
    let wanted: Vec<ByteString> = draft.group().regexes_in_use().into_iter().cloned().collect();
    for pattern in wanted {
        // One that does not compile was never accepted; a record may hold it all the same, and it matches nothing.
        let found = match compile(&pattern) {
            Ok(regex) => matching(&pattern, &regex, topics),
            Err(_) => BTreeSet::new(),
        };
        if draft.group().regexes.get(&pattern) != Some(&found) {
            draft.write(Change::Regex(pattern, Some(found)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_73_catastrophic_and_huge_patterns_are_refused_or_fast() {
        for refused in [
            "(",
            "a)|(b",
            "(a{1000}){1000}",
            "\\w{10000}",
            &"a".repeat(10_000),
            "(?=a)",
            "(a)\\1",
        ] {
            assert!(compile(refused).is_err(), "{refused}");
        }
        // Exponential for a backtracking engine.
        let nested = compile("(a+)+b").unwrap();
        assert!(!nested.is_match(&"a".repeat(249)));
        assert!(compile("").unwrap().is_match(""));
    }

    #[test]
    fn the_whole_name_must_match() {
        let regex = compile("a|bc").unwrap();
        assert_eq!(
            ["a", "bc", "abc", "xa"].map(|name| regex.is_match(name)),
            [true, true, false, false]
        );
    }
}
