//! Incremental fetch sessions over the wire (KIP-227).

use std::time::{Duration, Instant};

use highwater_types::Uuid;
use highwater_wire::ErrorCode;
use highwater_wire::messages::fetch_request::ForgottenTopic;
use highwater_wire::messages::{FetchRequest, FetchResponse};

use crate::support::{Wire, batch, fetch_all, produce_request, start, start_with};

/// A request that begins a session.
fn begin(parts: &[(&str, i32, i64)]) -> FetchRequest {
    FetchRequest {
        session_epoch: 0,
        ..fetch_all(parts)
    }
}

/// A request that goes on with one.
fn go_on(session_id: i32, session_epoch: i32, parts: &[(&str, i32, i64)]) -> FetchRequest {
    FetchRequest {
        session_id,
        session_epoch,
        ..fetch_all(parts)
    }
}

/// Topic, partition and whether there are records, of each partition in the answer.
fn answered(response: &FetchResponse) -> Vec<(String, i32, bool)> {
    let rows = response.responses.iter().flat_map(|topic| {
        let row = |data: &highwater_wire::messages::fetch_response::PartitionData| {
            let has_records = !data.records.as_ref().unwrap().is_empty();
            (topic.topic.to_string(), data.partition_index, has_records)
        };
        topic.partitions.iter().map(row)
    });
    rows.collect()
}

async fn produce_to(wire: &mut Wire, topic: &str, partition: i32) {
    let mut request = produce_request(topic, batch(&["x"]), -1);
    request.topic_data[0].partition_data[0].index = partition;
    let response = wire.call(9, request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_48_a_session_answers_what_changed_and_forgets_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 3, &[]).await;
    let first = wire
        .call(12, begin(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)]))
        .await;
    assert!(first.session_id > 0);
    assert_eq!(answered(&first).len(), 3, "everything is news");
    let id = first.session_id;

    // Nothing happened: nothing is answered, and the id stays.
    let idle = wire.call(12, go_on(id, 1, &[])).await;
    assert_eq!(
        (idle.error_code, idle.session_id, answered(&idle).len()),
        (0, id, 0)
    );

    produce_to(&mut wire, "t", 1).await;
    let some = wire.call(12, go_on(id, 2, &[])).await;
    assert_eq!(answered(&some), [("t".to_owned(), 1, true)]);
    // The position moves on, which the request says.
    let moved = wire.call(12, go_on(id, 3, &[("t", 1, 1)])).await;
    assert_eq!(answered(&moved), []);

    produce_to(&mut wire, "t", 0).await;
    produce_to(&mut wire, "t", 2).await;
    let forgotten = ForgottenTopic {
        topic: "t".into(),
        partitions: vec![0, 77],
        ..Default::default()
    };
    let mut without_zero = go_on(id, 4, &[]);
    without_zero.forgotten_topics_data = vec![forgotten];
    assert_eq!(
        answered(&wire.call(12, without_zero).await),
        [("t".to_owned(), 2, true)]
    );

    // The last partitions go, and the session with them.
    let mut last = go_on(id, 5, &[]);
    last.forgotten_topics_data = vec![ForgottenTopic {
        topic: "t".into(),
        partitions: vec![1, 2],
        ..Default::default()
    }];
    assert_eq!(wire.call(12, last).await.session_id, 0);
    let gone = wire.call(12, go_on(id, 6, &[])).await;
    assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_48_hostile_62_63_wrong_ids_epochs_and_kinds_of_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let topic_id = wire.create("t", 1, &[]).await;
    let id = wire.call(12, begin(&[("t", 0, 0)])).await.session_id;
    let code = async |wire: &mut Wire, version: i16, request: FetchRequest| {
        wire.call(version, request).await.error_code
    };
    for (session_id, epoch) in [(id, 7), (id, 0x7fff_ffff), (id, 2)] {
        let refused = code(&mut wire, 12, go_on(session_id, epoch, &[])).await;
        assert_eq!(refused, ErrorCode::InvalidFetchSessionEpoch.code(), "{epoch}");
    }
    for session_id in [0, -1, 1, i32::MAX, i32::MIN] {
        let refused = code(&mut wire, 12, go_on(session_id, 1, &[])).await;
        assert_eq!(refused, ErrorCode::FetchSessionIdNotFound.code(), "{session_id}");
    }
    let refused = code(&mut wire, 13, go_on(id, 1, &[])).await;
    assert_eq!(refused, ErrorCode::FetchSessionTopicIdError.code());
    assert_eq!(
        code(&mut wire, 12, go_on(id, 1, &[])).await,
        0,
        "refusals change nothing"
    );

    // With ids, and an id that nobody has: told every time, until it is forgotten.
    let unknown = Uuid::new_v4();
    let mut with_ids = begin(&[("", 0, 0), ("-", 0, 0)]);
    with_ids.topics[0].topic_id = topic_id;
    with_ids.topics[1].topic_id = unknown;
    let first = wire.call(17, with_ids).await;
    assert!(first.session_id > 0 && first.session_id != id);
    assert_eq!(first.responses[0].topic_id, topic_id);
    let next = wire.call(17, go_on(first.session_id, 1, &[])).await;
    assert_eq!(next.responses.len(), 1);
    assert_eq!(next.responses[0].topic_id, unknown);
    assert_eq!(
        next.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicId.code()
    );

    // A full fetch with the session's id ends it; the final epoch does not begin another.
    let full = FetchRequest {
        session_id: id,
        session_epoch: -1,
        ..fetch_all(&[("t", 0, 0)])
    };
    assert_eq!(wire.call(12, full).await.session_id, 0);
    let refused = code(&mut wire, 12, go_on(id, 2, &[])).await;
    assert_eq!(refused, ErrorCode::FetchSessionIdNotFound.code());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_46_48_a_session_waits_for_any_of_its_partitions_and_ends_with_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let (mut reader, mut writer) = (Wire::connect(address).await, Wire::connect(address).await);
    reader.create("t", 2, &[]).await;
    let id = reader
        .call(12, begin(&[("t", 0, 0), ("t", 1, 0)]))
        .await
        .session_id;
    let waiting = FetchRequest {
        max_wait_ms: 10_000,
        ..go_on(id, 1, &[])
    };
    let began = Instant::now();
    reader.send(12, waiting).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    produce_to(&mut writer, "t", 1).await;
    let highwater_wire::ResponseBody::Fetch(woken) = reader.receive().await else {
        panic!("a fetch is answered")
    };
    assert_eq!(answered(&woken), [("t".to_owned(), 1, true)]);
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(reader);
    // Whoever comes later finds nothing of it.
    let ended = async {
        while writer.call(12, go_on(id, 99, &[])).await.error_code != ErrorCode::FetchSessionIdNotFound.code()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_49_in_a_session_nobody_starves_behind_a_partition_that_always_has_data() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 3, &[]).await;
    for partition in 0..3 {
        produce_to(&mut wire, "t", partition).await;
    }
    // One byte of limit: one batch, of one partition, each time.
    let small = |mut request: FetchRequest| {
        request.max_bytes = 1;
        request
    };
    let first = wire
        .call(12, small(begin(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)])))
        .await;
    let mut served: Vec<i32> = Vec::new();
    let full = |response: &FetchResponse| {
        let rows = answered(response).into_iter();
        rows.filter(|row| row.2).map(|row| row.1).collect::<Vec<_>>()
    };
    served.extend(full(&first));
    for epoch in 1..6 {
        let response = wire.call(12, small(go_on(first.session_id, epoch, &[]))).await;
        served.extend(full(&response));
    }
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_slots_every_answer_has_session_id_0() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("max.incremental.fetch.session.cache.slots", "0")];
    let (node, address) = start_with(dir.path(), Default::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let response = wire.call(12, begin(&[("t", 0, 0)])).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    assert_eq!(answered(&response).len(), 1);
    node.shutdown().await.unwrap();
}
