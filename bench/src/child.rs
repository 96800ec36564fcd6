//! Processes of this program's own: a broker and a sender of plain bytes, apart so that their CPU seconds are.
//!
//! A child prints the port that it serves as its first line and ends when its standard input does, so it never
//! outlives its parent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use highwater_embedded::{Embedded, EmbeddedConfig};

/// First word of the line that tells the port.
const LISTENING: &str = "listening";

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a child does; also its name on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role<'a> {
    /// A node with its data in a directory: `serve`.
    Broker { data_dir: &'a Path },
    /// A sender of bytes: `stream`.
    Stream,
}

/// A child that serves. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts this program again in a role and waits until it serves.
    pub(crate) fn start(role: Role<'_>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        match role {
            Role::Broker { data_dir } => command.arg("serve").arg("--data-dir").arg(data_dir),
            Role::Stream => command.arg("stream"),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line
            .strip_prefix(LISTENING)
            .and_then(|port| port.trim().parse().ok());
        let port: u16 =
            port.with_context(|| format!("{command:?} ended before it served; it said {line:?}"))?;
        Ok(Server {
            child,
            address: SocketAddr::new(LOOPBACK.ip(), port),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Ends by itself now; what it leaves behind is a directory that nobody reads again.
        let _ = self.child.wait();
    }
}

/// The child's side of a broker.
pub(crate) async fn serve(data_dir: &Path) -> Result<()> {
    let embedded = Embedded::start(EmbeddedConfig::new(data_dir).listen(LOOPBACK)).await?;
    let address = embedded.kafka_addr().context("the node has no listener")?;
    println!("{LISTENING} {}", address.port());
    tokio::task::spawn_blocking(wait_for_parent).await?;
    embedded.shutdown().await?;
    Ok(())
}

fn wait_for_parent() {
    // An error of the pipe means the same as its end.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// The child's side of a plain copy: every connection names a size of writes and a total, and gets that many bytes.
pub(crate) fn stream() -> Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    println!("{LISTENING} {}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let sent = send_bytes(connection);
            // The reader notices what is missing; this is for whoever wonders why.
            if let Err(error) = sent {
                eprintln!("plain copy ended early: {error:#}");
            }
        }
    });
    wait_for_parent();
    Ok(())
}

/// The largest write that a connection may ask for.
const MAX_WRITE_BYTES: usize = 16 << 20;

fn send_bytes(mut connection: std::net::TcpStream) -> Result<()> {
    let mut number = [0; 8];
    connection.read_exact(&mut number)?;
    let write_bytes = usize::try_from(u64::from_le_bytes(number))?;
    ensure!(
        (1..=MAX_WRITE_BYTES).contains(&write_bytes),
        "cannot write {write_bytes} bytes at a time"
    );
    connection.read_exact(&mut number)?;
    let mut left = u64::from_le_bytes(number);
    let chunk = vec![b'-'; write_bytes];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(write_bytes);
        connection.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    Ok(())
}
