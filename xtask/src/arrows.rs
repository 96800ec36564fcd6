//! The one table of allowed dependencies between the project's crates, and the check that reads it.
//!
//! Any edge that is not in the table fails, normal and development edges apart. Three arrows matter
//! most: nothing below the broker knows the broker; streams, connect and SQL reach the log only through
//! `client`; storage does not know request messages.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{cargo, run_quietly};

/// What a crate may depend on, by the last part of the packages' names.
struct Allowed {
    package: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
}

const TABLE: &[Allowed] = &[
    Allowed {
        package: "highwater-types",
        normal: &[],
        dev: &[],
    },
    Allowed {
        package: "highwater-wire",
        normal: &["highwater-types"],
        dev: &[],
    },
    Allowed {
        package: "highwater-storage",
        normal: &["highwater-types"],
        dev: &[],
    },
    Allowed {
        package: "highwater-coordinator",
        normal: &["highwater-types", "highwater-wire"],
        dev: &[],
    },
    Allowed {
        package: "highwater-cluster",
        normal: &["highwater-types", "highwater-wire"],
        dev: &[],
    },
    Allowed {
        package: "highwater-broker",
        normal: &[
            "highwater-types",
            "highwater-wire",
            "highwater-storage",
            "highwater-coordinator",
            "highwater-cluster",
        ],
        dev: &[],
    },
    Allowed {
        package: "highwater-client",
        normal: &["highwater-types", "highwater-wire"],
        dev: &[],
    },
    Allowed {
        package: "highwater-embedded",
        normal: &["highwater-broker", "highwater-client"],
        dev: &[],
    },
    Allowed {
        package: "highwater-streams-engine",
        normal: &["highwater-types"],
        dev: &[],
    },
    Allowed {
        package: "highwater-streams",
        normal: &["highwater-types", "highwater-streams-engine", "highwater-client"],
        dev: &["highwater-embedded"],
    },
    Allowed {
        package: "highwater-connect-api",
        normal: &["highwater-types"],
        dev: &[],
    },
    Allowed {
        package: "highwater-connect",
        normal: &["highwater-types", "highwater-connect-api", "highwater-client"],
        dev: &["highwater-embedded"],
    },
    Allowed {
        package: "highwater-binance-replay",
        normal: &[],
        dev: &[],
    },
    Allowed {
        package: "highwater-connector-binance",
        normal: &["highwater-connect-api"],
        dev: &["highwater-binance-replay"],
    },
    Allowed {
        package: "highwater-connector-database",
        normal: &["highwater-connect-api"],
        dev: &[],
    },
    Allowed {
        package: "highwater-connector-file",
        normal: &["highwater-connect-api"],
        dev: &[],
    },
    Allowed {
        package: "highwater-sql",
        normal: &[
            "highwater-types",
            "highwater-streams-engine",
            "highwater-streams",
            "highwater-client",
        ],
        dev: &["highwater-embedded"],
    },
    Allowed {
        package: "highwater-bench-kit",
        normal: &[],
        dev: &[],
    },
];

/// Crates at the edge: they may use anything, and nothing may use them.
const EDGE: &[&str] = &[
    "highwater-cli",
    "btc-pipeline",
    "highwater-tests",
    "highwater-bench",
    "highwater-bench-compare",
    "highwater-fuzz",
    "xtask",
];

/// Packages that must stay behind the one crate that owns them (DESIGN: versions move together).
const OWNED: &[(&str, &[&str])] = &[
    ("datafusion", &["highwater-sql"]),
    ("rocksdb", &["highwater-streams"]),
    ("openraft", &["highwater-broker"]),
    // The example counts the rows that the sink wrote.
    ("sqlx", &["highwater-connector-database", "btc-pipeline"]),
    ("kafka-protocol", &["highwater-wire"]),
    ("rdkafka", &["highwater-bench-compare"]),
];

/// Fails with every edge that the tables do not allow.
pub(crate) fn check() -> Result<()> {
    let metadata = run_quietly(&mut cargo(&[
        "metadata",
        "--format-version=1",
        "--no-deps",
        "--locked",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata did not print JSON")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut wrong = Vec::new();
    let mut edges = 0;
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            let is_dev = dependency["kind"].as_str() == Some("dev");
            if ours.contains(target) {
                edges += 1;
            }
            if let Some(complaint) = complaint(name, target, is_dev, &ours) {
                wrong.push(complaint);
            }
        }
        if !EDGE.contains(&name) && !TABLE.iter().any(|row| row.package == name) {
            wrong.push(format!(
                "{name} is in no row of the arrows table (xtask/src/arrows.rs)"
            ));
        }
    }
    if !wrong.is_empty() {
        bail!(
            "dependency arrows that are not allowed:\n  {}",
            wrong.join("\n  ")
        );
    }
    println!("    {edges} arrows between {} crates, all allowed", ours.len());
    Ok(())
}

fn complaint(from: &str, to: &str, is_dev: bool, ours: &BTreeSet<&str>) -> Option<String> {
    if let Some((_, owners)) = OWNED.iter().find(|(package, _)| *package == to) {
        return (!owners.contains(&from)).then(|| format!("{from} -> {to}: only {} may", owners.join(", ")));
    }
    if !ours.contains(to) {
        return None;
    }
    if EDGE.contains(&to) {
        return Some(format!("{from} -> {to}: nothing depends on an edge crate"));
    }
    if EDGE.contains(&from) {
        return None;
    }
    let row = TABLE.iter().find(|row| row.package == from)?;
    let allowed = row.normal.contains(&to) || (is_dev && row.dev.contains(&to));
    let kind = if is_dev { "dev" } else { "normal" };
    (!allowed).then(|| format!("{from} -> {to} ({kind})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> BTreeSet<&'static str> {
        TABLE
            .iter()
            .map(|row| row.package)
            .chain(EDGE.iter().copied())
            .collect()
    }

    #[test]
    fn storage_may_not_know_request_messages() {
        assert!(complaint("highwater-storage", "highwater-wire", false, &ours()).is_some());
        assert!(complaint("highwater-storage", "highwater-types", false, &ours()).is_none());
    }

    #[test]
    fn a_dev_arrow_is_not_a_normal_arrow() {
        assert!(complaint("highwater-streams", "highwater-embedded", true, &ours()).is_none());
        assert!(complaint("highwater-streams", "highwater-embedded", false, &ours()).is_some());
    }

    #[test]
    fn heavy_packages_stay_behind_their_owner() {
        assert!(complaint("highwater-client", "rocksdb", false, &ours()).is_some());
        assert!(complaint("highwater-streams", "rocksdb", false, &ours()).is_none());
    }

    #[test]
    fn nothing_depends_on_an_edge_crate() {
        assert!(complaint("highwater-sql", "highwater-cli", false, &ours()).is_some());
    }
}
