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
    let transport = TcpTransport::new(&config).expect("no files");
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

/// A broker that takes any password, gives sessions of `lifetime_ms`, answers heartbeats, and notes what it is asked.
async fn serve_sasl(mut stream: TcpStream, lifetime_ms: i64, asked: mpsc::Sender<ApiKey>) {
    use highwater_wire::messages::{
        ApiVersionsResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
        api_versions_response::ApiVersion,
    };
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(length).expect("positive")];
        stream.read_exact(&mut frame).await.expect("a frame");
        let header = RequestHeader::decode(&mut FrameReader::new(frame.into())).expect("a header");
        let api = ApiKey::from_i16(header.api_key).expect("known");
        let version = |api: ApiKey, max_version| ApiVersion {
            api_key: api.as_i16(),
            min_version: 0,
            max_version,
        };
        let body: ResponseBody = match api {
            ApiKey::ApiVersions => ApiVersionsResponse {
                api_keys: vec![
                    version(ApiKey::SaslHandshake, 1),
                    version(ApiKey::SaslAuthenticate, 2),
                ],
                ..Default::default()
            }
            .into(),
            ApiKey::SaslHandshake => SaslHandshakeResponse::default().into(),
            ApiKey::SaslAuthenticate => SaslAuthenticateResponse {
                session_lifetime_ms: lifetime_ms,
                ..Default::default()
            }
            .into(),
            _ => HeartbeatResponse::default().into(),
        };
        let answer = encode_response(api, header.api_version, header.correlation_id, &body).into_bytes();
        stream.write_all(&answer).await.expect("written");
        if asked.send(api).await.is_err() {
            return;
        }
    }
}

fn with_password(address: &str) -> ClientConfig {
    use crate::security::{Login, Secret, SecurityConfig};
    ClientConfig {
        security: SecurityConfig {
            tls: None,
            sasl: Some(SaslConfig::Plain(Login {
                username: "alice".to_owned(),
                password: Secret::new("alice-secret"),
            })),
        },
        ..ClientConfig::new([address])
    }
}

/// KIP-368: the session is renewed on the same connection, and no request comes between the messages of it.
#[tokio::test]
async fn a_session_is_renewed_before_it_ends_and_nothing_comes_between() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (asked, mut seen) = mpsc::channel(10_000);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        serve_sasl(stream, 150, asked).await;
    });
    let transport = TcpTransport::new(&with_password(&address)).expect("no files");
    let connection = transport.connect(&address).await.expect("accepted");
    let mut order = Vec::new();
    while order
        .iter()
        .filter(|api| **api == ApiKey::SaslAuthenticate)
        .count()
        < 3
    {
        // Several at once, so that some always wait for their turn.
        let calls = (0..8).map(|_| connection.call(3, heartbeat()));
        for answered in futures::future::join_all(calls).await {
            answered.expect("answered");
        }
        while let Ok(api) = seen.try_recv() {
            order.push(api);
        }
    }
    for (index, api) in order.iter().enumerate() {
        if *api == ApiKey::SaslHandshake {
            assert_eq!(order[index - 1], ApiKey::ApiVersions);
            assert_eq!(order[index + 1], ApiKey::SaslAuthenticate);
        }
    }
    assert!(order.contains(&ApiKey::Heartbeat));
}

/// A broker that has not accepted anybody yet gets no quarter gigabyte to fill.
#[tokio::test]
async fn before_authentication_only_short_answers_are_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        read_request(&mut stream).await;
        stream.write_i32(1 << 20).await.expect("written");
        let _ = stream.read_i32().await;
    });
    let transport = TcpTransport::new(&with_password(&address)).expect("no files");
    let error = transport
        .connect(&address)
        .await
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("allowed are 4 to 65536"), "{error}");
}

/// A password that is wrong now is wrong in a second, too: the operation ends, and the account is not locked.
#[tokio::test]
async fn refused_credentials_end_the_operation_at_the_first_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let attempts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = attempts.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let id = read_request(&mut stream).await;
            // It speaks no SASL.
            let body = highwater_wire::messages::ApiVersionsResponse::default().into();
            let answer = encode_response(ApiKey::ApiVersions, 3, id, &body).into_bytes();
            stream.write_all(&answer).await.expect("written");
        }
    });
    let error = crate::Client::connect(with_password(&address))
        .await
        .expect_err("refused");
    assert!(!error.is_retriable(), "{error}");
    assert!(error.to_string().contains("does not speak SASL"), "{error}");
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_listener_that_wants_tls_or_sasl_is_recognised() {
    let (connection, mut stream) = connected().await;
    let broker = async {
        read_request(&mut stream).await;
        // An alert of TLS.
        stream
            .write_all(&[0x15, 3, 3, 0, 2, 2, 50])
            .await
            .expect("written");
    };
    let (answered, ()) = tokio::join!(connection.call(3, heartbeat()), broker);
    let error = answered.expect_err("refused").to_string();
    assert!(error.contains("answers in TLS; set security.protocol"), "{error}");

    let (connection, mut stream) = connected().await;
    let broker = async {
        read_request(&mut stream).await;
        drop(stream);
    };
    let (answered, ()) = tokio::join!(connection.call(3, heartbeat()), broker);
    let error = answered.expect_err("refused").to_string();
    assert!(error.contains("TLS or SASL (security.protocol)"), "{error}");
}
