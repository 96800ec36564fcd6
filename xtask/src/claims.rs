//! The tables in `docs/` that say which numbered rules hold: a row holds when a test is named after its number.
//!
//! Nobody writes "holds" by hand. `cargo xtask claims` rewrites the last two columns from the tests that exist, and
//! `cargo xtask tidy` fails when they differ, so that a rule cannot lose its test in silence. Why a rule without a test
//! is open is written by hand and kept.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::process::project_root;

/// A table and the beginning of the test names that fill it.
struct Claims {
    file: &'static str,
    prefix: &'static str,
    last: usize,
}

const TABLES: &[Claims] = &[
    Claims {
        file: "docs/semantics.md",
        prefix: "semantic_",
        last: 72,
    },
    Claims {
        file: "docs/hostile-inputs.md",
        prefix: "hostile_",
        last: 106,
    },
];

/// Names of tests by the number of the rule they prove.
type Proofs = BTreeMap<usize, Vec<String>>;

/// Fails where a table does not say what the tests say. `sources` are names and texts of the project's Rust files.
pub(crate) fn check(sources: &[(String, String)]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for claims in TABLES {
        let (before, after) = rewritten(claims, sources)?;
        let stale: Vec<&str> = before
            .lines()
            .zip(after.lines())
            .filter(|(before, after)| before != after)
            .map(|(before, _)| before.split('|').nth(1).unwrap_or_default().trim())
            .collect();
        if !stale.is_empty() {
            broken.push(format!(
                "{}: rows {} do not say what the tests say; `cargo xtask claims` rewrites them",
                claims.file,
                stale.join(", ")
            ));
        }
    }
    Ok(broken)
}

/// Brings the tables up to date.
pub(crate) fn fix(sources: &[(String, String)]) -> Result<()> {
    for claims in TABLES {
        let (before, after) = rewritten(claims, sources)?;
        if before != after {
            let path = project_root().join(claims.file);
            std::fs::write(&path, after).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn rewritten(claims: &Claims, sources: &[(String, String)]) -> Result<(String, String)> {
    let path = project_root().join(claims.file);
    let before = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut proofs = Proofs::new();
    for (_, text) in sources {
        collect(text, claims, &mut proofs);
    }
    let after = rewrite(&before, &path, claims, &proofs)?;
    Ok((before, after))
}

/// The numbers in a test's name: `semantic_33_34_a_repeat_succeeds` proves two rules, `semantic_22_hostile_37_acks` one of
/// each table.
fn numbers(name: &str, claims: &Claims) -> Vec<usize> {
    let Some((before, rest)) = name.split_once(claims.prefix) else {
        return Vec::new();
    };
    if !before.is_empty() && !before.ends_with('_') {
        return Vec::new();
    }
    rest.split('_')
        .map_while(|word| word.parse().ok())
        .filter(|number| (1..=claims.last).contains(number))
        .collect()
}

fn collect(text: &str, claims: &Claims, proofs: &mut Proofs) {
    for line in text.lines() {
        let line = line.trim_start().trim_start_matches("async ");
        let Some(name) = line
            .strip_prefix("fn ")
            .and_then(|rest| rest.split(['(', '<']).next())
        else {
            continue;
        };
        for number in numbers(name, claims) {
            let names = proofs.entry(number).or_default();
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
}

/// Rewrites the rows `| number | rule | state | proved by |`; everything else stays.
fn rewrite(text: &str, path: &Path, claims: &Claims, proofs: &Proofs) -> Result<String> {
    let mut seen = 0;
    let mut lines = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = cells.get(1).and_then(|cell| cell.parse::<usize>().ok());
        let (Some(number), [_, _, rule, state, _, _]) = (number, cells.as_slice()) else {
            lines.push(line.to_owned());
            continue;
        };
        seen += 1;
        if number != seen {
            bail!("{}: row {number} stands where row {seen} should", path.display());
        }
        lines.push(match proofs.get(&number) {
            Some(names) => {
                let mut names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                names.sort();
                format!("| {number} | {rule} | holds | {} |", names.join(", "))
            }
            None if state.starts_with("open") => format!("| {number} | {rule} | {state} |  |"),
            None => format!("| {number} | {rule} | open |  |"),
        });
    }
    if seen != claims.last {
        bail!("{} has {seen} rows, not {}", path.display(), claims.last);
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: Claims = Claims {
        file: "docs/rules.md",
        prefix: "semantic_",
        last: 3,
    };

    fn rewritten_from(table: &str, source: &str) -> Result<String> {
        let mut proofs = Proofs::new();
        collect(source, &CLAIMS, &mut proofs);
        rewrite(table, Path::new(CLAIMS.file), &CLAIMS, &proofs)
    }

    #[test]
    fn a_row_holds_when_a_test_bears_its_number_and_keeps_its_reason_when_none_does() {
        let table = "# Rules\n\n| 1 | one | open |  |\n| 2 | two | open: later |  |\n| 3 | three | holds | `gone` |\n";
        let source = format!(
            "    async fn {}_01_works() {{\nfn {}_9_is_no_rule() {{",
            "semantic", "semantic"
        );
        let expected = "# Rules\n\n| 1 | one | holds | `semantic_01_works` |\n| 2 | two | open: later |  |\n\
                        | 3 | three | open |  |\n";
        assert_eq!(rewritten_from(table, &source).unwrap(), expected);
    }

    #[test]
    fn one_test_may_prove_several_rules() {
        assert_eq!(numbers("semantic_02_03_both", &CLAIMS), [2, 3]);
        assert_eq!(numbers("hostile_09_semantic_02_both_tables", &CLAIMS), [2]);
        assert_eq!(numbers("semantics_02", &CLAIMS), [0usize; 0]);
        assert_eq!(numbers("asemantic_02", &CLAIMS), [0usize; 0]);
    }

    #[test]
    fn a_missing_row_is_an_error() {
        assert!(rewritten_from("| 1 | one | open |  |\n| 3 | three | open |  |\n", "").is_err());
    }
}
