//! The TCP connection against sockets that behave and sockets that do not.

use highwater_wire::{
    FrameReader, encode_response,
    messages::{HeartbeatRequest, HeartbeatResponse},
};
use tokio::net::TcpListener;

use super::*;

/// Reads one request; gives its correlation id.
async fn read_request(stream: &mut TcpStream) -> i32 {
    let length = stream.read_i32().await.expect("a length");
    let mut frame = vec![0; usize::try_from(length).expect("positive")];
    stream.read_exact(&mut frame).await.expect("a frame");
    RequestHeader::decode(&mut FrameReader::new(frame.into()))
        .expect("a header")
        .correlation_id
}

fn answer(correlation_id: i32, throttle_time_ms: i32) -> Bytes {
    let body = HeartbeatResponse {
        throttle_time_ms,
        ..Default::default()
    };
    encode_response(ApiKey::Heartbeat, 3, correlation_id, &body.into()).into_bytes()
}

/// A connection and the broker's end of it.
async fn connected() -> (Arc<dyn Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let config = ClientConfig {
        max_response_bytes: 1000,
        ..ClientConfig::new([address.clone()])
    };
    let transport = TcpTransport::new(&config);
    let (connection, accepted) = tokio::join!(transport.connect(&address), listener.accept());
    (connection.expect("connects"), accepted.expect("accepts").0)
}

fn heartbeat() -> RequestBody {
    HeartbeatRequest::default().into()
}

fn throttle_ms(answer: Result<ResponseBody, TransportError>) -> i32 {
    match answer {
        Ok(ResponseBody::Heartbeat(response)) => response.throttle_time_ms,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_matched_in_order() {
    let (connection, mut stream) = connected().await;
    let broker = async {
        let (first, second) = (read_request(&mut stream).await, read_request(&mut stream).await);
        let answers = [answer(first, 1), answer(second, 2)].concat();
        // In two pieces that split a frame.
        stream.write_all(&answers[..7]).await.expect("written");
        tokio::task::yield_now().await;
        stream.write_all(&answers[7..]).await.expect("written");
    };
    let (first, second, ()) = tokio::join!(
        connection.call(3, heartbeat()),
        connection.call(3, heartbeat()),
        broker
    );
    assert_eq!((throttle_ms(first), throttle_ms(second)), (1, 2));
}

#[tokio::test]
async fn an_answer_out_of_turn_ends_the_connection() {
    let (connection, mut stream) = connected().await;
    let broker = async {
        let correlation_id = read_request(&mut stream).await;
        stream
            .write_all(&answer(correlation_id + 1, 0))
            .await
            .expect("written");
    };
    let (answered, ()) = tokio::join!(connection.call(3, heartbeat()), broker);
    assert!(
        matches!(answered, Err(TransportError::Closed { .. })),
        "{answered:?}"
    );
    assert!(connection.is_closed());
}

/// Lesson of CVE-2026-10142: a broker's length is not to be believed.
#[tokio::test]
async fn frames_of_impossible_length_end_the_connection_before_memory_is_reserved() {
    for length in [-1, 0, 3, 1001, i32::MAX] {
        let (connection, mut stream) = connected().await;
        let broker = async {
            read_request(&mut stream).await;
            stream.write_i32(length).await.expect("written");
        };
        let (answered, ()) = tokio::join!(connection.call(3, heartbeat()), broker);
        let error = answered.expect_err("refused").to_string();
        assert!(error.contains(&format!("frame of {length} bytes")), "{error}");
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_fails_every_waiting_call() {
    let (connection, mut stream) = connected().await;
    let broker = async {
        read_request(&mut stream).await;
        drop(stream);
    };
    let (first, second, ()) = tokio::join!(
        connection.call(3, heartbeat()),
        connection.call(3, heartbeat()),
        broker
    );
    assert!(first.is_err() && second.is_err());
    assert!(
        connection.call(3, heartbeat()).await.is_err(),
        "later calls fail at once"
    );
}

#[tokio::test]
async fn an_abandoned_call_does_not_disturb_the_next_one() {
    let (connection, mut stream) = connected().await;
    let abandoned = tokio::time::timeout(Duration::from_millis(20), connection.call(3, heartbeat())).await;
    assert!(abandoned.is_err());
    let broker = async {
        let (first, second) = (read_request(&mut stream).await, read_request(&mut stream).await);
        stream
            .write_all(&[answer(first, 1), answer(second, 2)].concat())
            .await
            .expect("written");
    };
    let (answered, ()) = tokio::join!(connection.call(3, heartbeat()), broker);
    assert_eq!(throttle_ms(answered), 2);
}

/// Semantic 1: whatever version was asked, the refusal comes in version 0.
#[test]
fn a_refusal_of_the_api_versions_version_is_read_in_version_0() {
    let body = highwater_wire::messages::ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        ..Default::default()
    };
    let frame = encode_response(ApiKey::ApiVersions, 0, 5, &body.clone().into()).into_bytes();
    let decoded = decode_answer(ApiKey::ApiVersions, 3, frame.slice(4..)).expect("reads");
    assert_eq!(decoded, body.into());
}
