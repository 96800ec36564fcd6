//! The REST API over a socket, as a console would use it.

use std::net::SocketAddr;

use highwater_connect::RestServer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plugins::World;
use super::*;

/// One request; the status and the JSON body, or null when there is none.
async fn request(server: SocketAddr, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut stream = TcpStream::connect(server).await.expect("connected");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = serde_json::from_str(body).unwrap_or_default();
    (status.expect("a status"), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_can_create_watch_change_and_delete_a_connector() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker("one", &World::default()).await;
    let server = RestServer::bind(([127, 0, 0, 1], 0).into(), worker.clone())
        .await
        .expect("listening");
    let at = server.local_addr();
    let config = json!({
        "connector.class": "counter", "tasks.max": "2", "settings.streams": "a,b", "settings.count": "20",
        "settings.password": "${SECRET}", "topic.name": "out",
    });

    let (status, body) = request(at, "GET", "/connector-plugins", None).await;
    assert_eq!((status, body[1]["class"].as_str()), (200, Some("counter")));
    let mut wrong = config.clone();
    wrong["settings.cuont"] = json!("1");
    wrong["settings.count"] = json!("many");
    let (status, body) = request(
        at,
        "PUT",
        "/connector-plugins/counter/config/validate",
        Some(wrong.clone()),
    )
    .await;
    assert_eq!((status, &body["error_count"]), (200, &json!(2)), "{body}");
    let (status, body) = request(
        at,
        "POST",
        "/connectors",
        Some(json!({ "name": "c", "config": wrong })),
    )
    .await;
    assert_eq!((status, &body["error_code"]), (400, &json!(400)));
    let message = body["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("2 problem(s)") && message.contains("did you mean `count`?"),
        "{message}"
    );

    let create = json!({ "name": "c", "config": config });
    let (status, body) = request(at, "POST", "/connectors", Some(create.clone())).await;
    assert_eq!((status, &body["type"]), (201, &json!("source")), "{body}");
    assert_eq!(body["config"]["settings.password"], "********");
    let (status, _) = request(at, "POST", "/connectors", Some(create)).await;
    assert_eq!(status, 409);
    running(&worker, "c", 2).await;
    let (_, body) = request(at, "GET", "/connectors?expand=status&expand=info", None).await;
    assert_eq!(body["c"]["status"]["tasks"][1]["state"], "RUNNING", "{body}");
    assert_eq!(
        body["c"]["info"]["tasks"][1],
        json!({ "connector": "c", "task": 1 })
    );
    let (_, body) = request(at, "GET", "/connectors/c/tasks", None).await;
    assert_eq!(body[0]["config"]["password"], "********", "{body}");

    // What a console shows and sends back keeps the password that it never saw.
    let (_, mut shown) = request(at, "GET", "/connectors/c/config", None).await;
    shown["settings.count"] = json!("30");
    let (status, _) = request(at, "PUT", "/connectors/c/config", Some(shown)).await;
    assert_eq!(status, 200);
    let document = worker.info("c").expect("known").document;
    assert_eq!(document.settings().text("password"), Some("${SECRET}"));
    eventually("all offsets", async || {
        let (_, body) = request(at, "GET", "/connectors/c/offsets", None).await;
        let offsets = body["offsets"].as_array().cloned().unwrap_or_default();
        let all = offsets.len() == 2 && offsets.iter().all(|o| o["offset"]["next"] == 30);
        all.then_some(()).ok_or_else(|| body.to_string())
    })
    .await;

    for (method, path, expected) in [
        ("PUT", "/connectors/c/pause", 202),
        ("PUT", "/connectors/c/resume", 202),
        ("PUT", "/connectors/c/stop", 204),
        ("PUT", "/connectors/c/resume", 202),
        ("POST", "/connectors/c/restart", 204),
        ("POST", "/connectors/c/restart?includeTasks=true", 202),
        ("POST", "/connectors/c/tasks/0/restart", 204),
        ("POST", "/connectors/c/tasks/7/restart", 404),
        ("GET", "/connectors/c/topics", 200),
        ("GET", "/connectors/nobody/status", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/connectors", 405),
        ("DELETE", "/connectors/c", 204),
        ("DELETE", "/connectors/c", 404),
    ] {
        let (status, body) = request(at, method, path, None).await;
        assert_eq!(status, expected, "{method} {path}: {body}");
        if status >= 400 {
            assert_eq!(body["error_code"], expected, "{method} {path}");
        }
    }
    let (_, body) = request(at, "GET", "/", None).await;
    assert!(
        body["kafka_cluster_id"].is_string() && body["version"].is_string(),
        "{body}"
    );
    server.shutdown().await;
    worker.shutdown().await;
    cluster.shutdown().await;
}
