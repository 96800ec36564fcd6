//! The Postgres wire, spoken byte by byte: what is sent, and a transcript of what comes back.

use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::PgServer;

/// A client that knows the bytes and nothing else.
struct Wire {
    socket: TcpStream,
    server: PgServer,
    /// Process id and secret, for cancelling.
    key: Vec<u8>,
}

impl Wire {
    async fn connect(reader: MemoryReader) -> Self {
        let lab = Lab::new(reader).await;
        let server = PgServer::bind("127.0.0.1:0".parse().unwrap(), lab.engine.clone())
            .await
            .unwrap();
        let socket = TcpStream::connect(server.local_addr()).await.unwrap();
        let mut this = Self {
            socket,
            server,
            key: Vec::new(),
        };
        let mut startup = BytesMut::new();
        startup.put_i32(196_608); // protocol 3.0
        startup.put_slice(b"user\0someone\0database\0highwater\0\0");
        this.write(&framed(None, &startup)).await;
        let greeting = this.transcript().await;
        assert!(
            greeting.starts_with("R 0") && greeting.ends_with("Z I"),
            "{greeting}"
        );
        this
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Messages up to and with ReadyForQuery, a line each.
    async fn transcript(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let kind = self.socket.read_u8().await.unwrap();
            let length = self.socket.read_i32().await.unwrap() as usize - 4;
            let mut body = vec![0; length];
            self.socket.read_exact(&mut body).await.unwrap();
            if kind == b'K' {
                self.key = body;
            } else if kind != b'S' {
                lines.push(shown(kind, &body));
            }
            if kind == b'Z' {
                return lines.join("\n");
            }
        }
    }

    async fn simple(&mut self, sql: &str) -> String {
        self.write(&framed(Some(b'Q'), &text(sql))).await;
        self.transcript().await
    }

    /// Parse, describe, bind with text parameters, execute, sync; results in binary when asked.
    async fn extended(&mut self, sql: &str, parameters: &[&str], binary: bool) -> String {
        let mut parse = BytesMut::from(&b"\0"[..]);
        parse.put_slice(&text(sql));
        parse.put_i16(0);
        let mut bind = BytesMut::from(&b"\0\0"[..]);
        bind.put_i16(0);
        bind.put_i16(parameters.len() as i16);
        for parameter in parameters {
            bind.put_i32(parameter.len() as i32);
            bind.put_slice(parameter.as_bytes());
        }
        bind.put_i16(1);
        bind.put_i16(binary.into());
        let mut all = framed(Some(b'P'), &parse);
        all.extend(framed(Some(b'D'), b"S\0"));
        all.extend(framed(Some(b'B'), &bind));
        all.extend(framed(Some(b'E'), &[0, 0, 0, 0, 0]));
        all.extend(framed(Some(b'S'), &[]));
        self.write(&all).await;
        self.transcript().await
    }
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut frame: Vec<u8> = kind.into_iter().collect();
    frame.extend((body.len() as i32 + 4).to_be_bytes());
    frame.extend(body);
    frame
}

fn shown(kind: u8, body: &[u8]) -> String {
    let mut body = body;
    let kind = char::from(kind);
    match kind {
        'R' => format!("R {}", body.get_i32()),
        'Z' | 'I' | '1' | '2' | 'n' => format!("{kind} {}", String::from_utf8_lossy(body))
            .trim_end()
            .to_owned(),
        'C' => format!("C {}", zero_ended(&mut body)),
        't' => {
            let types: Vec<_> = (0..body.get_i16()).map(|_| body.get_i32().to_string()).collect();
            format!("t {}", types.join(" "))
        }
        'T' => {
            let columns = (0..body.get_i16()).map(|_| {
                let name = zero_ended(&mut body);
                body.advance(6);
                let data_type = body.get_i32();
                body.advance(8);
                format!("{name}:{data_type}")
            });
            format!("T {}", columns.collect::<Vec<_>>().join(" "))
        }
        'D' => {
            let values = (0..body.get_i16()).map(|_| match body.get_i32() {
                -1 => "NULL".to_owned(),
                length => {
                    let value = body.split_to_vec(length as usize);
                    match String::from_utf8(value) {
                        Ok(text) if !text.contains(char::is_control) => text,
                        Ok(text) => hex(text.as_bytes()),
                        Err(error) => hex(error.as_bytes()),
                    }
                }
            });
            format!("D {}", values.collect::<Vec<_>>().join("|"))
        }
        'E' | 'N' => {
            let mut parts = Vec::new();
            while body.first().is_some_and(|field| *field != 0) {
                let field = body.get_u8();
                let value = zero_ended(&mut body);
                if matches!(field, b'C' | b'M' | b'H') {
                    parts.push(value);
                }
            }
            format!("{kind} {}", parts.join(" / "))
        }
        other => format!("{other} ?"),
    }
}

trait SplitToVec {
    fn split_to_vec(&mut self, length: usize) -> Vec<u8>;
}

impl SplitToVec for &[u8] {
    fn split_to_vec(&mut self, length: usize) -> Vec<u8> {
        let (head, tail) = self.split_at(length);
        *self = tail;
        head.to_vec()
    }
}

fn zero_ended(body: &mut &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let value = body.split_to_vec(end);
    body.advance(1);
    String::from_utf8(value).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[tokio::test]
async fn simple_queries_give_rows_tags_and_errors_with_sqlstate() {
    let mut wire = Wire::connect(prices()).await;
    let cases = [
        (
            "SELECT symbol, price, volume, _offset, _timestamp FROM prices WHERE _offset = 3",
            "T symbol:25 price:701 volume:20 _offset:20 _timestamp:1184\n\
             D BTC|64020.0|NULL|3|1970-01-01 00:00:04.000000+00\nC SELECT 1\nZ I",
        ),
        ("SHOW TABLES", "T table_name:25\nD prices\nC SELECT 1\nZ I"),
        (
            "SELECT 1 AS a; SELECT 2 AS b",
            "T a:20\nD 1\nC SELECT 1\nT b:20\nD 2\nC SELECT 1\nZ I",
        ),
        (";", "I\nZ I"),
        ("BEGIN", "C BEGIN\nZ T"),
        ("SELECT nope FROM prices", "E 42703"),
        ("ROLLBACK", "C ROLLBACK\nZ I"),
        (
            "SET application_name = 'x'; SHOW server_version",
            "C SET\nT server_version:25\nD 16.0\nC SHOW 1\nZ I",
        ),
        (
            "SELECT * FROM pg_catalog.pg_class",
            "E 0A000 / the system tables of pg_catalog are not here",
        ),
        (
            "SELECT count(*) FROM pg_type",
            "E 0A000 / the system tables of pg_catalog are not here",
        ),
        ("SELECT * FROM priced", "E 42P01"),
        ("DELETE FROM prices", "E 0A000 / DELETE FROM prices is refused"),
        ("SELECT 1 / (_offset - _offset) FROM prices", "E 22012"),
    ];
    for (sql, expected) in cases {
        let transcript = wire.simple(sql).await;
        assert!(transcript.starts_with(expected), "{sql}\n{transcript}");
        assert!(transcript.contains("\nZ "), "{sql}\n{transcript}");
    }
    assert!(
        wire.simple("SELECT version()")
            .await
            .contains("D PostgreSQL 16.0 (Highwater ")
    );
}

#[tokio::test]
async fn prepared_statements_tell_their_types_and_take_parameters() {
    let mut wire = Wire::connect(prices()).await;
    let sql = "SELECT symbol, _offset FROM prices WHERE _offset >= $1 AND symbol = $2 ORDER BY _offset";
    assert_eq!(
        wire.extended(sql, &["2", "BTC"], false).await,
        "1\nt 20 25\nT symbol:25 _offset:20\n2\nD BTC|2\nD BTC|3\nC SELECT 2\nZ I"
    );
    assert_eq!(
        wire.extended("SELECT price, volume FROM prices WHERE _offset = 3", &[], true)
            .await,
        "1\nt \nT price:701 volume:20\n2\nD 0x40ef428000000000|NULL\nC SELECT 1\nZ I"
    );
    let refused = wire.extended(sql, &["two", "BTC"], false).await;
    assert!(
        refused.contains("\nE 22P02 / parameter $1 is not of the type"),
        "{refused}"
    );
    let unknown = wire.extended("SELECT * FROM nowhere", &[], false).await;
    assert!(
        unknown.starts_with("E 42P01") && unknown.ends_with("Z I"),
        "{unknown}"
    );
    assert_eq!(
        wire.extended("BEGIN READ ONLY", &[], false).await,
        "1\nt \nn\n2\nC BEGIN\nZ T"
    );
}

#[tokio::test]
async fn warnings_come_as_notices_before_the_rows() {
    let reader = MemoryReader::default();
    reader.create("t", 1);
    reader.append(
        "t",
        0,
        &[Row::new(1, "k", r#"{"a":1}"#), Row::new(2, "k", "oops")],
    );
    let mut wire = Wire::connect(reader).await;
    assert_eq!(
        wire.simple("SELECT a FROM t").await,
        "N 01000 / 1 value is not a JSON object and shown as NULL; first: t-0 offset 1: expected value at line 1 \
         column 1\nT a:20\nD 1\nD NULL\nC SELECT 2\nZ I"
    );
}

#[tokio::test]
async fn a_query_can_be_cancelled_and_the_connection_lives_on() {
    let mut wire = Wire::connect(prices()).await;
    let endless =
        "SELECT sum(a.value * b.value) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b";
    wire.write(&framed(Some(b'Q'), &text(endless))).await;
    let mut other = TcpStream::connect(wire.server.local_addr()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut cancel = BytesMut::new();
    cancel.put_i32(80_877_102);
    cancel.put_slice(&wire.key);
    other.write_all(&framed(None, &cancel)).await.unwrap();
    let transcript = wire.transcript().await;
    assert!(transcript.starts_with("E 57014"), "{transcript}");
    assert!(wire.simple("SELECT 1 AS a").await.contains("D 1"));
}

#[tokio::test]
async fn garbage_and_hasty_clients_do_not_stop_the_server() {
    let wire = Wire::connect(prices()).await;
    let address = wire.server.local_addr();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 8], &[]] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
    }
    let mut wire = wire;
    assert!(wire.simple("SELECT 1 AS a").await.contains("D 1"));
    wire.server.shutdown().await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the port must be free after shutdown"
    );
}
