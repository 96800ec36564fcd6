//! Connections: how many, how long, how slow.

use std::time::Duration;

use highwater_broker::Limits;
use tokio::io::AsyncReadExt;

use crate::support::{Wire, start_with};

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
