//! What whoever runs a node relies on: configuration, exit codes, the supervisor's protocol, dumps.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::support::{Dev, Watched, program, run_to_end};

fn config(folder: &Path, more: &str) -> Result<std::path::PathBuf> {
    let path = folder.join("highwater.toml");
    let data = folder.join("data");
    let any = "127.0.0.1:0";
    let text = format!(
        "[node]\ndata_dir = \"{}\"\n[listeners]\nkafka = \"{any}\"\nhttp = \"{any}\"\nconnect = \"{any}\"\nsql = \"{any}\"\n{more}",
        data.display()
    );
    std::fs::write(&path, text)?;
    Ok(path)
}

fn server(config: &Path) -> Result<Command> {
    let mut command = program("highwater")?;
    command.arg("server").arg("-c").arg(config);
    Ok(command)
}

/// Exit code and the last line of standard error.
fn refusal(command: &mut Command) -> Result<(i32, String)> {
    let Output { status, stderr, .. } = command.output()?;
    let words = String::from_utf8_lossy(&stderr);
    let last = words
        .lines()
        .rfind(|line| line.starts_with("error"))
        .unwrap_or_default();
    Ok((status.code().unwrap_or(-1), last.to_owned()))
}

#[test]
fn a_server_tells_its_supervisor_logs_json_and_stops_with_code_0() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&socket)?;
    supervisor.set_read_timeout(Some(Duration::from_secs(60)))?;
    let config = config(
        folder.path(),
        "[logging]\nformat = \"json\"\n[properties]\nnum.partitions = 4\n",
    )?;
    let log = folder.path().join("log");
    let mut command = server(&config)?;
    command
        .env("NOTIFY_SOCKET", &socket)
        .env_remove("HIGHWATER_LOG")
        .stderr(std::fs::File::create(&log)?);
    let mut node = Watched::start(&mut command)?;
    let mut buffer = [0; 200];
    let length = supervisor.recv(&mut buffer).context("READY=1")?;
    assert!(buffer[..length].starts_with(b"READY=1"));
    node.signal("TERM")?;
    let length = supervisor.recv(&mut buffer).context("STOPPING=1")?;
    assert!(buffer[..length].starts_with(b"STOPPING=1"));
    assert_eq!(node.wait(Duration::from_secs(30))?, 0);
    let lines = std::fs::read_to_string(log)?;
    assert!(lines.lines().count() > 1, "{lines}");
    for line in lines.lines() {
        let event: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        assert!(
            event["level"].is_string() && event["message"].is_string(),
            "{line}"
        );
    }
    Ok(())
}

#[test]
fn what_stops_a_start_is_said_in_one_line_with_its_exit_code() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let running = Dev::start(&folder.path().join("data"))?;

    let (code, words) = refusal(&mut server(&config(folder.path(), "")?)?)?;
    assert_eq!(code, 69, "{words}");
    assert!(words.contains("in use"), "{words}");

    let other = folder.path().join("other");
    std::fs::create_dir(&other)?;
    let taken = config(&other, "")?;
    let text = std::fs::read_to_string(&taken)?.replacen("127.0.0.1:0", &running.kafka.to_string(), 1);
    std::fs::write(&taken, text)?;
    let (code, words) = refusal(&mut server(&taken)?)?;
    assert_eq!(code, 69, "{words}");
    assert!(words.contains(&running.kafka.to_string()), "{words}");

    std::fs::write(&taken, "[node]\ndata_dir = \"/proc/nowhere\"\n")?;
    let (code, words) = refusal(&mut server(&taken)?)?;
    assert_eq!(code, 1, "{words}");
    assert!(words.contains("/proc/nowhere"), "{words}");
    running.stop()
}

#[test]
fn check_config_names_every_problem_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let good = config(folder.path(), "")?;
    let said = run_to_end(program("highwater")?.arg("check-config").arg("-c").arg(&good))?;
    assert!(said.contains("a node would start"), "{said}");

    let bad = config(
        folder.path(),
        "[properties]\n\"log.retention.hour\" = 5\nnum.partitions = 0\n",
    )?;
    let Output { status, stdout, .. } = program("highwater")?
        .arg("check-config")
        .arg("-c")
        .arg(&bad)
        .output()?;
    let said = String::from_utf8_lossy(&stdout);
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        said.contains(":9: unknown broker config 'log.retention.hour'; did you mean 'log.retention.hours'?"),
        "{said}"
    );
    assert!(
        said.contains(":10: config 'num.partitions' cannot be '0'"),
        "{said}"
    );
    let (code, _) = refusal(&mut server(&bad)?)?;
    assert_eq!(code, 78);
    Ok(())
}

#[test]
fn generated_pages_are_the_committed_ones() -> Result<()> {
    for (option, page) in [
        ("--print-reference-config", "docs/highwater.toml"),
        ("--print-metrics-reference", "docs/metrics.md"),
    ] {
        let printed = run_to_end(program("highwater")?.args(["server", option]))?;
        let committed = std::fs::read_to_string(crate::support::project_root().join(page))?;
        assert!(
            printed == committed,
            "`highwater server {option} > {page}` brings the page up to date"
        );
    }
    Ok(())
}

#[test]
fn dump_reads_a_whole_data_directory_and_reports_damage_with_code_1() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let node = Dev::start(&data)?;
    run_to_end(&mut node.cli(&["topic", "create", "dumped"])?)?;
    let mut produce = node.cli(&["produce", "dumped", "--key", "k"])?;
    let mut child = produce.stdin(std::process::Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut child.stdin.take().context("standard input")?, b"one\ntwo\n")?;
    assert!(child.wait()?.success());
    node.stop()?;

    let dump = |arguments: &[&str]| -> Result<Output> {
        let mut command = program("highwater")?;
        Ok(command.arg("dump").args(arguments).output()?)
    };
    let root = data.display().to_string();
    let all = dump(&[&root, "--print-data", "--deep"])?;
    let said = String::from_utf8_lossy(&all.stdout);
    assert!(all.status.success(), "{said}");
    assert!(said.contains("key=k value=two"), "{said}");
    assert!(said.contains("(meta properties)"), "{said}");
    let metadata = dump(&[&root, "--cluster-metadata", "-o", "json"])?;
    let said = String::from_utf8_lossy(&metadata.stdout);
    assert!(metadata.status.success() && said.contains("dumped"), "{said}");

    let log = data.join("dumped-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&log, bytes)?;
    let damaged = dump(&[&root])?;
    let said = String::from_utf8_lossy(&damaged.stdout);
    assert_eq!(damaged.status.code(), Some(1), "{said}");
    assert!(said.contains("problem message="), "{said}");
    Ok(())
}
