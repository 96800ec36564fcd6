//! House rules that the compiler cannot check, and the sizes that ask a question.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::claims;
use crate::process::project_root;

/// A file longer than this must open with a `//!` header.
const HEADER_FROM_LINES: usize = 100;

/// Crates that never touch clock, disk, network, environment, randomness or threads.
const PURE: &[&str] = &[
    "core-log/types",
    "core-log/wire",
    "core-log/coordinator",
    "core-log/cluster",
    "streams/engine",
    "connect/api",
];

/// Folders that hold the project's Rust files.
const AREAS: &[&str] = &[
    "core-log",
    "streams",
    "sql",
    "connect",
    "connectors",
    "cli",
    "examples",
    "tests",
    "bench",
    "fuzz",
    "xtask",
];

/// Names, from the root on, and texts of all Rust files.
pub(crate) fn sources() -> Result<Vec<(String, String)>> {
    let root = project_root();
    let mut files = Vec::new();
    for area in AREAS {
        collect(&root.join(area), &mut files)?;
    }
    files
        .iter()
        .map(|file| {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
            Ok((name, text))
        })
        .collect()
}

/// Fails on a broken rule; prints the ten largest files, which fail nothing.
pub(crate) fn check() -> Result<()> {
    let root = project_root();
    let sources = sources()?;
    let mut broken = claims::check(&sources)?;
    let mut sizes = Vec::new();
    for (name, text) in &sources {
        broken.extend(broken_rules(name, text));
        sizes.push((text.lines().count(), name));
    }
    broken.extend(undocumented_crates(&root)?);
    for pure in PURE {
        if !root.join(pure).join("clippy.toml").is_file() {
            broken.push(format!("{pure} is pure and has no clippy.toml that bans effects"));
        }
    }
    if !broken.is_empty() {
        bail!("house rules broken:\n  {}", broken.join("\n  "));
    }
    sizes.sort_unstable_by(|left, right| right.cmp(left));
    println!("    {} files; the largest:", sizes.len());
    for (lines, name) in sizes.iter().take(10) {
        println!("    {lines:>6} {name}");
    }
    Ok(())
}

fn broken_rules(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if text.lines().count() > HEADER_FROM_LINES && !text.starts_with("//!") && !text.starts_with("#!") {
        broken.push(format!(
            "{name}: over {HEADER_FROM_LINES} lines without a `//!` header"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("matches!(") && line.ends_with(");") {
            broken.push(format!("{name}:{}: a bare `matches!` checks nothing", index + 1));
        }
    }
    broken
}

/// ARCHITECTURE.md speaks of every crate.
fn undocumented_crates(root: &Path) -> Result<Vec<String>> {
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
    let members = manifest
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
    Ok(members
        .filter(|member| !architecture.contains(&format!("`{member}`")))
        .map(|member| format!("ARCHITECTURE.md does not mention `{member}`"))
        .collect())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path
                .file_name()
                .is_some_and(|name| name != "target" && name != "node_modules")
            {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_matches_statement_is_a_broken_rule() {
        let statement = format!("    {}!(x, Some(_));\n", "matches");
        assert_eq!(broken_rules("a.rs", &statement).len(), 1);
        assert!(broken_rules("a.rs", "    assert!(matches!(x, Some(_)));\n").is_empty());
    }

    #[test]
    fn a_long_file_without_a_header_is_a_broken_rule() {
        let long = "let a = 1;\n".repeat(HEADER_FROM_LINES + 1);
        assert_eq!(broken_rules("a.rs", &long).len(), 1);
        assert!(broken_rules("a.rs", &format!("//! Header.\n{long}")).is_empty());
    }
}
