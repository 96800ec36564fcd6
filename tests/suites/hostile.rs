//! Garbage on the Kafka port: the node lives, its memory stays bounded, and honest clients are served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream as AsyncStream};

use crate::support::{Dev, run_to_end};

/// The largest frame a node takes, and room for what else it does meanwhile.
const FRAME_LIMIT_BYTES: u64 = 100 << 20;

fn connect(node: &Dev) -> Result<TcpStream> {
    let stream = TcpStream::connect(node.kafka)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends bytes and waits for the node to close the connection or to answer with something small.
fn send_and_expect_no_flood(node: &Dev, bytes: &[u8]) -> Result<()> {
    let mut stream = connect(node)?;
    // The node may close while we still write.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    ensure!(answer.len() < 1 << 20, "{} bytes came back", answer.len());
    Ok(())
}

fn frame(length: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A request header (v1) for a key and a version.
fn header(api_key: i16, version: i16) -> Vec<u8> {
    let mut bytes = api_key.to_be_bytes().to_vec();
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&7i32.to_be_bytes());
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    bytes
}

fn whole_frame(body: &[u8]) -> Vec<u8> {
    frame(i32::try_from(body.len()).unwrap_or(i32::MAX), body)
}

fn still_serves(node: &Dev) -> Result<()> {
    run_to_end(&mut node.cli(&["topic", "list"])?).map(drop)
}

#[test]
fn garbage_neither_stops_the_node_nor_grows_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    still_serves(&node)?;
    let before = node.resident_bytes()?;
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = vec![0u8; 64 << 10];
    for _ in 0..50 {
        for byte in &mut random {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            *byte = noise as u8;
        }
        send_and_expect_no_flood(&node, &random)?;
    }
    for length in [-1, 0, 3, i32::MAX, (100 << 20) + 1] {
        send_and_expect_no_flood(&node, &frame(length, b"x"))?;
    }
    send_and_expect_no_flood(&node, b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n")?;
    send_and_expect_no_flood(&node, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
    // Array counts of two thousand million in four bytes: Metadata v1, Produce v3, CreateTopics v2, Fetch v4.
    for (key, version, prefix) in [(3i16, 1i16, 0usize), (0, 3, 8), (19, 2, 0), (1, 4, 17)] {
        let mut body = header(key, version);
        if key == 0 {
            body.extend_from_slice(&(-1i16).to_be_bytes());
            body.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
        } else {
            body.extend(std::iter::repeat_n(0, prefix));
        }
        body.extend_from_slice(&i32::MAX.to_be_bytes());
        send_and_expect_no_flood(&node, &whole_frame(&body))?;
    }
    // Unknown keys and versions, and headers cut short.
    for body in [
        header(9_999, 0),
        header(-1, 0),
        header(3, 999),
        header(18, 999),
        vec![0, 3],
        vec![],
    ] {
        send_and_expect_no_flood(&node, &whole_frame(&body))?;
    }
    let grown = node.resident_bytes()?.saturating_sub(before);
    assert!(grown < FRAME_LIMIT_BYTES, "the node grew by {grown} bytes");
    still_serves(&node)?;
    node.stop()
}

#[test]
fn a_half_frame_followed_by_silence_costs_only_what_arrived() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    still_serves(&node)?;
    let before = node.resident_bytes()?;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = connect(&node)?;
        // A frame of 90 MiB is announced, and 1 KiB of it comes.
        stream.write_all(&frame(90 << 20, &[0; 1024]))?;
        silent.push(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    still_serves(&node)?;
    let grown = node.resident_bytes()?.saturating_sub(before);
    assert!(
        grown < FRAME_LIMIT_BYTES,
        "100 announced frames cost {grown} bytes"
    );
    drop(silent);
    node.stop()
}

const IDLE_CONNECTIONS: usize = 10_000;
/// Files of a node and of this test beside those connections.
const OTHER_FILES: u64 = 1_500;
/// Addresses of this machine to connect from, as many clients would.
const SOURCES: u8 = 20;

/// A connection from an address of its own group, on which an ApiVersions request was answered: what a client does
/// before it falls silent.
async fn idle_connection(kafka: std::net::SocketAddr, number: usize) -> Result<AsyncStream> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let socket = TcpSocket::new_v4()?;
    let source = u8::try_from(number % usize::from(SOURCES))? + 2;
    socket.bind(([127, 0, 0, source], 0).into())?;
    let mut stream = socket.connect(kafka).await?;
    stream.write_all(&whole_frame(&header(18, 0))).await?;
    let length = stream.read_u32().await?;
    ensure!((10..10_000).contains(&length), "an answer of {length} bytes");
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_06_ten_thousand_idle_connections_are_held_and_cost_less_than_200_megabytes() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // The node and the clients are two processes, and both ends of a connection are a file.
    if hard < IDLE_CONNECTIONS as u64 + OTHER_FILES {
        eprintln!("skipped: ten_thousand_idle_connections: this machine allows {hard} open files");
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let folder = tempfile::tempdir()?;
    let more = ["--set", "max.connections=12000"];
    let any = ([127, 0, 0, 1], 0).into();
    let node = tokio::task::block_in_place(|| Dev::start_on(folder.path(), any, &more))?;
    tokio::task::block_in_place(|| still_serves(&node))?;
    let before = node.resident_bytes()?;
    let mut idle = Vec::with_capacity(IDLE_CONNECTIONS);
    for number in 0..IDLE_CONNECTIONS {
        idle.push(idle_connection(node.kafka, number).await?);
    }
    tokio::task::block_in_place(|| still_serves(&node))?;
    let grown = node.resident_bytes()?.saturating_sub(before);
    println!("{IDLE_CONNECTIONS} idle connections: {grown} bytes");
    assert!(grown < 200_000_000, "the node grew by {grown} bytes");
    // Every one of them is still held and served.
    for stream in &mut idle {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(&whole_frame(&header(18, 0))).await?;
        let length = stream.read_u32().await?;
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
    }
    drop(idle);
    tokio::task::block_in_place(|| node.stop())
}
