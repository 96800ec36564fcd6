//! What comes in by mistake or malice: the connection ends, the node serves on.

use std::net::SocketAddr;
use std::time::Duration;

use highwater_broker::Limits;
use tokio::io::AsyncWriteExt;

use crate::support::{Wire, start_with, values};

/// A deterministic stream of bytes.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn sends(address: SocketAddr, bytes: &[u8]) -> Wire {
    let mut wire = Wire::connect(address).await;
    // The node may have closed already.
    let _ = wire.stream.write_all(bytes).await;
    wire
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_01_02_05_08_09_14_16_23_garbage_closes_its_connection_and_hurts_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        slow_frame_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let (node, address) = start_with(dir.path(), limits, &[]).await;
    let mut good = Wire::connect(address).await;
    good.metadata("t").await;
    good.produce("t", &["kept"]).await;

    let huge_count = [
        &[0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff][..],
        &i32::MAX.to_be_bytes(),
        &[0],
    ]
    .concat();
    let unknown_key = [0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let old_fetch = [0, 1, 0, 3, 0, 0, 0, 1, 0xff, 0xff];
    let cases: Vec<Vec<u8>> = vec![
        i32::MAX.to_be_bytes().to_vec(),
        (-1_i32).to_be_bytes().to_vec(),
        0_i32.to_be_bytes().to_vec(),
        framed(&[0, 18, 0]),
        framed(&huge_count),
        framed(&unknown_key),
        framed(&old_fetch),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        // A TLS client hello.
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        // Half a frame, then silence: the slow-frame timeout ends it.
        [&1_000_i32.to_be_bytes()[..], &[0, 18, 0, 0]].concat(),
    ];
    for case in cases {
        let mut wire = sends(address, &case).await;
        assert!(wire.is_closed_by_node().await, "{case:?}");
    }
    for seed in 1..60 {
        drop(sends(address, &noise(seed, 300)).await);
        // A plausible header before the noise reaches the decoders.
        let key = (seed % 50) as u8;
        let version = (seed % 10) as u8;
        let body = [&[0, key, 0, version, 0, 0, 0, 1, 0, 0][..], &noise(seed, 200)].concat();
        drop(sends(address, &framed(&body)).await);
    }
    assert_eq!(values(&good.fetch("t", 0).await), ["kept"]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_06_idle_connections_and_those_beyond_the_limit_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        idle_timeout: Duration::from_millis(300),
        max_connections: 1,
        ..Limits::default()
    };
    let (node, address) = start_with(dir.path(), limits, &[]).await;
    let mut first = Wire::connect(address).await;
    first.metadata("t").await;
    let mut second = Wire::connect(address).await;
    assert!(second.is_closed_by_node().await);
    assert!(first.is_closed_by_node().await);
    let mut third = Wire::connect(address).await;
    third.metadata("t").await;
    node.shutdown().await.unwrap();
}
