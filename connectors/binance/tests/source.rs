//! The source against the stand-in: what it emits, where it goes on, and what it does when the exchange says no.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use highwater_binance_replay::{Fault, PriceProcess, Replay, ReplayConfig};
use highwater_connect_api::{
    Settings, SourceContext, SourceOffset, SourcePartition, SourcePlugin, SourceRecord, SourceTask, TaskError,
};
use highwater_connector_binance::BinanceSource;
use serde_json::{Value, json};

const START_MS: i64 = 1_700_000_000_000;
const SEED: u64 = 5;

async fn replay() -> Replay {
    Replay::start(ReplayConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        seed: SEED,
        start_time_ms: START_MS,
        speed: 600.0,
        symbols: vec!["BTCUSDT".to_owned(), "ETHUSDT".to_owned()],
    })
    .await
    .expect("a free port")
}

fn settings(replay: &Replay, more: Value) -> Settings {
    let mut settings = json!({
        "base_url": replay.base_url(),
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "poll_interval": "20ms",
        "klines_poll_interval": "20ms",
        "timeout": "300ms",
    });
    for (key, value) in more.as_object().expect("an object") {
        settings[key] = value.clone();
    }
    Settings::from_json(settings)
}

async fn started(
    settings: &Settings,
    offsets: BTreeMap<SourcePartition, SourceOffset>,
) -> Box<dyn SourceTask> {
    let mut task = BinanceSource.task();
    let context = SourceContext {
        connector: "test".to_owned(),
        task: 0,
        offsets,
    };
    task.start(context, settings).await.expect("it starts");
    task
}

fn offsets_of(records: &[SourceRecord]) -> BTreeMap<SourcePartition, SourceOffset> {
    records
        .iter()
        .map(|r| (r.source_partition.clone(), r.source_offset.clone()))
        .collect()
}

#[tokio::test]
async fn prices_are_those_of_the_exchange_at_the_exchanges_time() {
    let replay = replay().await;
    let mut task = started(
        &settings(&replay, json!({ "streams": ["prices"] })),
        BTreeMap::new(),
    )
    .await;
    let records = task.poll().await.expect("prices");
    assert_eq!(records.len(), 2);
    for record in &records {
        let value = record.value.as_json().expect("JSON");
        let time_ms = value["event_time_ms"].as_i64().expect("a time");
        let symbol = value["symbol"].as_str().expect("a symbol");
        assert_eq!(record.timestamp.map(|t| t.get()), Some(time_ms));
        assert_eq!(
            value["price"].as_f64(),
            Some(PriceProcess::new(SEED).price(symbol, time_ms))
        );
    }
}

#[tokio::test]
async fn klines_continue_after_the_stored_offset_without_gap_or_repetition() {
    let replay = replay().await;
    let settings = settings(
        &replay,
        json!({ "streams": ["klines"], "klines_backfill": 5, "symbols": ["BTCUSDT"] }),
    );
    let mut opened = Vec::new();
    let mut offsets = BTreeMap::new();
    while opened.len() < 30 {
        // A new task each time: what a restart does.
        let mut task = started(&settings, offsets.clone()).await;
        let records = task.poll().await.expect("klines");
        offsets.extend(offsets_of(&records));
        opened.extend(
            records
                .iter()
                .filter_map(|r| r.value.as_json()?["open_time_ms"].as_i64()),
        );
        task.stop().await;
    }
    assert!(
        opened.windows(2).all(|pair| pair[1] - pair[0] == 60_000),
        "{opened:?}"
    );
    assert!(
        opened.iter().all(|open| open + 60_000 <= replay.now_ms()),
        "only closed klines are emitted"
    );
}

#[tokio::test]
async fn a_rate_limit_is_retriable_and_says_how_long_to_wait() {
    let replay = replay().await;
    let mut task = started(
        &settings(&replay, json!({ "streams": ["prices"] })),
        BTreeMap::new(),
    )
    .await;
    replay.inject(&Fault::RateLimited { retry_after_s: 7 }, 1);
    let error = task.poll().await.expect_err("429");
    assert!(
        matches!(error, TaskError::Retriable { retry_after: Some(wait), .. } if wait == Duration::from_secs(7))
    );
    replay.inject(&Fault::Banned { retry_after_s: 150 }, 1);
    let error = task.poll().await.expect_err("418");
    assert!(
        matches!(error, TaskError::Retriable { retry_after: Some(wait), .. } if wait == Duration::from_secs(150))
    );
    assert_eq!(task.poll().await.expect("it goes on").len(), 2);
}

#[tokio::test]
async fn a_geo_block_is_fatal_with_advice() {
    let replay = replay().await;
    let mut task = started(
        &settings(&replay, json!({ "streams": ["prices"] })),
        BTreeMap::new(),
    )
    .await;
    replay.inject(&Fault::Restricted, 1);
    let error = task.poll().await.expect_err("451");
    assert!(
        matches!(&error, TaskError::Fatal { hint, .. } if hint.contains("data-api")),
        "{error}"
    );
}

#[tokio::test]
async fn an_unknown_symbol_is_fatal_and_named_as_such() {
    let replay = replay().await;
    let settings = settings(&replay, json!({ "streams": ["prices"], "symbols": ["NOSUCH"] }));
    let error = started(&settings, BTreeMap::new())
        .await
        .poll()
        .await
        .expect_err("-1121");
    assert!(
        matches!(&error, TaskError::Fatal { reason, .. } if reason.contains("-1121")),
        "{error}"
    );
}

#[tokio::test]
async fn server_errors_silence_and_malformed_answers_are_retriable() {
    let replay = replay().await;
    let mut task = started(
        &settings(&replay, json!({ "streams": ["prices"] })),
        BTreeMap::new(),
    )
    .await;
    for fault in [
        Fault::ServerError(503),
        Fault::Silence(Duration::from_secs(2)),
        Fault::Malformed,
    ] {
        replay.inject(&fault, 1);
        let error = task.poll().await.expect_err("a fault");
        assert!(matches!(error, TaskError::Retriable { .. }), "{fault:?}: {error}");
    }
    assert_eq!(task.poll().await.expect("it goes on").len(), 2);
}

#[tokio::test]
async fn symbols_are_shared_between_tasks() {
    let replay = replay().await;
    let shares = BinanceSource
        .task_settings(&settings(&replay, json!({})), 2)
        .await
        .expect("two tasks");
    let symbols: Vec<&Value> = shares.iter().map(|share| &share.0["symbols"]).collect();
    assert_eq!(symbols, [&json!(["BTCUSDT"]), &json!(["ETHUSDT"])]);
}
