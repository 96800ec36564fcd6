//! Starting and stopping the built programs.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a program may take to say that it is ready, on a crowded machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a clean stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The folder of built programs.
pub(crate) fn bin_dir() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HIGHWATER_TEST_BIN_DIR") {
        return Ok(folder.into());
    }
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("the test binary lies in target/<profile>/deps")?;
    Ok(folder.to_owned())
}

/// A built program.
pub(crate) fn program(name: &str) -> Result<Command> {
    let path = bin_dir()?.join(name);
    if !path.is_file() {
        bail!(
            "{} is not built; `cargo build --workspace` builds it",
            path.display()
        );
    }
    Ok(Command::new(path))
}

/// The root of the project.
pub(crate) fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The value of a variable that `cargo xtask test` sets.
pub(crate) fn provided(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable)
        .with_context(|| format!("{variable} is not set; `cargo xtask test` provides it"))?;
    Ok(value.into())
}

/// Runs a client program to its end; its words are part of the failure.
pub(crate) fn run_to_end(command: &mut Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start the client")?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if !status.success() {
        bail!(
            "{command:?} ended with {status}\n{stdout}\n{}",
            String::from_utf8_lossy(&stderr)
        );
    }
    Ok(stdout)
}

/// A child process whose lines of standard output can be awaited. Killed when dropped.
pub(crate) struct Watched {
    child: Child,
    lines: Receiver<String>,
    pub(crate) seen: Vec<String>,
}

impl Watched {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let output = child.stdout.take().context("the child has no output")?;
        // The bound is far above what any of these programs prints before it is read.
        let (sender, lines) = sync_channel(1_000_000);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            seen: Vec::new(),
        })
    }

    /// Reads lines until one satisfies `wanted`.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return Ok(line);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {what} within {limit:?}; last: {:?}", self.seen.last())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("ended before {what}; its output:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Takes the lines that have come so far.
    pub(crate) fn drain(&mut self) -> &[String] {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line);
        }
        &self.seen
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        run_to_end(Command::new("kill").args(["-s", name, &self.child.id().to_string()])).map(drop)
    }

    /// Waits for the end and returns the exit code.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // What the pipe still holds belongs to the output.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
                    self.seen.push(line);
                }
                return Ok(status.code().unwrap_or(-1));
            }
            if Instant::now() > deadline {
                bail!("still running after {limit:?}; last: {:?}", self.seen.last());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Nothing is left behind, whatever the test did.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `highwater dev` on ports of its own.
pub(crate) struct Dev {
    process: Watched,
    pub(crate) kafka: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) connect: SocketAddr,
    pub(crate) sql: SocketAddr,
}

impl Dev {
    /// Starts on free ports.
    pub(crate) fn start(data_dir: &Path) -> Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_on(data_dir, any, &[])
    }

    /// Starts with the Kafka port of an earlier run, so that clients find the node again.
    pub(crate) fn start_on(data_dir: &Path, kafka: SocketAddr, more: &[&str]) -> Result<Self> {
        Self::start_as(program("highwater")?, data_dir, kafka, more)
    }

    /// Starts with what the node logs, from `info` on, in a file.
    pub(crate) fn start_logged(data_dir: &Path, log: &Path, more: &[&str]) -> Result<Self> {
        let mut command = program("highwater")?;
        command.stderr(std::fs::File::create(log)?);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let more = [more, &["--log", "info,openraft=warn"]].concat();
        Self::start_as(command, data_dir, any, &more)
    }

    fn start_as(mut command: Command, data_dir: &Path, kafka: SocketAddr, more: &[&str]) -> Result<Self> {
        command
            .arg("dev")
            .arg("--data-dir")
            .arg(data_dir)
            .arg("--kafka")
            .arg(kafka.to_string());
        for port in ["--http", "--connect", "--sql"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command.args(more).env("HIGHWATER_LOG", "warn");
        let mut process = Watched::start(&mut command)?;
        let ready = process.wait_for("line that says ready", START_TIMEOUT, |line| {
            line.contains("ready")
        })?;
        let address = |name: &str| -> Result<SocketAddr> {
            ready
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .with_context(|| format!("`{ready}` names no {name}"))?
                .parse()
                .with_context(|| format!("the {name} address of `{ready}`"))
        };
        Ok(Self {
            kafka: address("kafka")?,
            http: address("http")?,
            connect: address("connect")?,
            sql: address("sql")?,
            process,
        })
    }

    /// SIGTERM, and the exit code must be 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        // Supervisors signal a process and then its group; the echo must not cut the clean stop short.
        let _ = self.process.signal("TERM");
        match self.process.wait(STOP_TIMEOUT)? {
            0 => Ok(()),
            code => bail!("SIGTERM ended the node with {code}"),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no VmRSS in /proc")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// `highwater <arguments>` against this node.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = program("highwater")?;
        command
            .args(arguments)
            .arg("--bootstrap")
            .arg(self.kafka.to_string());
        Ok(command)
    }

    /// The body of a GET over plain HTTP.
    pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("GET {path}: {head}\n{body}");
        }
        Ok(body.to_owned())
    }
}
