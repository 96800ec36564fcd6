//! Hostile inputs on the ports beside Kafka's: Connect's REST API and SQL on the Postgres wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::support::{Dev, run_to_end};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a request that is refused may cost.
const GROWTH_BYTES: u64 = 100 << 20;
/// What refused SQL may leave behind: a few values of the longest kind, and what the allocator keeps.
const SQL_GROWTH_BYTES: u64 = 256 << 20;

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Status and body of what comes back.
fn answer(mut stream: TcpStream) -> Result<(u16, String)> {
    let mut bytes = Vec::new();
    // A server that refuses a body closes while some of it is still on its way; what it said has come before.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("an answer")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = connect(address)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    let _ = stream.write_all(body.as_bytes());
    answer(stream)
}

/// Every refusal of Connect's API has this form.
fn check_refusal(what: &str, status: u16, body: &str) -> Result<()> {
    let told: Value = serde_json::from_str(body).with_context(|| format!("{what}: {status} {body}"))?;
    ensure!(told["error_code"] == status, "{what}: {status} {body}");
    Ok(())
}

fn still_serves(node: &Dev) -> Result<()> {
    run_to_end(&mut node.cli(&["topic", "list"])?).map(drop)?;
    let (status, body) = request(node.connect, "GET", "/connectors", "")?;
    ensure!(status == 200, "{status} {body}");
    Ok(())
}

#[test]
fn hostile_96_bodies_of_a_gibibyte_and_deep_json_are_refused_and_cost_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    still_serves(&node)?;
    let before = node.resident_bytes()?;
    for (method, path) in [
        ("POST", "/connectors"),
        ("PUT", "/connectors/c/config"),
        ("PUT", "/connector-plugins/file/config/validate"),
    ] {
        for framing in ["content-length: 1073741824", "transfer-encoding: chunked"] {
            let mut stream = connect(node.connect)?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{framing}\r\n\r\n"
            )?;
            let piece = [b' '; 0x10000];
            for _ in 0..0x4000 {
                let sent = match framing.starts_with("transfer") {
                    true => stream
                        .write_all(b"10000\r\n")
                        .and_then(|()| stream.write_all(&piece))
                        .and_then(|()| stream.write_all(b"\r\n")),
                    false => stream.write_all(&piece),
                };
                // The node has heard enough and closed.
                if sent.is_err() {
                    break;
                }
            }
            // The refusal may be lost to a connection that was closed with unread bytes; that is one as well.
            if let Ok((status, body)) = answer(stream) {
                ensure!(status == 413, "{method} {path} {framing}: {status} {body}");
                check_refusal(path, status, &body)?;
            }
        }
        let deep = "[".repeat(500_000);
        for body in [
            deep.clone(),
            format!("{{\"name\":\"c\",\"config\":{deep}"),
            "{\"a\":".repeat(150_000),
        ] {
            let (status, said) = request(node.connect, method, path, &body)?;
            ensure!(status == 400, "{method} {path}: {status} {said}");
            check_refusal(path, status, &said)?;
        }
    }
    let grown = node.resident_bytes()?.saturating_sub(before);
    ensure!(grown < GROWTH_BYTES, "the node grew by {grown} bytes");
    still_serves(&node)?;
    node.stop()
}

#[test]
fn hostile_98_paths_that_climb_or_go_on_find_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let paths = [
        "/../../etc/passwd",
        "/connectors/../../../etc/passwd",
        "/connectors/..%2f..%2f..%2fetc%2fpasswd/config",
        "/connectors/%2e%2e/config",
        "/connectors/%00/status",
        "/connectors/%ff%fe/status",
        "/connectors/a/b/c/d/e/f",
        "/connectors//status",
        "/connectors/c/status/more",
        "/connector-plugins/..%2f..%2fsecret/config",
        "//etc/passwd",
        "/metrics/../../../etc/passwd",
    ];
    for path in paths {
        let (status, body) = request(node.connect, "GET", path, "")?;
        ensure!((400..=404).contains(&status), "{path}: {status} {body}");
        check_refusal(path, status, &body)?;
        ensure!(!body.contains("root:"), "{path}: {body}");
        let (status, body) = request(node.http, "GET", path, "")?;
        ensure!(
            (400..=404).contains(&status) && !body.contains("root:"),
            "{path}: {status} {body}"
        );
    }
    for name in ["..", ".", "../c", "a/b", "a\\b", "a\0b", "a\nb", ""] {
        let config = json!({ "connector.class": "file", "topics": "t", "settings.directory": "out" });
        let body = json!({ "name": name, "config": config }).to_string();
        let (status, said) = request(node.connect, "POST", "/connectors", &body)?;
        ensure!(status == 400, "{name:?}: {status} {said}");
        check_refusal(name, status, &said)?;
    }
    let (_, listed) = request(node.connect, "GET", "/connectors", "")?;
    ensure!(listed == "[]", "{listed}");
    node.stop()
}

fn create(node: &Dev, name: &str, config: &Value) -> Result<(u16, String)> {
    let body = json!({ "name": name, "config": config }).to_string();
    request(node.connect, "POST", "/connectors", &body)
}

/// Waits until a task has said what is wrong, and gives everything that the API tells of the connector by then.
fn told_of(node: &Dev, name: &str, word: &str) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut all = String::new();
        for what in ["status", "config", "tasks"] {
            all += &request(node.connect, "GET", &format!("/connectors/{name}/{what}"), "")?.1;
        }
        if all.contains(word) {
            return Ok(all);
        }
        ensure!(Instant::now() < deadline, "{name} does not say {word:?}: {all}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A service of this machine that tells its secret to whoever asks.
fn talkative(answer: &'static str) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    Ok(address)
}

#[test]
fn hostile_97_102_connectors_pointed_at_files_and_services_tell_nothing_of_them() -> Result<()> {
    const SECRET: &str = "hunter2-of-this-machine";
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let node = Dev::start_logged(&folder.path().join("data"), &log, &[])?;
    run_to_end(&mut node.cli(&["topic", "create", "t"])?)?;
    for url in [
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://metadata.google.internal./computeMetadata/v1",
        "http://[fd00:ec2::254]/latest",
        "https://user:hunter2-of-this-machine@127.0.0.1/",
        "http://127.0.0.1/private?x=",
    ] {
        let config = json!({ "connector.class": "binance", "settings.symbols": "BTCUSDT", "settings.base_url": url, "topic.name": "p" });
        let (status, said) = create(&node, "refused", &config)?;
        ensure!(
            status == 400 && said.contains("base_url"),
            "{url}: {status} {said}"
        );
        ensure!(!said.contains(SECRET), "{url}: {said}");
    }
    let answers = [
        (
            "whole",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 25\r\n\r\n\"hunter2-of-this-machine\"",
            "malformed",
        ),
        (
            "refusing",
            "HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 23\r\n\r\nhunter2-of-this-machine",
            "500",
        ),
        (
            "elsewhere",
            "HTTP/1.1 302 No\r\nconnection: close\r\nlocation: http://169.254.169.254/hunter2-of-this-machine\r\ncontent-length: 0\r\n\r\n",
            "302",
        ),
    ];
    let mut told = String::new();
    for (name, answer, word) in answers {
        let base_url = format!("http://{}", talkative(answer)?);
        let config = json!({
            "connector.class": "binance", "settings.symbols": "BTCUSDT", "settings.base_url": base_url,
            "topic.name": "p", "retry.max_elapsed": "1s",
        });
        let (status, said) = create(&node, name, &config)?;
        ensure!(status == 201, "{status} {said}");
        told += &told_of(&node, name, word)?;
    }
    // A database that is no database, and one with a password at which nobody answers.
    let victim = folder.path().join("victim.txt");
    std::fs::write(&victim, format!("{SECRET}\n").repeat(400))?;
    let before = std::fs::read(&victim)?;
    let urls = [
        ("a-file", format!("sqlite:{}", victim.display())),
        ("a-server", format!("postgres://user:{SECRET}@127.0.0.1:1/db")),
        ("no-url", format!("postgres://user:{SECRET}@[nowhere/db")),
    ];
    for (name, url) in urls {
        let config = json!({
            "connector.class": "database", "topics": "t", "settings.url": url, "settings.pk_fields": "id",
            "retry.max_elapsed": "1s",
        });
        let (status, said) = create(&node, name, &config)?;
        ensure!(status == 201, "{status} {said}");
        run_to_end(node.cli(&["produce", "t"])?.stdin(std::process::Stdio::null()))?;
        told += &told_of(&node, name, "FAILED")?;
    }
    ensure!(!told.contains(SECRET), "{told}");
    ensure!(std::fs::read(&victim)? == before, "the file was changed");
    let logged = std::fs::read_to_string(&log)?;
    ensure!(logged.contains("a-server"), "{logged}");
    ensure!(!logged.contains(SECRET), "{logged}");
    still_serves(&node)?;
    node.stop()
}

/// The Postgres wire, as far as a statement and its error.
struct Sql(TcpStream);

impl Sql {
    fn connect(address: SocketAddr) -> Result<Self> {
        let mut stream = connect(address)?;
        let body = [
            &196_608_i32.to_be_bytes()[..],
            b"user\0test\0database\0highwater\0\0",
        ]
        .concat();
        stream.write_all(&(i32::try_from(body.len())? + 4).to_be_bytes())?;
        stream.write_all(&body)?;
        let mut sql = Self(stream);
        sql.finish()?;
        Ok(sql)
    }

    /// The SQLSTATE, if it is an error.
    fn run(&mut self, statement: &str) -> Result<Option<String>> {
        let mut message = vec![b'Q'];
        message.extend((i32::try_from(statement.len())? + 5).to_be_bytes());
        message.extend(statement.as_bytes());
        message.push(0);
        self.0.write_all(&message)?;
        self.finish()
    }

    fn finish(&mut self) -> Result<Option<String>> {
        let mut state = None;
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length.checked_sub(4).context("a length")? as usize];
            self.0.read_exact(&mut body)?;
            match head[0] {
                b'E' => {
                    let mut fields = body.split(|byte| *byte == 0);
                    let code = fields
                        .find_map(|field| field.strip_prefix(b"C"))
                        .unwrap_or_default();
                    state = Some(String::from_utf8_lossy(code).into_owned());
                }
                b'Z' => return Ok(state),
                _ => {}
            }
        }
    }
}

/// `count` names of WITH, each made of the one before.
fn names(count: usize, next: impl Fn(usize) -> String) -> String {
    let names: Vec<String> = (1..=count)
        .map(|at| format!("c{at} AS ({})", next(at - 1)))
        .collect();
    format!(
        "WITH c0 AS (SELECT 1 a), {} SELECT * FROM c{count}",
        names.join(", ")
    )
}

#[test]
fn statements_too_deep_or_too_large_to_plan_are_refused_and_the_node_lives() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let deep = |links: usize| {
        vec![
            format!("SELECT 1{}", " + 1".repeat(links)),
            format!("SELECT 'a'{}", " || 'b'".repeat(links)),
            format!("SELECT 1 WHERE true{}", " OR false".repeat(links)),
            format!("SELECT 1{}", "::int".repeat(links)),
        ]
    };
    // At the limit they are answered: its stack is enough.
    for statement in deep(490) {
        let state = Sql::connect(node.sql)?.run(&statement)?;
        ensure!(state.is_none(), "{state:?}: {}", &statement[..60]);
    }
    let beyond = [
        deep(100_000),
        vec![
            format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(20_000)),
            format!("SELECT 1 FROM (SELECT 1) t{}", ", (SELECT 1) t".repeat(20_000)),
            names(5_000, |before| format!("SELECT * FROM c{before}")),
            names(40, |before| format!("SELECT x.a FROM c{before} x, c{before} y")),
            names(40, |before| {
                format!("SELECT a FROM c{before} WHERE a IN (SELECT a FROM c{before})")
            }),
        ],
    ];
    for statement in beyond.concat() {
        let state = Sql::connect(node.sql)?.run(&statement)?;
        let Some(state) = state else {
            bail!("answered: {}", &statement[..60]);
        };
        ensure!(state == "54001", "{state}: {}", &statement[..60]);
    }
    let (state, many) = (
        Sql::connect(node.sql)?,
        "SELECT 1 WHERE 1 IN (1".to_owned() + &", 1".repeat(20_000) + ")",
    );
    let mut sql = state;
    ensure!(sql.run(&many)?.is_none(), "a long list is no deep one");
    still_serves(&node)?;
    node.stop()
}

#[test]
fn hostile_99_sql_that_would_make_gigabytes_is_refused_and_costs_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let run = |statement: &str| Sql::connect(node.sql)?.run(statement);
    // The first statement makes a session.
    ensure!(run("SELECT repeat('x', 3)")?.is_none());
    let before = node.resident_bytes()?;
    for statement in [
        "SELECT length(repeat(repeat('x', 100000), 100000))",
        "SELECT lpad('x', 2000000000)",
        "SELECT replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "SELECT repeat('x', 1000000) || repeat('x', 1000000)",
        "SELECT array_to_string(range(0, 1000000), repeat('x', 1000000))",
        "SELECT array_repeat(repeat('x', 1000000), 1000000)",
        "SELECT range(0, 9223372036854775807)",
        "SELECT unnest(range(0, 1000000)), repeat('x', 1000000)",
        "SELECT count(*) FROM generate_series(1, 1000000) WHERE repeat(value::varchar, 10000000) = 'x'",
        "WITH RECURSIVE r AS (SELECT 'xxxxxxxx' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
    ] {
        let state = run(statement)?;
        ensure!(state.as_deref() == Some("53200"), "{state:?}: {statement}");
        let grown = node.resident_bytes()?.saturating_sub(before);
        ensure!(
            grown < SQL_GROWTH_BYTES,
            "{statement}: the node grew by {grown} bytes"
        );
    }
    for statement in [
        "SELECT max(length(lpad(value::varchar, 20, '0'))) FROM generate_series(1, 1000000)",
        "SELECT count(*) FROM (SELECT unnest(range(0, 1000000)))",
        "SELECT max(length(t)) FROM (SELECT repeat('x', 1000000) AS t FROM generate_series(1, 200))",
    ] {
        let state = run(statement)?;
        ensure!(state.is_none(), "{state:?}: {statement}");
    }
    still_serves(&node)?;
    node.stop()
}

#[test]
fn hostile_100_objects_of_a_hundred_thousand_fields_and_deep_ones_are_tables_all_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    run_to_end(&mut node.cli(&["topic", "create", "wide"])?)?;
    // Far beyond what any schema holds, and still within the limit of a message.
    let fields: Vec<String> = (0..100_000).map(|at| format!("\"{at:05x}\":1")).collect();
    let wide = format!("{{{}}}", fields.join(","));
    let fields: Vec<String> = (0..20_000)
        .map(|at| format!("\"n{at}\":{{\"x\":[{at}]}}"))
        .collect();
    let nested = format!("{{\"inner\":{{{}}}}}", fields.join(","));
    let deep = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let mut produce = node.cli(&["produce", "wide"])?;
    let mut child = produce.stdin(std::process::Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    for line in [&*wide, &*nested, &*deep, "{\"a\":1,\"00000\":2}"] {
        writeln!(input, "{line}")?;
    }
    drop(input);
    ensure!(child.wait()?.success(), "not produced");
    let before = node.resident_bytes()?;
    for statement in [
        "SELECT count(*) FROM wide",
        "SELECT * FROM wide",
        "SELECT \"00000\" FROM wide",
    ] {
        let state = Sql::connect(node.sql)?.run(statement)?;
        ensure!(state.is_none(), "{statement}: {state:?}");
    }
    let grown = node.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 3 * GROWTH_BYTES, "the node grew by {grown} bytes");
    still_serves(&node)?;
    node.stop()
}
