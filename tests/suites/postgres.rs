//! The database sink against a real PostgreSQL: the pipeline's candles are upserted there.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::support::{Watched, program, provided, run_to_end};

/// A server of its own on a free port, in a folder of its own. Stopped when dropped.
struct Postgres {
    server: Child,
    bin: PathBuf,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Postgres {
    fn start() -> Result<Self> {
        let bin = provided("HIGHWATER_TEST_POSTGRES_BIN")?;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        // The server refuses to run as root; root hands it to the user its package made.
        if is_root()? {
            run_to_end(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let mut initdb = as_server_user(&bin.join("initdb"))?;
        run_to_end(
            initdb
                .args(["-A", "trust", "-U", "postgres", "-D"])
                .arg(&data)
                .current_dir(folder.path()),
        )?;
        let mut command = as_server_user(&bin.join("postgres"))?;
        command.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c"]);
        command.arg(format!("unix_socket_directories={}", folder.path().display()));
        let server = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let postgres = Self {
            server,
            bin,
            port,
            _folder: folder,
        };
        let started = Instant::now();
        while postgres.psql("select 1").is_err() {
            if started.elapsed() > Duration::from_secs(30) {
                bail!("PostgreSQL does not answer on port {port}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(postgres)
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn psql(&self, sql: &str) -> Result<String> {
        run_to_end(
            Command::new(self.bin.join("psql"))
                .args(["-At", "-c", sql])
                .arg(self.url()),
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT is the server's fast shutdown; it takes its children along.
        let _ = Command::new("pkill")
            .args(["-INT", "-P", &self.server.id().to_string()])
            .status();
        let _ = Command::new("kill")
            .args(["-s", "INT", &self.server.id().to_string()])
            .status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if !matches!(self.server.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn is_root() -> Result<bool> {
    Ok(run_to_end(Command::new("id").arg("-u"))?.trim() == "0")
}

fn as_server_user(program: &Path) -> Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"])
        .arg(program);
    Ok(command)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_pipelines_candles_are_upserted_into_postgresql() -> Result<()> {
    let postgres = Postgres::start()?;
    let folder = tempfile::tempdir()?;
    let mut command = program("btc-pipeline")?;
    command.args([
        "--offline",
        "--kafka",
        "127.0.0.1:0",
        "--duration",
        "10s",
        "--postgres",
        &postgres.url(),
    ]);
    let mut run = Watched::start(command.arg("--data-dir").arg(folder.path()))?;
    let code = run.wait(Duration::from_secs(120))?;
    ensure!(code == 0, "exit code {code}\n{}", run.seen.join("\n"));
    let rows = postgres.psql("select count(*), count(distinct (symbol, minute_ms)) from candles")?;
    let (all, distinct) = rows.trim().split_once('|').context("two counts")?;
    assert_eq!(all, distinct, "one row per symbol and minute");
    assert_ne!(all, "0");
    let wrong = postgres.psql(
        "select count(*) from candles where low > open or low > close or high < open or high < close",
    )?;
    assert_eq!(wrong.trim(), "0");
    Ok(())
}
