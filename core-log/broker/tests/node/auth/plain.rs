//! The gate of a connection, with the simplest mechanism.

use highwater_broker::{Limits, Node, NodeConfig, SecurityProtocol, SessionInfo};
use highwater_wire::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FetchRequest, FindCoordinatorRequest, MetadataRequest,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use highwater_wire::{ApiKey, ErrorCode, RequestBody, RequestHeader, ResponseBody, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{PASSWORD, USER, start};
use crate::support::{Wire, fetch_request, produce_request};

const SASL: SecurityProtocol = SecurityProtocol::SaslPlaintext;

#[tokio::test(flavor = "multi_thread")]
async fn semantic_04_11_api_versions_come_before_and_after_a_login_and_everything_else_after() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let mut wire = Wire::connect(address).await;
    wire.send_unknown_api_versions().await;
    let ResponseBody::ApiVersions(unknown) = wire.receive().await else {
        panic!("an answer to ApiVersions")
    };
    assert_eq!(unknown.error_code, ErrorCode::UnsupportedVersion.code());
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let before = wire.call(3, request.clone()).await;
    let range = |key| {
        before
            .api_keys
            .iter()
            .find(|api| api.api_key == key)
            .map(|api| (api.min_version, api.max_version))
    };
    assert_eq!((range(17), range(36)), (Some((0, 1)), Some((0, 2))));
    let answer = wire.log_in(USER, PASSWORD).await;
    assert_eq!((answer.error_code, answer.session_lifetime_ms), (0, 0));
    assert_eq!(answer.auth_bytes.len(), 0);
    assert_eq!(wire.call(3, request).await.api_keys, before.api_keys);
    wire.create("t", 1, &[]).await;
    assert_eq!(wire.produce("t", &["a"]).await.error_code, 0);
    assert_eq!(wire.fetch("t", 0).await.error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_11_an_unknown_mechanism_is_refused_with_the_list_of_those_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(
        dir.path(),
        SASL,
        &[("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-512")],
    )
    .await;
    for mechanism in ["GSSAPI", "SCRAM-SHA-256", "plain", ""] {
        let mut wire = Wire::connect(address).await;
        let answer = wire.handshake(mechanism).await;
        assert_eq!(answer.error_code, ErrorCode::UnsupportedSaslMechanism.code());
        assert_eq!(answer.mechanisms, ["PLAIN", "SCRAM-SHA-512"]);
        assert!(wire.is_closed_by_node().await);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_11_a_handshake_of_version_0_is_followed_by_bare_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let mut wire = Wire::connect(address).await;
    let request = SaslHandshakeRequest {
        mechanism: "PLAIN".into(),
    };
    assert_eq!(wire.call(0, request.clone()).await.error_code, 0);
    let token = format!("\0{USER}\0{PASSWORD}");
    wire.stream.write_i32(token.len() as i32).await.unwrap();
    wire.stream.write_all(token.as_bytes()).await.unwrap();
    assert_eq!(wire.stream.read_i32().await.unwrap(), 0);
    wire.create("t", 1, &[]).await;
    let mut wrong = Wire::connect(address).await;
    wrong.call(0, request).await;
    wrong.stream.write_all(b"\0\0\0\x04\0a\0b").await.unwrap();
    assert!(wrong.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_11_a_listener_without_logins_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = crate::support::start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let illegal = ErrorCode::IllegalSaslState.code();
    assert_eq!(wire.handshake("PLAIN").await.error_code, illegal);
    assert_eq!(wire.token("\0a\0b").await.error_code, illegal);
    wire.create("t", 1, &[]).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_21_nothing_is_served_before_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let requests: Vec<(i16, RequestBody)> = vec![
        (12, MetadataRequest::default().into()),
        (9, produce_request("t", "x".into(), -1).into()),
        (12, fetch_request("t", 0).into()),
        (4, FetchRequest::default().into()),
        (1, FindCoordinatorRequest::default().into()),
        (1, DescribeClusterRequest::default().into()),
    ];
    for (version, request) in requests {
        let mut first = Wire::connect(address).await;
        first.send(version, request.clone()).await;
        assert!(first.is_closed_by_node().await, "{:?}", request.api_key());
        let mut between = Wire::connect(address).await;
        between.handshake("SCRAM-SHA-256").await;
        between.send(version, request).await;
        assert!(between.read_frame().await.is_none());
    }
    // What is pipelined behind a login that fails is not served either.
    let mut pipelined = Wire::connect(address).await;
    pipelined.handshake("PLAIN").await;
    let token = "\0tim\0wrong".into();
    pipelined
        .send(2, SaslAuthenticateRequest { auth_bytes: token })
        .await;
    pipelined.send(12, MetadataRequest::default()).await;
    pipelined.receive().await;
    assert!(pipelined.read_frame().await.is_none());
    // A token without a handshake.
    let mut early = Wire::connect(address).await;
    assert_eq!(
        early.token("\0tim\0pencil").await.error_code,
        ErrorCode::IllegalSaslState.code()
    );
    assert!(early.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_21_frames_before_a_login_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[("sasl.server.max.receive.size", "1024")]).await;
    let claim = |length: i32, key: i16, version: i16| {
        [
            &length.to_be_bytes()[..],
            &key.to_be_bytes(),
            &version.to_be_bytes(),
        ]
        .concat()
    };
    for start in [
        claim(1025, 36, 2),
        claim(1025, 18, 3),
        claim(1025, 17, 1),
        claim(1_000_000, 0, 9),
    ] {
        let mut wire = Wire::connect(address).await;
        wire.stream.write_all(&start).await.unwrap();
        assert!(wire.is_closed_by_node().await);
    }
    let mut wire = Wire::connect(address).await;
    wire.handshake("PLAIN").await;
    let token = format!("\0tim\0{}", "x".repeat(900));
    assert_eq!(
        wire.token(token).await.error_code,
        ErrorCode::SaslAuthenticationFailed.code()
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_04_who_does_not_log_in_is_closed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users.toml");
    std::fs::write(&users, "").unwrap();
    let mut config = NodeConfig::new(dir.path().join("data"))
        .listen_with(SASL, "127.0.0.1:0".parse().unwrap())
        .property("highwater.sasl.users.file", users.display().to_string())
        .property("sasl.enabled.mechanisms", "PLAIN");
    config.limits = Limits {
        slow_frame_timeout: std::time::Duration::from_millis(100),
        ..Limits::default()
    };
    let node = highwater_broker::Node::start(config).await.unwrap();
    let address = node.listener_addr(SASL.name()).unwrap();
    let mut silent = Wire::connect(address).await;
    let mut chatty = Wire::connect(address).await;
    assert!(silent.is_closed_by_node().await);
    // ApiVersions buys no time, however many of them lie ready.
    let mut flood = Vec::new();
    for id in 0..1_000_i32 {
        let header = RequestHeader::new(ApiKey::ApiVersions, 0, id, None);
        flood.extend(encode_request(&header, &ApiVersionsRequest::default().into()).into_bytes());
    }
    let (mut answers, mut requests) = chatty.stream.split();
    let reading = async {
        let mut buffer = vec![0; 1 << 16];
        while answers.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    };
    let writing = async { while requests.write_all(&flood).await.is_ok() {} };
    // Either notices the end of the connection.
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_90_93_a_wrong_password_and_an_unknown_user_are_told_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let mut told = Vec::new();
    for token in [
        "\0tim\0wrong",
        "\0nobody\0pencil",
        "\0tim\0",
        "\0tim\0pencil\0",
        "tim\0pencil",
        "",
    ] {
        let mut wire = Wire::connect(address).await;
        wire.handshake("PLAIN").await;
        let answer = wire.token(token).await;
        assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
        told.push(answer.error_message.unwrap());
        assert!(wire.is_closed_by_node().await);
    }
    told.dedup();
    assert_eq!(told, ["Authentication failed: invalid credentials"]);
    let mut foreign = Wire::connect(address).await;
    foreign.handshake("PLAIN").await;
    let answer = foreign.token("root\0tim\0pencil").await;
    assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_94_guessing_gets_slow_and_then_nobody_listens_but_who_is_logged_in_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let mut honest = Wire::connect(address).await;
    honest.log_in(USER, PASSWORD).await;
    let began = std::time::Instant::now();
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..50 {
        guesses.spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.log_in(USER, "wrong").await.error_code
        });
    }
    while let Some(code) = guesses.join_next().await {
        assert_eq!(code.unwrap(), ErrorCode::SaslAuthenticationFailed.code());
    }
    // Each guess costs the address a tenth of a second, on however many connections; three seconds are free, and those
    // that are looked at in the same moment see each other's cost too late. A lower bound, which no slow machine breaks.
    assert!(began.elapsed() >= std::time::Duration::from_millis(1_500));
    honest.create("t", 1, &[]).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_95_a_connection_keeps_its_user_and_its_mechanism() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[("connections.max.reauth.ms", "60000")]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.log_in(USER, PASSWORD).await.session_lifetime_ms, 60_000);
    // Too early, and of another mechanism: both leave the login as it is.
    let illegal = ErrorCode::IllegalSaslState.code();
    assert_eq!(wire.handshake("PLAIN").await.error_code, illegal);
    assert_eq!(wire.token("\0tom\0secret").await.error_code, illegal);
    tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
    assert_eq!(wire.handshake("SCRAM-SHA-512").await.error_code, illegal);
    wire.create("t", 1, &[]).await;
    // The same user again, with requests before and after.
    assert_eq!(wire.log_in(USER, PASSWORD).await.error_code, 0);
    assert_eq!(wire.produce("t", &["a"]).await.error_code, 0);
    tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
    let other = wire.log_in("tom", "secret").await;
    assert_eq!(other.error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(wire.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_11_a_login_that_was_not_renewed_ends_with_the_next_request() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[("connections.max.reauth.ms", "1200")]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.log_in(USER, PASSWORD).await.session_lifetime_ms, 1_200);
    wire.create("t", 1, &[]).await;
    let mut renewed = Wire::connect(address).await;
    renewed.log_in(USER, PASSWORD).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_300)).await;
    // Late, but it is the login that is late, not a request.
    assert_eq!(renewed.log_in(USER, PASSWORD).await.error_code, 0);
    assert_eq!(renewed.produce("t", &["a"]).await.error_code, 0);
    wire.send(12, MetadataRequest::default()).await;
    assert!(wire.read_frame().await.is_none());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_a_user_count_for_whoever_logged_in_as_that_user() {
    use highwater_wire::messages::AlterClientQuotasRequest;
    use highwater_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};

    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SASL, &[]).await;
    let mut tim = Wire::connect(address).await;
    tim.log_in(USER, PASSWORD).await;
    tim.create("t", 1, &[]).await;
    let entry = EntryData {
        entity: vec![EntityData {
            entity_type: "user".into(),
            entity_name: Some(USER.into()),
        }],
        ops: vec![OpData {
            key: "producer_byte_rate".into(),
            value: 10.0,
            remove: false,
        }],
    };
    let request = AlterClientQuotasRequest {
        entries: vec![entry],
        ..Default::default()
    };
    assert_eq!(tim.call(1, request).await.entries[0].error_code, 0);
    let mut tom = Wire::connect(address).await;
    tom.log_in("tom", "secret").await;
    let records = || crate::support::batch(&["a much longer value than ten bytes a second allow"; 20]);
    let of_tom = tom.call(9, produce_request("t", records(), -1)).await;
    assert_eq!(of_tom.throttle_time_ms, 0);
    let of_tim = tim.call(9, produce_request("t", records(), -1)).await;
    assert!(of_tim.throttle_time_ms > 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_the_process_need_no_login() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = start(dir.path(), SASL, &[]).await;
    let session = node.session(SessionInfo::default());
    let answer = session.call(12, MetadataRequest::default().into()).await.unwrap();
    assert!(matches!(answer, Some(ResponseBody::Metadata(_))));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_can_read_why_before_the_connection_ends() {
    let dir = tempfile::tempdir().unwrap();
    // The answer comes after this time, the end after twice as much.
    let delay = [("connection.failed.authentication.delay.ms", "3000")];
    let (node, address) = start(dir.path(), SecurityProtocol::SaslPlaintext, &delay).await;
    let mut wire = Wire::connect(address).await;
    let refused = wire.log_in(USER, "wrong").await;
    assert_eq!(refused.error_code, ErrorCode::SaslAuthenticationFailed.code());
    assert!(!wire.is_closed_by_node().await, "the end came with the answer");
    // What else the client may have sent is not looked at, and a client that leaves is not waited for.
    wire.stream.write_all(&[0; 64 * 1024]).await.unwrap();
    wire.stream.shutdown().await.unwrap();
    assert!(wire.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_has_mechanisms_and_users_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let users = |name: &str, user: &str| {
        let path = dir.path().join(name);
        std::fs::write(
            &path,
            format!("[[user]]\nname = \"{user}\"\npassword = \"{PASSWORD}\"\n"),
        )
        .unwrap();
        path.display().to_string()
    };
    let mut config = NodeConfig::new(dir.path().join("data"))
        .property("connection.failed.authentication.delay.ms", "0")
        .property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
        .property("highwater.sasl.users.file", users("inside.toml", "ina"))
        .property("listener.name.outside.sasl.enabled.mechanisms", "PLAIN")
        .property(
            "listener.name.outside.highwater.sasl.users.file",
            users("outside.toml", "otto"),
        );
    for name in ["INSIDE", "OUTSIDE"] {
        config = config.listen(name, "127.0.0.1:0".parse().unwrap());
    }
    for listener in &mut config.listeners {
        listener.protocol = SASL;
    }
    let node = Node::start(config.clone()).await.unwrap();
    let connect = async |name| Wire::connect(node.listener_addr(name).unwrap()).await;
    assert_eq!(
        connect("OUTSIDE").await.log_in("otto", PASSWORD).await.error_code,
        0
    );
    assert_ne!(
        connect("OUTSIDE").await.log_in("ina", PASSWORD).await.error_code,
        0
    );
    let unsupported = connect("INSIDE").await.handshake("PLAIN").await;
    assert_eq!(unsupported.error_code, ErrorCode::UnsupportedSaslMechanism.code());
    assert_eq!(unsupported.mechanisms, ["SCRAM-SHA-512"]);
    assert_eq!(
        connect("INSIDE")
            .await
            .handshake("SCRAM-SHA-512")
            .await
            .error_code,
        0
    );
    node.shutdown().await.unwrap();

    let elsewhere = config.property("listener.name.nowhere.sasl.enabled.mechanisms", "PLAIN");
    let refused = Node::start(elsewhere).await.unwrap_err().to_string();
    assert!(
        refused.contains("listener.name.nowhere") && refused.contains("inside, outside"),
        "{refused}"
    );
}
