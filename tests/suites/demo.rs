//! The pipeline of the README, as a newcomer runs it; and killed in the middle.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::support::{Watched, program};

fn pipeline(data_dir: &Path, duration: &str) -> Result<Command> {
    let mut command = program("btc-pipeline")?;
    command
        .args([
            "--offline",
            "--kafka",
            "127.0.0.1:0",
            "--duration",
            duration,
            "--data-dir",
        ])
        .arg(data_dir);
    Ok(command)
}

#[test]
fn the_pipeline_ends_by_itself_with_as_many_rows_as_candles_and_a_chart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut run = Watched::start(&mut pipeline(folder.path(), "12s")?)?;
    let code = run.wait(Duration::from_secs(120))?;
    let output = run.seen.join("\n");
    ensure!(code == 0, "exit code {code}\n{output}");
    let chart = output
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| "\"'`,()".contains(c)))
        .find(|word| word.ends_with(".html") || word.ends_with(".png"))
        .map(str::to_owned);
    let chart = chart.ok_or_else(|| anyhow::anyhow!("no chart is named in\n{output}"))?;
    ensure!(Path::new(&chart).is_file(), "{chart} does not exist");
    Ok(())
}

/// The program itself recomputes every candle from the prices and fails when a row differs, so its exit code after
/// the last run says that nothing was lost or counted twice over the kills.
#[test]
fn a_killed_pipeline_goes_on_where_it_was_without_losing_a_candle() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for _ in 0..2 {
        let mut run = Watched::start(&mut pipeline(folder.path(), "600s")?)?;
        std::thread::sleep(Duration::from_secs(9));
        ensure!(
            run.drain().iter().all(|line| !line.contains("panicked")),
            "it panicked"
        );
        run.kill()?;
    }
    let mut run = Watched::start(&mut pipeline(folder.path(), "8s")?)?;
    let code = run.wait(Duration::from_secs(120))?;
    ensure!(code == 0, "exit code {code}\n{}", run.seen.join("\n"));
    Ok(())
}
