//! Connections: how many, how long, how slow, and what each costs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Buf;
use highwater_broker::{Limits, Node, SessionInfo};
use highwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::{
    ApiVersionsRequest, FetchRequest, IncrementalAlterConfigsRequest, MetadataRequest,
};
use highwater_wire::{ApiKey, ErrorCode, RequestHeader, ResponseBody, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Wire, batch, fetch_all, produce_request, start, start_with, values};

#[tokio::test(flavor = "multi_thread")]
async fn semantic_09_an_idle_connection_ends_with_a_clean_end_of_stream() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("connections.max.idle.ms", "200")];
    let (node, address) = start_with(dir.path(), Limits::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(5), wire.stream.read(&mut buffer)).await;
    // No bytes and no reset.
    assert_eq!(read.unwrap().unwrap(), 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_arrive_whole_before_a_request_that_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let request = |id: i32| {
        let header = RequestHeader::new(ApiKey::Metadata, 12, id, Some("test".into()));
        encode_request(&header, &MetadataRequest::default().into()).into_bytes()
    };
    let unserved: &[u8] = &[0, 0, 0, 10, 0, 3, 0x7f, 0xff, 0, 0, 0, 1, 0xff, 0xff];
    let undecodable: &[u8] = &[0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff];
    let no_frame: &[u8] = &[0x80; 16];
    for end in [unserved, undecodable, no_frame] {
        let mut wire = Wire::connect(address).await;
        let mut sent = [request(1), request(2)].concat();
        sent.extend_from_slice(end);
        // More than the node reads at once: what stays unread would make the system reset the connection.
        sent.resize(sent.len() + 512 * 1024, 0);
        wire.stream.write_all(&sent).await.unwrap();
        for id in [1, 2] {
            let mut answer = wire.read_frame().await.unwrap();
            assert_eq!(answer.get_i32(), id);
        }
        let mut rest = Vec::new();
        wire.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_06_07_one_address_has_its_limit_and_a_storm_of_connections_passes() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("max.connections.per.ip", "2")];
    let (node, address) = start_with(dir.path(), Limits::default(), &properties).await;
    let mut held = [Wire::connect(address).await, Wire::connect(address).await];
    for wire in &mut held {
        wire.metadata("t").await;
    }
    assert!(Wire::connect(address).await.is_closed_by_node().await);
    for _ in 0..500 {
        drop(TcpStream::connect(address).await.unwrap());
    }
    for wire in &mut held {
        wire.metadata("t").await;
    }
    drop(held);
    // Places come free again.
    let served = async {
        loop {
            let mut wire = Wire::connect(address).await;
            let asked = wire
                .stream
                .write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
            if asked.await.is_ok() && wire.read_frame().await.is_some() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served)
        .await
        .unwrap();
    node.shutdown().await.unwrap();
}

/// Sets a config of the broker, or of all brokers, as a session in this process: it takes no place of a connection.
async fn set_on_broker(node: &Node, name: &str, key: &str, value: &str) {
    let resource = AlterConfigsResource {
        resource_type: 4,
        resource_name: name.into(),
        configs: vec![AlterableConfig {
            name: key.into(),
            config_operation: 0,
            value: Some(value.into()),
        }],
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    let session = node.session(SessionInfo::default());
    let Ok(Some(ResponseBody::IncrementalAlterConfigs(answer))) = session.call(1, request.into()).await
    else {
        panic!("no answer");
    };
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_06_07_limits_of_connections_change_while_the_node_runs_and_open_ones_stay() {
    for key in ["max.connections", "max.connections.per.ip"] {
        let dir = tempfile::tempdir().unwrap();
        let (node, address) = start_with(dir.path(), Limits::default(), &[(key, "100")]).await;
        let mut held = vec![Wire::connect(address).await, Wire::connect(address).await];
        for wire in &mut held {
            wire.metadata("t").await;
        }
        set_on_broker(&node, "", key, "1").await;
        assert!(Wire::connect(address).await.is_closed_by_node().await, "{key}");
        for wire in &mut held {
            wire.metadata("t").await;
        }
        // The broker's own counts before that of all.
        set_on_broker(&node, "1", key, "3").await;
        let mut third = Wire::connect(address).await;
        third.metadata("t").await;
        assert!(Wire::connect(address).await.is_closed_by_node().await, "{key}");
        held.push(third);
        for wire in &mut held {
            wire.metadata("t").await;
        }
        drop(held);
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_04_05_a_frame_that_drips_in_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        slow_frame_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let (node, address) = start_with(dir.path(), limits, &[]).await;
    // Before and after the first whole request.
    for is_known in [false, true] {
        let mut wire = Wire::connect(address).await;
        if is_known {
            wire.metadata("t").await;
        }
        let began = Instant::now();
        let frame = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        for byte in frame.iter().cycle() {
            if wire.stream.write_all(&[*byte]).await.is_err() || began.elapsed().as_secs() > 5 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            if is_ended(&mut wire).await {
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(4), "known: {is_known}");
    }
    node.shutdown().await.unwrap();
}

async fn is_ended(wire: &mut Wire) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(1), wire.stream.read(&mut byte)).await;
    read.is_ok_and(|read| read.map_or(true, |read| read == 0))
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_11_67_who_never_reads_is_dropped_and_holds_bounded_memory() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        write_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let (node, address) = start_with(dir.path(), limits, &[]).await;
    let mut good = Wire::connect(address).await;
    good.create("t", 1, &[]).await;
    let value = "x".repeat(900_000);
    for _ in 0..20 {
        good.produce("t", &[&value]).await;
    }
    let before = resident_bytes();
    let mut hostile = Vec::new();
    for _ in 0..8 {
        let mut wire = Wire::connect(address).await;
        let mut request = fetch_all(&[("t", 0, 0)]);
        request.max_bytes = i32::MAX;
        request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
        // 300 answers of 18 MB are owed; one at a time is made.
        for _ in 0..300 {
            wire.send(12, request.clone()).await;
        }
        hostile.push(wire);
    }
    let most = 8 * 2 * 19_000_000;
    assert!(resident_bytes().saturating_sub(before) < most);
    assert_eq!(values(&good.fetch("t", 19).await).len(), 1);
    // Who takes nothing is dropped; what is in the socket's buffers already is all that comes.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for wire in &mut hostile {
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read) = wire.stream.read(&mut buffer).await {
            taken += read;
            if read == 0 {
                break;
            }
        }
        assert!(taken < 18_000_000 * 2, "{taken}");
    }
    // Small answers: a pipeline of 100,000 requests that nobody reads the answers of.
    let mut wire = Wire::connect(address).await;
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff].repeat(1_000);
    let flood = async { while wire.stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), flood)
        .await
        .unwrap();
    assert_eq!(values(&good.fetch("t", 19).await).len(), 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_12_13_half_closed_and_reset_connections_end_without_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["x"]).await;
    // Half-closed: what was asked is answered, then the connection ends.
    wire.send(4, ApiVersionsRequest::default()).await;
    wire.stream.shutdown().await.unwrap();
    assert!(matches!(wire.receive().await, ResponseBody::ApiVersions(_)));
    assert!(wire.is_closed_by_node().await);
    // Reset while answers are owed and while a fetch waits.
    for wait_ms in [0, 10_000] {
        let mut wire = Wire::connect(address).await;
        for _ in 0..50 {
            let request = FetchRequest {
                max_wait_ms: wait_ms,
                ..fetch_all(&[("t", 0, i64::from(wait_ms > 0))])
            };
            wire.send(12, request).await;
        }
        wire.stream.set_zero_linger().unwrap();
        drop(wire);
    }
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.produce("t", &["y"]).await.base_offset, 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_18_19_31_odd_headers_and_trailing_bytes_hurt_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut good = Wire::connect(address).await;
    let request = |client_id: &[u8], tail: &[u8]| {
        let length = (client_id.len() as i16).to_be_bytes();
        let body = [&[0, 18, 0, 0, 0, 0, 0, 1][..], &length, client_id, tail].concat();
        [&(body.len() as i32).to_be_bytes()[..], &body].concat()
    };
    for (client_id, tail) in [
        (&b"a\0b\nlevel=ERROR forged"[..], &b""[..]),
        (&[b'x'; 32_767], b""),
        (b"tail", b"trailing garbage"),
    ] {
        let mut wire = Wire::connect(address).await;
        wire.stream.write_all(&request(client_id, tail)).await.unwrap();
        assert!(wire.read_frame().await.is_some());
    }
    // Not text; and a flexible header before a version that has none.
    let mut flexible = vec![0, 0, 0, 12, 0, 3, 0, 4, 0, 0, 0, 1, 0xff, 0xff, 0, 1];
    for bytes in [request(&[0xff, 0xfe], b""), std::mem::take(&mut flexible)] {
        let mut wire = Wire::connect(address).await;
        wire.stream.write_all(&bytes).await.unwrap();
        assert!(wire.is_closed_by_node().await, "{bytes:?}");
    }
    good.metadata("t").await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_32_34_35_empty_lists_many_topics_and_impossible_names_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let metadata = |names: Vec<String>, may_create: bool| MetadataRequest {
        topics: Some(
            names
                .into_iter()
                .map(|name| MetadataRequestTopic {
                    name: Some(name.into()),
                    ..Default::default()
                })
                .collect(),
        ),
        allow_auto_topic_creation: may_create,
        ..Default::default()
    };
    assert_eq!(wire.call(13, metadata(Vec::new(), true)).await.topics.len(), 0);
    assert_eq!(wire.call(12, fetch_all(&[])).await.responses.len(), 0);
    let mut nothing = produce_request("t", batch(&["x"]), -1);
    nothing.topic_data[0].partition_data.clear();
    wire.call(9, nothing.clone()).await;
    nothing.topic_data.clear();
    assert_eq!(wire.call(9, nothing).await.responses.len(), 0);
    wire.call(7, highwater_wire::messages::ListOffsetsRequest::default())
        .await;
    wire.call(
        4,
        highwater_wire::messages::OffsetForLeaderEpochRequest::default(),
    )
    .await;

    let many = (0..100_000).map(|at| format!("topic-{at}")).collect();
    let answer = wire.call(12, metadata(many, false)).await;
    assert_eq!(answer.topics.len(), 100_000);
    let long = "x".repeat(250);
    let names = [
        "",
        ".",
        "..",
        &long,
        "a/b",
        "../up",
        "sp ace",
        "ｗｉｄｅ",
        "nul\0",
        "a\nb",
    ];
    let answer = wire
        .call(12, metadata(names.map(String::from).to_vec(), true))
        .await;
    for (topic, name) in answer.topics.iter().zip(names) {
        assert_eq!(topic.name.as_deref(), Some(name), "the name is told back");
        let code = ErrorCode::from_code(topic.error_code);
        assert_eq!(code, ErrorCode::InvalidTopicException, "{name:?}");
    }
    node.shutdown().await.unwrap();
}

/// Bytes of this process in memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// How many files this process may have open.
fn open_files_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    soft.parse().unwrap_or(usize::MAX)
}

/// Opens connections that have each been served once and now wait.
async fn idle_connections(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut wire = Wire::connect(address).await;
        wire.call(0, ApiVersionsRequest::default()).await;
        open.push(wire.stream);
    }
    open
}

/// Both ends of each connection live in this process, so what is measured is more than the node's part.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_cheap() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    // Other tests of this process need files too.
    let count = (open_files_limit() / 4).clamp(50, 10_000);
    let warm_up = idle_connections(address, 50).await;
    let before = resident_bytes();
    let open = idle_connections(address, count).await;
    let grown = resident_bytes().saturating_sub(before);
    println!("{count} idle connections: {grown} bytes, {} each", grown / count);
    // Other tests run at the same time; alone it is a few kilobytes each.
    assert!(
        grown / count < 20_000 || count < 5_000 && grown < 100_000_000,
        "{grown}"
    );
    drop((warm_up, open));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_max_request_bytes_bounds_what_is_read_over_all_connections() {
    let dir = tempfile::tempdir().unwrap();
    let tight = [
        ("socket.request.max.bytes", "8000"),
        ("queued.max.request.bytes", "8000"),
    ];
    let (node, address) = start_with(dir.path(), Limits::default(), &tight).await;
    let (mut slow, mut other) = (Wire::connect(address).await, Wire::connect(address).await);
    slow.create("t", 1, &[]).await;
    other.metadata("t").await;
    let header = RequestHeader::new(ApiKey::Produce, 9, 77, None);
    let body = produce_request("t", batch(&[&"x".repeat(7_500)]), -1);
    let frame = encode_request(&header, &body.into()).into_bytes();
    let (begun, rest) = frame.split_at(frame.len() / 2);
    slow.stream.write_all(begun).await.unwrap();
    // Once the beginning has arrived, there is no room for another request but a tiny one.
    let small = produce_request("t", batch(&[&"y".repeat(1_000)]), -1);
    for attempt in 0.. {
        assert!(attempt < 500, "nobody waits");
        other.send(9, small.clone()).await;
        let soon = Duration::from_millis(300);
        if tokio::time::timeout(soon, other.stream.peek(&mut [0]))
            .await
            .is_err()
        {
            break;
        }
        other.receive().await;
    }
    slow.stream.write_all(rest).await.unwrap();
    assert!(slow.read_frame().await.is_some());
    let answered = tokio::time::timeout(Duration::from_secs(20), other.receive());
    answered.await.expect("read as soon as there is room");
    node.shutdown().await.unwrap();
}
