//! The candle topology: JSON prices in, one-minute OHLC candles out, and a plain loop that says what must come out.

pub(crate) mod end_to_end;
pub(crate) mod engine;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::payload::split_mix;
use highwater_streams_engine::{
    Consumed, Materialized, Produced, StreamsBuilder, Topology, TopologyError, TumblingWindows,
    serdes::{json, string},
};
use serde::{Deserialize, Serialize};

use crate::{
    plan::Named,
    topics,
    workloads::{CandlesWorkload, grouped},
};

/// The store of the topology.
const STORE: &str = "candles";
const MINUTE_MS: i64 = 60_000;
const GRACE: Duration = Duration::from_secs(10);
/// 2023-11-14 22:13:00 UTC, a full minute.
const START_MS: i64 = 1_699_999_980_000;

impl Named for CandlesWorkload {
    fn name(&self) -> String {
        format!("{} keys", grouped(self.keys))
    }
}

/// What the topology reads out of a price record.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Price {
    symbol: String,
    price: f64,
    event_time_ms: i64,
}

/// One minute of one symbol.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Candle {
    minute_ms: i64,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    ticks: u64,
}

impl Candle {
    fn add(&mut self, event_time_ms: i64, price: f64) {
        if self.ticks == 0 {
            *self = Candle {
                minute_ms: event_time_ms.div_euclid(MINUTE_MS) * MINUTE_MS,
                open: price,
                high: price,
                low: price,
                close: price,
                ticks: 0,
            };
        }
        self.ticks += 1;
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.close = price;
    }
}

/// What one run of the topology is called and where it reads and writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) application: &'a str,
    pub(crate) prices: &'a str,
    pub(crate) candles: &'a str,
}

/// Prices to candles, with an in-memory cache of hot groups, a window store and its changelog.
pub(crate) fn topology(names: Names<'_>) -> Result<Topology, TopologyError> {
    let builder = StreamsBuilder::new();
    builder
        .stream(names.prices, Consumed::with(string(), json::<Price>()))
        .group_by_key()
        .windowed_by(TumblingWindows::of(Duration::from_secs(60)).grace(GRACE))
        .aggregate(
            Candle::default,
            |_symbol, price, candle| candle.add(price.event_time_ms, price.price),
            Materialized::as_store(STORE)
                .with_value(json())
                .changelog_config(topics::KEEP.0, topics::KEEP.1),
        )
        .to_stream()
        .map(|window, candle| (window.key, candle))
        .to(names.candles, Produced::with(string(), json()));
    builder.build(names.application)
}

/// A price record of the input, before it has an offset.
pub(crate) struct Tick {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) event_time_ms: i64,
    price: f64,
}

/// The input of a workload: a pure function of it, in event time order.
pub(crate) fn ticks(workload: &CandlesWorkload) -> impl Iterator<Item = Tick> {
    let (keys, per_minute) = (workload.keys, workload.records_per_minute.max(1));
    let mut seed = workload.keys;
    (0..workload.records).map(move |at| {
        let drawn = split_mix(&mut seed);
        let key = format!("SYM{:06}USDT", drawn % keys);
        let event_time_ms = START_MS + (u128::from(at) * 60_000 / u128::from(per_minute)) as i64;
        let price = ((drawn >> 32) % 1_000_000 + 100) as f64 / 100.0;
        let value = format!(
            r#"{{"type":"price","symbol":"{key}","price":{price:.2},"volume_24h":{}.5,"trades_24h":{},"event_time_ms":{event_time_ms}}}"#,
            drawn % 100_000,
            at,
        );
        Tick {
            key,
            value,
            event_time_ms,
            price,
        }
    })
}

/// The candles that a run must end with, by symbol and minute: each one's last version counts.
#[derive(Debug, Default)]
pub(crate) struct Candles(HashMap<(String, i64), Candle>);

impl Candles {
    /// What a plain loop makes of the input.
    pub(crate) fn expected(workload: &CandlesWorkload) -> Self {
        let mut candles = HashMap::new();
        for tick in ticks(workload) {
            let minute_ms = tick.event_time_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
            let candle: &mut Candle = candles.entry((tick.key, minute_ms)).or_default();
            candle.add(tick.event_time_ms, tick.price);
        }
        Candles(candles)
    }

    /// Takes a record of the output topic.
    ///
    /// # Errors
    /// When it is no candle.
    pub(crate) fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        let key = key.context("a candle came without a key")?;
        let candle: Candle = serde_json::from_slice(value.context("a candle came without a value")?)?;
        let key = String::from_utf8(key.to_vec())?;
        self.0.insert((key, candle.minute_ms), candle);
        Ok(())
    }

    /// Whether both are the same to the last tick.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, expected: &Candles) -> Result<()> {
        ensure!(
            self.0.len() == expected.0.len(),
            "{} candles came out instead of {}; the run does not count",
            self.0.len(),
            expected.0.len()
        );
        for (key, candle) in &expected.0 {
            let came = self.0.get(key);
            ensure!(
                came == Some(candle),
                "the candle of {key:?} is {came:?} instead of {candle:?}; the run does not count"
            );
        }
        Ok(())
    }
}
