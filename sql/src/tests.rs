//! SQL against topics in memory: each case is a statement and the table it must print.

mod bounded;
mod errors;
mod pgwire;
mod planning;
mod reading;
mod schema;

use std::sync::Arc;

use highwater_types::record::Header;

use crate::{
    Engine, EngineConfig, SqlError, print,
    reader::memory::{MemoryReader, Row},
};

/// Two instruments in two of three partitions, in batches of two.
fn prices() -> MemoryReader {
    let reader = MemoryReader::default();
    reader.create("prices", 3);
    let row = |at_ms: i64, symbol: &str, price: &str, volume: &str| {
        let value = format!(
            r#"{{"symbol":"{symbol}","price":{price},"volume":{volume},"closeTime":{},"venue":{{"name":"binance","id":7}}}}"#,
            at_ms + 59
        );
        Row::new(at_ms, symbol, &value)
    };
    reader.append(
        "prices",
        0,
        &[row(1_000, "BTC", "64000.1", "2"), row(2_000, "BTC", "64010", "1")],
    );
    reader.append(
        "prices",
        0,
        &[
            row(3_000, "BTC", "63990.5", "5"),
            row(4_000, "BTC", "64020", "null"),
        ],
    );
    reader.append(
        "prices",
        1,
        &[row(1_500, "ETH", "3000", "40"), row(2_500, "ETH", "3001.5", "50")],
    );
    reader
}

/// A reader and an engine over it.
struct Lab {
    reader: Arc<MemoryReader>,
    engine: Engine,
}

impl Lab {
    async fn new(reader: MemoryReader) -> Self {
        // One partition above the scans, so that rows come out in one order.
        Self::with(
            reader,
            EngineConfig {
                target_partitions: 1,
                ..EngineConfig::default()
            },
        )
        .await
    }

    async fn with(reader: MemoryReader, config: EngineConfig) -> Self {
        let reader = Arc::new(reader);
        let engine = Engine::over(reader.clone(), config).await.unwrap();
        Self { reader, engine }
    }

    /// The printed result, followed by its warnings.
    async fn run(&self, sql: &str) -> Result<String, SqlError> {
        let mut result = self.engine.query(sql).await?;
        let rows = result.collect_rows().await?;
        let mut printed = print::table(result.schema(), &rows).unwrap();
        for warning in result.warnings() {
            printed += &format!("\n! {warning}");
        }
        Ok(printed)
    }

    #[track_caller]
    fn check<'a>(&'a self, sql: &'a str, expected: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let printed = self
                .run(sql)
                .await
                .unwrap_or_else(|error| panic!("{caller}: {sql}: {error}"));
            let expected = expected.trim();
            assert!(
                printed == expected,
                "{caller}: {sql} printed\n{printed}\nbut was to print\n{expected}"
            );
        }
    }

    /// SQLSTATE and message.
    async fn error(&self, sql: &str) -> String {
        match self.run(sql).await {
            Ok(printed) => panic!("{sql} was to fail, and printed\n{printed}"),
            Err(error) => format!("{} {error}", error.sqlstate()),
        }
    }
}

fn header(key: &str, value: Option<&'static [u8]>) -> Header {
    Header::new(key.as_bytes().to_vec(), value.map(bytes::Bytes::from_static))
}
