//! A defect in a handler, which no request of an honest build can provoke.

use highwater_wire::messages::ApiVersionsRequest;
use highwater_wire::{ApiKey, RequestHeader, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Node, NodeConfig};

/// Sends ApiVersions; gives the length of the answer, or `None` when the connection ends without one.
async fn answer_length(stream: &mut TcpStream, client_id: &'static str) -> Option<i32> {
    let header = RequestHeader::new(ApiKey::ApiVersions, 0, 1, Some(client_id.into()));
    let request = encode_request(&header, &ApiVersionsRequest::default().into());
    stream.write_all(&request.into_bytes()).await.ok()?;
    let length = stream.read_i32().await.ok()?;
    let mut rest = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut rest).await.ok()?;
    Some(length)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_handler_ends_its_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig::new(dir.path()).listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr("PLAINTEXT").unwrap();
    let mut good = TcpStream::connect(address).await.unwrap();
    assert!(answer_length(&mut good, "good").await.is_some());
    for _ in 0..3 {
        let mut bad = TcpStream::connect(address).await.unwrap();
        assert_eq!(answer_length(&mut bad, "meets-a-defect").await, None);
    }
    assert!(answer_length(&mut good, "good").await.is_some());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_connection_holds_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let config = NodeConfig::new(dir.path()).listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr("PLAINTEXT").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let peer = super::Peer {
        address,
        listener_name: "PLAINTEXT".into(),
    };
    let serving = super::serve(
        std::sync::Arc::clone(node.broker()),
        stream,
        peer,
        Default::default(),
        Default::default(),
    );
    // Ten thousand of them are 25 MB at most, whatever TLS and logins need.
    let bytes = std::mem::size_of_val(&serving);
    assert!(bytes <= 2_500, "{bytes}");
    drop(serving);
    node.shutdown().await.unwrap();
}
