//! kcat: metadata, producing, consuming.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::support::{Dev, run_to_end};

#[test]
#[ignore = "needs kcat"]
fn kcat_lists_metadata_produces_and_consumes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let bootstrap = node.kafka.to_string();
    let mut produce = Command::new("kcat");
    produce.args(["-P", "-b", &bootstrap, "-t", "kcat", "-K", ":", "-z", "lz4"]);
    let mut child = produce.stdin(Stdio::piped()).spawn()?;
    child
        .stdin
        .take()
        .context("standard input")?
        .write_all(b"a:1\nb:2\nc:3\n")?;
    ensure!(child.wait()?.success(), "kcat could not produce");
    let metadata = run_to_end(Command::new("kcat").args(["-L", "-b", &bootstrap]))?;
    assert!(metadata.contains("topic \"kcat\""), "{metadata}");
    let read = run_to_end(Command::new("kcat").args([
        "-C",
        "-b",
        &bootstrap,
        "-t",
        "kcat",
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        "%k=%s\n",
    ]))?;
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a=1", "b=2", "c=3"]);
    node.stop()
}
