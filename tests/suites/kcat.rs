//! kcat: metadata, producing, consuming.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::secured::Secured;
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

#[test]
#[ignore = "needs kcat"]
fn kcat_logs_in_over_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Secured::start(folder.path())?;
    let kcat = |password: &str, arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new("kcat");
        command.args(["-b", node.address("SASL_SSL")?, "-t", "secured"]);
        command
            .arg("-X")
            .arg(format!("ssl.ca.location={}", node.pki.file("ca.pem").display()));
        // SCRAM would need a librdkafka of 2.6.1 or later, which a system may not have.
        for setting in [
            "security.protocol=SASL_SSL",
            "sasl.mechanism=PLAIN",
            "sasl.username=alice",
        ] {
            command.args(["-X", setting]);
        }
        command
            .arg("-X")
            .arg(format!("sasl.password={password}"))
            .args(arguments);
        Ok(command)
    };
    let mut child = kcat("alice-secret", &["-P"])?.stdin(Stdio::piped()).spawn()?;
    child
        .stdin
        .take()
        .context("standard input")?
        .write_all(b"told\n")?;
    ensure!(child.wait()?.success(), "kcat could not produce");
    let read = run_to_end(&mut kcat("alice-secret", &["-C", "-o", "beginning", "-e", "-q"])?)?;
    assert_eq!(read, "told\n");
    let refused = kcat("wrong-secret", &["-L", "-m", "5"])?.output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && words.contains("uthentication"),
        "{words}"
    );
    node.stop()
}
