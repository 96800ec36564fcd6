//! Record sets that go from their files to the socket: what arrives, and what happens when either end gives way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::{Limits, SessionInfo};
use highwater_storage::testing::FakeDisk;
use highwater_types::Uuid;
use highwater_types::record::{RecordBatch, batches};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::fetch_response::PartitionData;
use highwater_wire::messages::{ApiVersionsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse};
use highwater_wire::{RequestBody, ResponseBody, decode_response};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::{
    Wire, batch, fetch_all, fetch_request, produce_request, start, start_on, start_with, values,
};

/// Segments of a megabyte, so that what is read lies in sealed ones and in the one being written.
const SMALL_SEGMENTS: [(&str, &str); 1] = [("segment.bytes", "1048576")];

/// Large enough for an answer of its own not to be copied.
const LARGE_BYTES: usize = 300_000;
/// Answers below this may be copied.
const COPIED_BYTES: usize = 256 * 1024;

async fn produce_to(wire: &mut Wire, topic: &str, partition: i32, records: Bytes) {
    let mut request = produce_request(topic, records, -1);
    request.topic_data[0].partition_data[0].index = partition;
    let response = wire.call(9, request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn large(tag: &str) -> Bytes {
    batch(&[&format!("{tag}{}", "x".repeat(LARGE_BYTES))])
}

fn record_bytes(response: &FetchResponse) -> Vec<usize> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| data.records.as_ref().unwrap().len())
        .collect()
}

/// The log of a partition as it lies on disk, segment by segment.
fn segments(dir: &Path, partition: &str) -> Vec<Vec<RecordBatch>> {
    let files = std::fs::read_dir(dir.join(partition)).unwrap();
    let mut logs: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let read = |path| batches(std::fs::read(path).unwrap().into());
    logs.iter()
        .map(|path| read(path).map(Result::unwrap).collect())
        .collect()
}

/// What a fetch of one partition must give: whole batches of one segment within the limit, the first one whatever its
/// size.
fn expected(segments: &[Vec<RecordBatch>], from: i64, max_bytes: usize) -> Vec<u8> {
    let holds = |batch: &&RecordBatch| batch.header().last_offset().get() >= from;
    let mut all = Vec::new();
    for segment in segments {
        for batch in segment.iter().filter(holds) {
            if !all.is_empty() && all.len() + batch.bytes().len() > max_bytes {
                return all;
            }
            all.extend_from_slice(batch.bytes());
        }
        if !all.is_empty() {
            break;
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_43_44_whole_batches_within_the_limit_arrive_from_every_offset_in_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let id = wire.create("t", 1, &SMALL_SEGMENTS).await;
    for at in 0..60_usize {
        let sizes = [10, 30_000, 1_000, 90_000, 20_000];
        let value = "v".repeat(sizes[at % 5] + at);
        wire.produce("t", &["a", &value, "c"]).await;
    }
    let segments = segments(dir.path(), "t-0");
    assert!(segments.len() > 1);
    for version in [4, 7, 9, 10, 12, 13, 17] {
        for (from, max_bytes) in (0..180)
            .step_by(7)
            .zip([1, 20_000, 61_000, 400_000, 5_000_000].iter().cycle())
        {
            let mut request = fetch_request("t", from);
            request.topics[0].partitions[0].partition_max_bytes = *max_bytes;
            request.topics[0].topic_id = if version >= 13 { id } else { Uuid::nil() };
            let response = wire.call(version, request).await;
            let records = response.responses[0].partitions[0].records.clone().unwrap();
            let expected = expected(&segments, from, *max_bytes as usize);
            // What is read through memory may end a batch before the limit.
            let is_copied = version < 10 || expected.len() < COPIED_BYTES;
            let may_be_shorter = is_copied && !records.is_empty() && expected.starts_with(&records);
            assert!(
                records == expected || may_be_shorter,
                "v{version} {from} {max_bytes}"
            );
        }
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_43_45_49_partitions_share_the_limit_of_a_request_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 5, &[]).await;
    for partition in [1, 2, 4] {
        for _ in 0..3 {
            produce_to(&mut wire, "t", partition, large("")).await;
        }
    }
    produce_to(&mut wire, "t", 3, batch(&["small"])).await;
    let (one, small) = (large("").len(), batch(&["small"]).len());
    let parts = [("t", 0, 0), ("t", 1, 0), ("t", 2, 0), ("t", 3, 0), ("t", 4, 0)];
    let mut fetch = async |max_bytes: usize| {
        let request = FetchRequest {
            max_bytes: max_bytes as i32,
            ..fetch_all(&parts)
        };
        record_bytes(&wire.call(12, request).await)
    };
    assert_eq!(fetch(one * 20).await, [0, one * 3, one * 3, small, one * 3]);
    assert_eq!(fetch(one * 5).await, [0, one * 3, one * 2, 0, 0]);
    assert_eq!(fetch(one * 4 + small).await, [0, one * 3, one, small, 0]);
    assert_eq!(fetch(1).await, [0, one, 0, 0, 0]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_48_49_sessions_leave_out_what_is_no_news_around_records_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 4, &[]).await;
    let parts = [("t", 0, 0), ("t", 1, 0), ("t", 2, 0), ("t", 3, 0)];
    let begin = FetchRequest {
        session_epoch: 0,
        ..fetch_all(&parts)
    };
    let id = wire.call(12, begin).await.session_id;
    produce_to(&mut wire, "t", 1, large("one")).await;
    produce_to(&mut wire, "t", 2, batch(&["two"])).await;
    produce_to(&mut wire, "t", 3, large("three")).await;
    for epoch in 1..4 {
        let go_on = FetchRequest {
            session_id: id,
            session_epoch: epoch,
            ..fetch_all(&[])
        };
        let response = wire.call(12, go_on).await;
        let partitions = &response.responses[0].partitions;
        let order: Vec<_> = partitions.iter().map(|data| data.partition_index).collect();
        assert_eq!(order, [1, 2, 3]);
        let begins = |data: &PartitionData| values(data)[0].trim_end_matches('x').to_owned();
        let values: Vec<_> = partitions.iter().map(begins).collect();
        assert_eq!(values, ["one", "two", "three"]);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_06_pipelined_requests_are_answered_in_order_whether_from_files_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    for _ in 0..30 {
        wire.produce_batch("t", large("")).await;
    }
    wire.produce("t", &["small"]).await;
    let mut wanted = Vec::new();
    for from in [0, 30, 3, 30, 30, 29] {
        wire.send(4, ApiVersionsRequest::default()).await;
        wire.send(12, fetch_request("t", from)).await;
        wanted.push(from);
    }
    for from in wanted {
        assert!(matches!(wire.receive().await, ResponseBody::ApiVersions(_)));
        let ResponseBody::Fetch(response) = wire.receive().await else {
            panic!("a fetch is answered")
        };
        let records = response.responses[0].partitions[0].records.clone().unwrap();
        let first = batches(records).next().unwrap().unwrap();
        assert_eq!(first.header().base_offset.get(), from);
    }
    node.shutdown().await.unwrap();
}

/// A connection with small buffers, on which a large fetch is asked for and nothing is read.
async fn ask_and_wait(address: SocketAddr, topic: &str) -> tokio::net::TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let mut request = fetch_all(&[(topic, 0, 0)]);
    request.max_bytes = i32::MAX;
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    let header = highwater_wire::RequestHeader::new(highwater_wire::ApiKey::Fetch, 12, 1, None);
    let frame = highwater_wire::encode_request(&header, &RequestBody::from(request));
    let mut stream = stream;
    stream.write_all(&frame.into_bytes()).await.unwrap();
    // The answer has begun.
    let mut byte = [0];
    while stream.peek(&mut byte).await.unwrap() == 0 {}
    stream
}

/// Everything up to the end of the answer or of the stream, in small steps.
async fn drain(stream: &mut tokio::net::TcpStream) -> Result<Bytes, usize> {
    let length = stream.read_i32().await.unwrap() as usize;
    let mut frame = vec![0; length];
    let mut have = 0;
    while have < length {
        let upto = length.min(have + 60_000);
        match stream.read(&mut frame[have..upto]).await {
            Ok(0) | Err(_) => return Err(have),
            Ok(read) => have += read,
        }
    }
    Ok(frame.into())
}

async fn topic_of_20_megabytes(wire: &mut Wire) -> Vec<String> {
    wire.create("t", 1, &[]).await;
    let mut values = Vec::new();
    for at in 0..24 {
        let value = format!("{at:03}").repeat(300_000);
        wire.produce("t", &[&value]).await;
        values.push(value);
    }
    values
}

fn values_of_frame(frame: Bytes) -> Vec<String> {
    let (_, body) = decode_response(highwater_wire::ApiKey::Fetch, 12, frame).unwrap();
    let ResponseBody::Fetch(response) = body else {
        panic!("a fetch is answered")
    };
    values(&response.responses[0].partitions[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_little_at_a_time_gets_everything_even_of_a_topic_deleted_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let sent = topic_of_20_megabytes(&mut wire).await;
    let mut slow = ask_and_wait(address, "t").await;
    let gone = DeleteTopicState {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = DeleteTopicsRequest {
        topics: vec![gone],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(wire.call(6, request).await.responses[0].error_code, 0);
    let frame = drain(&mut slow).await.expect("the whole answer");
    assert!(values_of_frame(frame) == sent);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_gets_shorter_while_it_is_sent_ends_the_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    topic_of_20_megabytes(&mut wire).await;
    let mut slow = ask_and_wait(address, "t").await;
    let log = dir.path().join("t-0/00000000000000000000.log");
    let file = std::fs::File::options().write(true).open(log).unwrap();
    file.set_len(1_000_000).unwrap();
    let arrived = drain(&mut slow).await.map(|frame| frame.len());
    assert!(arrived.is_err_and(|bytes| bytes < 20_000_000), "{arrived:?}");
    wire.create("other", 1, &[]).await;
    wire.produce_batch("other", large("")).await;
    assert_eq!(values(&wire.fetch("other", 0).await).len(), 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_who_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        drain_timeout: Duration::from_millis(100),
        write_timeout: Duration::from_secs(600),
        ..Limits::default()
    };
    let (node, address) = start_with(dir.path(), limits, &[]).await;
    let mut wire = Wire::connect(address).await;
    topic_of_20_megabytes(&mut wire).await;
    let _slow = ask_and_wait(address, "t").await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), node.shutdown());
    stopped.await.unwrap().unwrap();
}

/// Counters of the nodes that this thread starts.
#[derive(Default)]
struct Counters {
    fetched: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "highwater_broker_fetched_bytes_total" => Counter::from_arc(Arc::clone(&self.fetched)),
            "highwater_broker_sendfile_bytes_total" => Counter::from_arc(Arc::clone(&self.sent)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Counters {
    /// Fetched bytes, and those among them that were sent from files.
    fn read(&self) -> (u64, u64) {
        (
            self.fetched.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }

    /// Waits until so many bytes were sent from files: they are counted when the last one is in the socket's buffer.
    async fn sent(&self, bytes: u64) {
        let counted = async {
            while self.sent.load(Ordering::Relaxed) < bytes {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(30);
        let in_time = tokio::time::timeout(limit, counted).await.is_ok();
        assert!(in_time, "{bytes} bytes expected, {:?} counted", self.read());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_record_sets_are_sent_from_their_files_and_small_ones_copied() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &SMALL_SEGMENTS).await;
    for _ in 0..30 {
        wire.produce_batch("t", large("")).await;
    }
    let mut total = 0;
    // Sealed segments and the one being written; in sequence and not.
    for from in [0, 10, 20, 29, 1, 0] {
        let data = wire.fetch("t", from).await;
        total += data.records.unwrap().len() as u64;
        counters.sent(total).await;
        assert_eq!(counters.read(), (total, total), "{from}");
    }
    wire.produce("t", &["small"]).await;
    let (fetched, sent) = counters.read();
    let small = wire.fetch("t", 30).await.records.unwrap().len() as u64;
    assert_eq!(counters.read(), (fetched + small, sent));
    node.shutdown().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_that_break_in_the_middle_of_files_leave_places_for_others() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &SMALL_SEGMENTS).await;
    for _ in 0..12 {
        wire.produce_batch("t", large("")).await;
    }
    // Each is answered with some fifty stretches of files; there are places for a thousand.
    let parts: Vec<_> = (0..200).map(|_| ("t", 0, 0)).collect();
    for _ in 0..24 {
        let mut broken = Wire::connect(address).await;
        let mut request = fetch_all(&parts);
        request.max_bytes = i32::MAX;
        broken.send(12, request).await;
        let mut byte = [0];
        broken.stream.read_exact(&mut byte).await.unwrap();
        broken.stream.set_zero_linger().unwrap();
    }
    let served_from_files = async {
        loop {
            let (_, before) = counters.read();
            let bytes = wire.fetch("t", 0).await.records.unwrap().len() as u64;
            assert!(bytes > LARGE_BYTES as u64);
            tokio::time::sleep(Duration::from_millis(5)).await;
            if counters.read().1 >= before + bytes {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), served_from_files)
        .await
        .unwrap();
    node.shutdown().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn records_that_are_only_on_the_disk_are_brought_in_and_sent() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &SMALL_SEGMENTS).await;
    let mut sent = Vec::new();
    for at in 0..30 {
        let value = format!("{at:05}").repeat(60_000);
        wire.produce("t", &[&value]).await;
        sent.push(value);
    }
    let mut total = 0;
    let mut from = 0;
    while from < 30 {
        // Every file of the partition leaves memory before every fetch, where the file system keeps them on a disk.
        for entry in std::fs::read_dir(dir.path().join("t-0")).unwrap() {
            let file = std::fs::File::open(entry.unwrap().path()).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
        let data = wire.fetch("t", from).await;
        let got = values(&data);
        assert!(got[..] == sent[from as usize..from as usize + got.len()]);
        from += got.len() as i64;
        total += data.records.unwrap().len() as u64;
    }
    counters.sent(total).await;
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn callers_in_the_process_and_disks_without_descriptors_get_bytes() {
    let counters = Counters::default();
    let _recorder = metrics::set_default_local_recorder(&counters);
    let disk = FakeDisk::new();
    let (node, address) = start_on(&disk, &[]).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &SMALL_SEGMENTS).await;
    for at in 0..30 {
        wire.produce_batch("t", large(&format!("{at} "))).await;
    }
    for from in [0, 15, 29] {
        let over_tcp = wire.fetch("t", from).await;
        let session = node.session(SessionInfo::default());
        let inside = session.call(12, fetch_request("t", from).into()).await.unwrap();
        let Some(ResponseBody::Fetch(inside)) = inside else {
            panic!("a fetch is answered")
        };
        assert!(over_tcp.records == inside.responses[0].partitions[0].records);
        assert!(values(&over_tcp)[0].starts_with(&format!("{from} ")));
    }
    assert_eq!(counters.read().1, 0);
    node.shutdown().await.unwrap();
}
