//! Connections over TLS, with and without certificates of clients.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use highwater_broker::{Limits, Node, NodeConfig, NodeError, SecurityProtocol};
use highwater_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use highwater_wire::messages::{AlterClientQuotasRequest, ApiVersionsRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::certificates::{Authority, Client, Validity, write};
use super::client::{PASSWORD, USER, start as start_with_logins};
use crate::support::{Wire, batch, fetch_request, produce_request};

/// A node with an SSL listener, its certificate and key in one file.
async fn start(dir: &Path, authority: &Authority, properties: &[(&str, &str)]) -> (Node, SocketAddr) {
    let shown = authority.issue("node", Validity::Now);
    let chain = write(dir, "node.pem", &format!("{}{}", shown.chain, shown.key));
    let trusted = write(dir, "authorities.pem", &authority.pem());
    let mut config = NodeConfig::new(dir.join("data"))
        .listen_with(SecurityProtocol::Ssl, "127.0.0.1:0".parse().unwrap())
        .property("ssl.keystore.location", chain.display().to_string())
        .property("ssl.truststore.location", trusted.display().to_string());
    for (name, value) in properties {
        config = config.property(*name, *value);
    }
    config.limits = Limits {
        slow_frame_timeout: Duration::from_millis(500),
        ..Limits::default()
    };
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr("SSL").unwrap();
    (node, address)
}

/// Whether the node serves such a client.
async fn is_served(client: &Client, address: SocketAddr) -> bool {
    let Ok(mut wire) = client.connect(address).await else {
        return false;
    };
    // In TLS 1.3 a client learns only later that its certificate was refused.
    let header = highwater_wire::RequestHeader::new(highwater_wire::ApiKey::ApiVersions, 0, 1, None);
    let request = highwater_wire::encode_request(&header, &ApiVersionsRequest::default().into());
    wire.stream.write_all(&request.into_bytes()).await.is_ok()
        && wire.stream.flush().await.is_ok()
        && wire.read_frame().await.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_both_ways_over_tls_large_ones_from_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (node, address) = start(dir.path(), &authority, &[]).await;
    let mut wire = authority.client(None).connect(address).await.unwrap();
    wire.create("t", 1, &[("segment.bytes", "1048576")]).await;
    let records = batch(&[&"x".repeat(700_000)]);
    for _ in 0..4 {
        let answer = wire.call(9, produce_request("t", records.clone(), -1)).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    for from in 0..4 {
        let mut request = fetch_request("t", from);
        request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
        let answer = wire.call(12, request).await;
        let fetched = answer.responses[0].partitions[0].records.as_ref().unwrap();
        assert_eq!(fetched.len(), records.len());
    }
    // Pipelined requests are answered in order, whatever fits into one record of TLS.
    for _ in 0..100 {
        wire.send(0, ApiVersionsRequest::default()).await;
    }
    for _ in 0..100 {
        wire.receive().await;
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_08_plaintext_on_a_tls_port_and_the_reverse_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (node, address) = start(dir.path(), &authority, &[]).await;
    let mut plain = Wire::connect(address).await;
    plain.send(0, ApiVersionsRequest::default()).await;
    assert!(plain.is_closed_by_node().await);
    assert!(is_served(&authority.client(None), address).await);
    node.shutdown().await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let (node, address) = crate::support::start(other.path()).await;
    assert!(authority.client(None).connect(address).await.is_err());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_10_a_handshake_that_stalls_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (node, address) = start(dir.path(), &authority, &[]).await;
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stalled = Wire::over(TcpStream::connect(address).await.unwrap());
        stalled.stream.write_all(begin).await.unwrap();
        assert!(stalled.is_closed_by_node().await);
    }
    assert!(is_served(&authority.client(None), address).await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_client_names_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (node, address) = start(dir.path(), &authority, &[("ssl.client.auth", "required")]).await;
    let connect = |name: &'static str| {
        let client = authority.client(Some(&authority.issue(name, Validity::Now)));
        async move { client.connect(address).await.unwrap() }
    };
    let mut alice = connect("alice").await;
    alice.create("t", 1, &[]).await;
    let entry = EntryData {
        entity: vec![EntityData {
            entity_type: "user".into(),
            entity_name: Some("CN=alice,O=Example".into()),
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
    assert_eq!(alice.call(1, request).await.entries[0].error_code, 0);
    let records = || batch(&["a much longer value than ten bytes a second allow"; 20]);
    let of_alice = alice.call(9, produce_request("t", records(), -1)).await;
    assert!(of_alice.throttle_time_ms > 0);
    let of_bob = connect("bob")
        .await
        .call(9, produce_request("t", records(), -1))
        .await;
    assert_eq!(of_bob.throttle_time_ms, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_92_certificates_that_are_missing_foreign_expired_early_or_too_many_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    let (node, address) = start(dir.path(), &authority, &[("ssl.client.auth", "required")]).await;
    assert!(!is_served(&authority.client(None), address).await);
    let is_good = async |issuer: &Authority, validity| {
        let shown = issuer.issue("alice", validity);
        is_served(&authority.client(Some(&shown)), address).await
    };
    assert!(is_good(&authority, Validity::Now).await);
    assert!(!is_good(&foreign, Validity::Now).await);
    assert!(!is_good(&authority, Validity::Past).await);
    assert!(!is_good(&authority, Validity::Future).await);
    // A chain of a megabyte, its first certificate good.
    let mut shown = authority.issue("alice", Validity::Now);
    shown.chain = shown.chain.repeat(2_500);
    assert!(!is_served(&authority.client(Some(&shown)), address).await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_only_requested_may_be_missing_but_not_bad() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    let (node, address) = start(dir.path(), &authority, &[("ssl.client.auth", "requested")]).await;
    assert!(is_served(&authority.client(None), address).await);
    let bad = foreign.issue("alice", Validity::Now);
    assert!(!is_served(&authority.client(Some(&bad)), address).await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_log_in_under_tls() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let shown = authority.issue("node", Validity::Now);
    let chain = write(dir.path(), "node.pem", &shown.chain).display().to_string();
    let key = write(dir.path(), "key.pem", &shown.key).display().to_string();
    let properties = [
        ("ssl.keystore.location", chain.as_str()),
        ("highwater.ssl.key.location", key.as_str()),
        // Of SSL listeners only.
        ("ssl.client.auth", "required"),
    ];
    let (node, address) = start_with_logins(dir.path(), SecurityProtocol::SaslSsl, &properties).await;
    let mut wire = authority.client(None).connect(address).await.unwrap();
    assert_eq!(wire.log_in(USER, PASSWORD).await.error_code, 0);
    wire.create("t", 1, &[]).await;
    let mut wrong = authority.client(None).connect(address).await.unwrap();
    assert_ne!(wrong.log_in(USER, "wrong").await.error_code, 0);
    assert!(wrong.read_frame().await.is_none());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_with_less_protection_than_it_was_asked_to_have() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (one, other) = (
        authority.issue("a", Validity::Now),
        authority.issue("b", Validity::Now),
    );
    let only_chain = write(dir.path(), "chain.pem", &one.chain).display().to_string();
    let mixed = write(dir.path(), "mixed.pem", &format!("{}{}", one.chain, other.key))
        .display()
        .to_string();
    let good = write(dir.path(), "good.pem", &format!("{}{}", one.chain, one.key))
        .display()
        .to_string();
    let refused = async |protocol, properties: &[(&str, &str)], expected: &str| {
        let mut config =
            NodeConfig::new(dir.path().join("data")).listen_with(protocol, "127.0.0.1:0".parse().unwrap());
        for (name, value) in properties {
            config = config.property(*name, *value);
        }
        let error = match Node::start(config).await {
            Ok(_) => panic!("the node started without {expected}"),
            Err(error) => error,
        };
        assert!(matches!(error, NodeError::Security(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let keystore = "ssl.keystore.location";
    refused(SecurityProtocol::Ssl, &[], keystore).await;
    refused(
        SecurityProtocol::Ssl,
        &[(keystore, "/nowhere.pem")],
        "cannot be read",
    )
    .await;
    refused(
        SecurityProtocol::Ssl,
        &[(keystore, &only_chain)],
        "no private key",
    )
    .await;
    refused(SecurityProtocol::Ssl, &[(keystore, &mixed)], "cannot be used").await;
    let demanding = [(keystore, good.as_str()), ("ssl.client.auth", "required")];
    refused(SecurityProtocol::Ssl, &demanding, "ssl.truststore.location").await;
    let plain = [("sasl.enabled.mechanisms", "PLAIN")];
    refused(
        SecurityProtocol::SaslPlaintext,
        &plain,
        "highwater.sasl.users.file",
    )
    .await;
    let bearer = [("sasl.enabled.mechanisms", "OAUTHBEARER")];
    refused(
        SecurityProtocol::SaslPlaintext,
        &bearer,
        "sasl.oauthbearer.jwks.endpoint.url",
    )
    .await;
    refused(
        SecurityProtocol::SaslPlaintext,
        &[("sasl.enabled.mechanisms", "")],
        "sasl.enabled.mechanisms",
    )
    .await;
}
