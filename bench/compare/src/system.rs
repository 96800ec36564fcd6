//! The two systems as processes: prepared, started, paused while the other one is measured, stopped and killed.
//!
//! Invariant: a process that this module started does not outlive its handle.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::wire::Raw;

/// How long a server may take until it serves, whatever it has to recover.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// How long a server may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a server's log that are shown when it fails.
const LAST_WORDS: usize = 15;
/// After a pause a server may look at its clocks before it is measured.
const SETTLE: Duration = Duration::from_millis(700);

/// Java options: what Kafka's own start script uses, with a fixed heap.
pub(crate) const JVM: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];

/// What both are told, by Kafka's names.
pub(crate) const PROPERTIES: &[(&str, &str)] = &[
    ("log.segment.bytes", "1073741824"),
    ("log.retention.ms", "-1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("auto.create.topics.enable", "false"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    Kafka,
    Highwater,
}

impl System {
    pub(crate) const BOTH: [System; 2] = [System::Kafka, System::Highwater];

    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Kafka => "kafka",
            System::Highwater => "highwater",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) kafka_jars: PathBuf,
    pub(crate) highwater: PathBuf,
    /// Further properties for Kafka, as lines of its file.
    pub(crate) kafka_properties: Vec<String>,
}

impl Programs {
    /// `java` with all of Kafka on its class path.
    pub(crate) fn java(&self, options: &[&str]) -> Command {
        let mut command = Command::new("java");
        command
            .args(options)
            .arg("-cp")
            .arg(format!("{}/*", self.kafka_jars.display()));
        command
    }

    /// Fails with what to do when something is missing.
    pub(crate) fn check(&self) -> Result<()> {
        let java = Command::new("java")
            .arg("-version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(
            java.is_ok_and(|status| status.success()),
            "there is no `java` on the PATH: Apache Kafka needs Java 17 or later (on Debian: apt-get install \
             openjdk-17-jre-headless)"
        );
        let jars = fs::read_dir(&self.kafka_jars)
            .with_context(|| format!("cannot list {} (--kafka-jars)", self.kafka_jars.display()))?;
        let has_broker = jars
            .flatten()
            .any(|jar| jar.file_name().to_string_lossy().starts_with("kafka_2."));
        ensure!(
            has_broker,
            "{} has no kafka_2.13 jar: `cargo xtask bench kafka` fetches it with Maven",
            self.kafka_jars.display()
        );
        ensure!(
            self.highwater.is_file(),
            "there is no {}: build it with `cargo build --release --workspace --bin highwater`",
            self.highwater.display()
        );
        Ok(())
    }

    /// The version of the jars.
    pub(crate) fn kafka_version(&self) -> String {
        let jars = fs::read_dir(&self.kafka_jars).into_iter().flatten().flatten();
        jars.filter_map(|jar| {
            let name = jar.file_name().to_string_lossy().into_owned();
            Some(
                name.strip_prefix("kafka-server-4")?
                    .strip_suffix(".jar")?
                    .to_owned(),
            )
        })
        .next()
        .map_or_else(|| "unknown".to_owned(), |rest| format!("4{rest}"))
    }
}

/// What a server will go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Stopped by a signal for minutes while the other system is measured.
    Pauses,
    /// Ended and started again.
    Restarts,
}

/// A data directory, its configuration and its port: what survives a restart.
#[derive(Debug)]
pub(crate) struct Home {
    system: System,
    dir: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    programs: Programs,
}

impl Home {
    /// A new home of a system below `parent`.
    pub(crate) fn prepare(system: System, programs: &Programs, parent: &Path, life: Life) -> Result<Self> {
        let dir = parent.join(system.name());
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let address = free_port()?;
        let (file, text) = match system {
            System::Kafka => (
                "server.properties",
                kafka_properties(&dir, address, free_port()?, life, &programs.kafka_properties),
            ),
            System::Highwater => ("server.toml", highwater_config(&dir, address)),
        };
        let config = dir.join(file);
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let home = Home {
            system,
            dir,
            config,
            address,
            programs: programs.clone(),
        };
        if system == System::Kafka {
            home.format()?;
        }
        Ok(home)
    }

    /// Kafka wants its directory formatted before it starts.
    fn format(&self) -> Result<()> {
        let output = self
            .programs
            .java(&["-Xmx256m"])
            .args([
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                "AAAAAAAAAAAAAAAAAAAAAA",
                "--config",
            ])
            .arg(&self.config)
            .output()
            .context("cannot start java")?;
        ensure!(
            output.status.success(),
            "kafka.tools.StorageTool format ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn command(&self) -> Command {
        match self.system {
            System::Kafka => {
                let mut command = self.programs.java(JVM);
                command.arg("kafka.Kafka").arg(&self.config);
                command
            }
            System::Highwater => {
                let mut command = Command::new(&self.programs.highwater);
                command.arg("server").arg("--config").arg(&self.config);
                command
            }
        }
    }

    /// Starts the server and gives it back at once; it may not serve yet.
    pub(crate) fn spawn(&self) -> Result<Node> {
        let log_path = self.dir.join("server.log");
        let log = File::options().create(true).append(true).open(&log_path)?;
        let mut command = self.command();
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Node {
            system: self.system,
            child,
            address: self.address,
            started,
            log_path,
        })
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&self) -> Result<Node> {
        let mut node = self.spawn()?;
        node.wait_until(|raw| raw.serves())?;
        Ok(node)
    }
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Node {
    system: System,
    child: Child,
    address: SocketAddr,
    started: Instant,
    log_path: PathBuf,
}

impl Node {
    pub(crate) fn system(&self) -> System {
        self.system
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks again and again, a millisecond apart, until `question` is answered with yes; gives the time since the process
    /// was started. A new connection is made whenever the server closes one.
    pub(crate) fn wait_until(
        &mut self,
        mut question: impl FnMut(&mut Raw) -> Result<bool>,
    ) -> Result<Duration> {
        let mut connection = None;
        loop {
            if connection.is_none() {
                connection = Raw::connect(self.address).ok();
            }
            match connection.as_mut().map(&mut question) {
                Some(Ok(true)) => return Ok(self.started.elapsed()),
                Some(Ok(false)) | None => {}
                Some(Err(_)) => connection = None,
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status}: {}",
                    self.system.name(),
                    self.last_words()
                );
            }
            ensure!(
                self.started.elapsed() < START_PATIENCE,
                "{} does not serve after {START_PATIENCE:?}: {}",
                self.system.name(),
                self.last_words()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read(&self.log_path).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let complaint = lines
            .iter()
            .position(|line| line.contains("ERROR") || line.contains("rror: ") || line.contains("panicked"));
        let from = complaint.unwrap_or(lines.len().saturating_sub(LAST_WORDS));
        lines[from..]
            .iter()
            .take(LAST_WORDS)
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill")
            .args(["-s", signal, &self.pid().to_string()])
            .status()
            .context("cannot run kill")?;
        ensure!(
            status.success(),
            "kill -s {signal} {} ended with {status}",
            self.pid()
        );
        Ok(())
    }

    /// Takes the processor away until `resume`, so that the other system has the machine to itself.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal("STOP")
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.signal("CONT")?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    /// Lets the process use only one core, or all.
    pub(crate) fn place(&self, cores: &str) -> Result<()> {
        place(self.pid(), cores)
    }

    /// Ends cleanly; gives how long that took.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let began = Instant::now();
        self.signal("TERM")?;
        while self.child.try_wait()?.is_none() {
            ensure!(
                began.elapsed() < STOP_PATIENCE,
                "{} does not stop within {STOP_PATIENCE:?}: {}",
                self.system.name(),
                self.last_words()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    }

    /// Ends as a crash does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Also ends a paused process; one that has ended already is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets all threads of a process use only these cores.
pub(crate) fn place(pid: u32, cores: &str) -> Result<()> {
    let output = Command::new("taskset")
        .args(["-a", "-c", "-p", cores, &pid.to_string()])
        .output()
        .context("cannot run taskset, which places a process on a core (on Debian: util-linux)")?;
    ensure!(output.status.success(), "taskset ended with {}", output.status);
    Ok(())
}

fn free_port() -> Result<SocketAddr> {
    // The port is free again when the listener is dropped, and nobody else on the machine hurries to take it.
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port on loopback")?;
    Ok(listener.local_addr()?)
}

fn kafka_properties(
    dir: &Path,
    address: SocketAddr,
    controller: SocketAddr,
    life: Life,
    further: &[String],
) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        dir.join("data").display()
    );
    if life == Life::Pauses {
        // A paused process must not be taken for a dead one.
        text.push_str("broker.session.timeout.ms=3600000\n");
    }
    for (name, value) in PROPERTIES {
        text.push_str(&format!("{name}={value}\n"));
    }
    for line in further {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn highwater_config(dir: &Path, address: SocketAddr) -> String {
    let mut text = format!(
        "[node]\n\
         data_dir = \"{}\"\n\
         [listeners]\n\
         kafka = \"{address}\"\n\
         http = \"127.0.0.1:0\"\n\
         connect = \"127.0.0.1:0\"\n\
         sql = \"127.0.0.1:0\"\n\
         [properties]\n",
        dir.join("data").display()
    );
    for (name, value) in PROPERTIES {
        text.push_str(&format!("\"{name}\" = \"{value}\"\n"));
    }
    text
}

/// Both systems, running; only one of them has the processor at a time.
#[derive(Debug)]
pub(crate) struct Pair {
    nodes: [Node; 2],
}

impl Pair {
    /// Starts both in fresh homes below `parent`.
    pub(crate) fn start(programs: &Programs, parent: &Path) -> Result<Self> {
        let [kafka, highwater] = System::BOTH;
        let start = |system| -> Result<Node> {
            let home = Home::prepare(system, programs, parent, Life::Pauses)?;
            let node = home.start()?;
            node.pause()?;
            Ok(node)
        };
        Ok(Pair {
            nodes: [start(kafka)?, start(highwater)?],
        })
    }

    /// Does something with one of them while the other one rests.
    pub(crate) fn with<T>(&self, system: System, work: impl FnOnce(&Node) -> Result<T>) -> Result<T> {
        let node = self
            .nodes
            .iter()
            .find(|node| node.system() == system)
            .context("a pair has both systems")?;
        node.resume()?;
        let outcome = work(node);
        node.pause()?;
        outcome
    }
}
