//! `highwater check-config`: what a node would use, and everything that is wrong with it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use crate::config::machine::{Finding, look};
use crate::config::{self, Loaded, Source};
use crate::output::{Output, line};

/// Say what a node would use, and what is wrong with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Problems of the file and the environment carry their place; problems of this machine (data directory, ports, open
files, room on the disk) follow. The exit code is 0 when a node would start, 78 when it would not.")]
pub(crate) struct CheckConfigArgs {
    /// The configuration file.
    #[arg(long, short)]
    config: PathBuf,
    /// List every key; otherwise Kafka's properties are listed only where they are set.
    #[arg(long)]
    all: bool,
}

/// Whether a node would start.
pub(crate) fn run(args: &CheckConfigArgs, output: &Output) -> Result<bool> {
    let loaded = config::load(&args.config, &config::process_environment());
    let findings = loaded.config().map(look).unwrap_or_default();
    let mut problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    let mut warnings = Vec::new();
    for finding in findings {
        match finding {
            Finding::Error(message) => problems.push(message),
            Finding::Warning(message) => warnings.push(message),
        }
    }
    let is_ok = problems.is_empty();
    if output.is_json() {
        let values: serde_json::Map<String, Value> = shown(&loaded, args.all)
            .map(|key| {
                let value = json!({ "value": key.value, "source": key.source.to_string() });
                (key.name.clone(), value)
            })
            .collect();
        let answer = json!({ "ok": is_ok, "values": values, "problems": problems, "warnings": warnings });
        line(&serde_json::to_string_pretty(&answer)?)?;
        return Ok(is_ok);
    }
    if loaded.config().is_some() {
        let rows = shown(&loaded, args.all).map(|key| {
            let value = key.value.clone().map_or(Value::Null, Value::String);
            vec![json!(key.name), value, json!(key.source.to_string())]
        });
        output.rows(&["key", "value", "from"], rows.collect())?;
    }
    for problem in &problems {
        line(&format!("error: {problem}"))?;
    }
    for warning in &warnings {
        line(&format!("warning: {warning}"))?;
    }
    let verdict = if is_ok {
        "a node would start"
    } else {
        "a node would not start"
    };
    line(&format!("{}: {verdict}", args.config.display()))?;
    Ok(is_ok)
}

fn shown(loaded: &Loaded, all: bool) -> impl Iterator<Item = &config::Resolved> {
    let keys = loaded.resolved.iter();
    keys.filter(move |key| all || key.is_setting || key.source != Source::Default)
}
