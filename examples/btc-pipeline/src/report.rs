//! The end of a run: questions in SQL, the chart, the sums, and a check of the pipeline's work by other means.
//!
//! The check reads all prices again, makes candles of them without any of the machinery, and compares them with the
//! rows in the database. Whatever differs is a failure, and the first difference is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use highwater_client::Client;
use highwater_sql::{Engine, EngineConfig, print};
use highwater_types::Offset;

use crate::chart::{Bar, Page, Series};
use crate::database::{Candles, Database};
use crate::pipeline::Drained;
use crate::screen::{Screen, grouped};
use crate::topics::{self, decoded};
use crate::topology::{
    ALERTS, AVERAGES, CANDLES, Candle, MovingAverage, PRICES, Price, VolatilityAlert, minute_of,
};
use crate::utc;

const PRICE_QUESTION: &str = "\
SELECT symbol, count(*) AS prices, min(price) AS lowest, max(price) AS highest,
       to_timestamp_millis(max(event_time_ms)) AS latest
  FROM btc_prices WHERE type = 'price' GROUP BY symbol ORDER BY symbol";
/// A candle is written again with every commit; the one with most ticks is the whole minute.
const CANDLE_QUESTION: &str = "\
SELECT symbol, to_timestamp_millis(minute_ms) AS minute, first_value(open ORDER BY ticks DESC) AS open,
       max(high) AS high, min(low) AS low, first_value(close ORDER BY ticks DESC) AS close, max(ticks) AS ticks
  FROM candles GROUP BY symbol, minute_ms ORDER BY minute_ms DESC, symbol LIMIT 6";
const ALERT_QUESTION: &str = "\
SELECT symbol, count(*) AS alerts, round(max(swing_percent), 3) AS widest_swing_percent
  FROM volatility_alerts GROUP BY symbol ORDER BY symbol";

/// What a run was, and where it left its things.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Where prices came from, in a sentence.
    pub(crate) origin: String,
    /// Whether somebody ended it early, perhaps before there was anything.
    pub(crate) was_interrupted: bool,
    pub(crate) database: &'a Database,
    pub(crate) data_dir: &'a Path,
    pub(crate) chart: &'a Path,
    pub(crate) alerts_dir: &'a Path,
}

/// Prints what came out. Returns everything that is not as it should be, empty when all is well.
///
/// # Errors
/// When topics or the database cannot be read, or the chart not written.
pub(crate) async fn report(drained: &Drained, run: &Run<'_>, screen: &Screen) -> Result<Vec<String>> {
    let database = run.database;
    let results = Results::read(&drained.client).await?;
    print_questions(&drained.client, &results, screen).await?;
    let rows = database.candles().await?;
    let mut problems = results.problems(&rows, database.is_shared());
    if results.naive.is_empty() && !run.was_interrupted {
        problems.push("no price ever came; run longer, or see what --verbose tells".to_owned());
    }
    let figures = figures(drained, &results, &rows, database).await?;
    let page = Page {
        origin: run.origin.clone(),
        figures: figures
            .iter()
            .map(|it| (it.name.to_owned(), it.short.clone()))
            .collect(),
        series: results.series(),
    };
    std::fs::write(run.chart, page.html())
        .with_context(|| format!("cannot write {}", run.chart.display()))?;

    screen.say("\nSummary");
    for Figure { name, long, .. } in &figures {
        screen.say(&format!("  {name:<18} {long}"));
    }
    screen.say(&match problems.is_empty() {
        true => format!(
            "  {:<18} candles made anew from all prices equal the database's rows",
            "check"
        ),
        false => format!("  {:<18} failed", "check"),
    });
    screen.say(&format!("\n  chart              {}", run.chart.display()));
    screen.say(&format!("  database           {}", database.place()));
    screen.say(&format!("  alert files        {}", run.alerts_dir.display()));
    screen.say(&format!("  everything         {}", run.data_dir.display()));
    Ok(problems)
}

/// A sum under its name, short for the chart's head and long for the summary.
struct Figure {
    name: &'static str,
    short: String,
    long: String,
}

async fn figures(
    drained: &Drained,
    results: &Results,
    rows: &Candles,
    database: &Database,
) -> Result<Vec<Figure>> {
    let ends = topics::ends(&drained.client, &[PRICES]).await?;
    let records: i64 = ends.values().map(|end| end.distance_from(Offset::ZERO)).sum();
    let before = drained
        .began_at
        .iter()
        .filter(|(it, _)| it.topic.as_str() == PRICES);
    let before: i64 = before.map(|(_, end)| end.distance_from(Offset::ZERO)).sum();
    let (records, fresh) = (records.unsigned_abs(), (records - before).unsigned_abs());
    let own_rows = rows.keys().filter(|it| results.candles.contains_key(*it)).count();
    let others = match rows.len() - own_rows {
        0 => String::new(),
        others => format!(", and {others} of other data directories"),
    };
    let equal = if own_rows == results.candles.len() {
        "equal"
    } else {
        "NOT EQUAL"
    };
    let seen = drained.board.seen();
    let latency = |percentile| seen.latency_us.value_at_quantile(percentile) as f64 / 1_000.0;
    let (p50, p99) = (latency(0.5), latency(0.99));
    let measured = seen.latency_us.len();
    Ok(vec![
        Figure {
            name: "records in",
            short: grouped(records),
            long: format!("{} ({} in this run)", grouped(records), grouped(fresh)),
        },
        Figure {
            name: "candles out",
            short: grouped(results.candles.len() as u64),
            long: format!(
                "{} of {} symbols, a minute each",
                grouped(results.candles.len() as u64),
                results.symbols().len()
            ),
        },
        Figure {
            name: "rows in database",
            short: grouped(own_rows as u64),
            long: format!(
                "{} ({equal}{others}; {})",
                grouped(own_rows as u64),
                kind(database)
            ),
        },
        Figure {
            name: "alerts",
            short: grouped(results.alerts.len() as u64),
            long: grouped(results.alerts.len() as u64),
        },
        Figure {
            name: "latency p50",
            short: format!("{p50:.0} ms"),
            long: format!(
                "{p50:.0} ms from poll to candle, over {} prices",
                grouped(measured)
            ),
        },
        Figure {
            name: "latency p99",
            short: format!("{p99:.0} ms"),
            long: format!("{p99:.0} ms"),
        },
    ])
}

fn kind(database: &Database) -> &'static str {
    match database {
        Database::Sqlite(_) => "SQLite",
        Database::Postgres(_) => "PostgreSQL",
    }
}

async fn print_questions(client: &Client, results: &Results, screen: &Screen) -> Result<()> {
    let engine = Engine::new(client.clone(), EngineConfig::default()).await?;
    for (question, has_answer) in [
        (PRICE_QUESTION, !results.naive.is_empty()),
        (CANDLE_QUESTION, !results.candles.is_empty()),
        (ALERT_QUESTION, !results.alerts.is_empty()),
    ] {
        // A topic without records has no columns to ask for.
        if !has_answer {
            continue;
        }
        screen.say(&format!("\nsql> {question};"));
        let mut answer = engine.query(question).await?;
        let batches = answer.collect_rows().await?;
        screen.say(&print::table(answer.schema(), &batches)?);
    }
    Ok(())
}

/// Everything that the topics hold at the end.
#[derive(Debug, Default)]
struct Results {
    /// The last word of `candles` on each symbol and minute.
    candles: Candles,
    /// Candles made of `btc_prices` without the pipeline.
    naive: Candles,
    klines: BTreeMap<(String, i64), Bar>,
    averages: BTreeMap<(String, i64), f64>,
    alerts: BTreeSet<(String, i64)>,
}

impl Results {
    async fn read(client: &Client) -> Result<Self> {
        let mut results = Self::default();
        let mut prices: BTreeMap<(String, i64), Vec<Price>> = BTreeMap::new();
        topics::read_all(client, PRICES, |record| {
            if let Some((key, price)) = decoded::<Price>(record) {
                if price.counts() && price.symbol == key {
                    let minute_ms = minute_of(price.event_time_ms);
                    prices.entry((key.to_owned(), minute_ms)).or_default().push(price);
                } else if let Some((key, kline)) = decoded::<Kline>(record) {
                    results
                        .klines
                        .insert((key.to_owned(), kline.open_time_ms), kline.bar());
                }
            }
        })
        .await?;
        results.naive = prices
            .into_iter()
            .map(|(place, prices)| (place, naive_candle(prices)))
            .collect();
        topics::read_all(client, CANDLES, |record| {
            if let Some((key, candle)) = decoded::<Candle>(record) {
                results.candles.insert((key.to_owned(), candle.minute_ms), candle);
            }
        })
        .await?;
        topics::read_all(client, AVERAGES, |record| {
            if let Some((key, average)) = decoded::<MovingAverage>(record) {
                results
                    .averages
                    .insert((key.to_owned(), average.minute_ms), average.average);
            }
        })
        .await?;
        topics::read_all(client, ALERTS, |record| {
            if let Some((key, alert)) = decoded::<VolatilityAlert>(record) {
                results.alerts.insert((key.to_owned(), alert.minute_ms));
            }
        })
        .await?;
        Ok(results)
    }

    fn symbols(&self) -> BTreeSet<&str> {
        let places = self.candles.keys().chain(self.klines.keys());
        places.map(|(symbol, _)| symbol.as_str()).collect()
    }

    /// What is not as it should be, each in a sentence.
    fn problems(&self, rows: &Candles, may_hold_others: bool) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(first_difference(
            "topic `candles`",
            &self.candles,
            &self.naive,
            false,
        ));
        problems.extend(first_difference(
            "the database",
            rows,
            &self.naive,
            may_hold_others,
        ));
        problems
    }

    fn series(&self) -> Vec<Series> {
        let of = |symbol: &str| Series {
            symbol: symbol.to_owned(),
            candles: at(&self.candles, symbol)
                .map(|(minute, it)| (minute, bar(it)))
                .collect(),
            klines: at(&self.klines, symbol)
                .map(|(minute, it)| (minute, *it))
                .collect(),
            averages: at(&self.averages, symbol)
                .map(|(minute, it)| (minute, *it))
                .collect(),
            alerts: self
                .alerts
                .iter()
                .filter(|it| it.0 == symbol)
                .map(|it| it.1)
                .collect(),
        };
        self.symbols().into_iter().map(of).collect()
    }
}

fn at<'a, T>(all: &'a BTreeMap<(String, i64), T>, symbol: &str) -> impl Iterator<Item = (i64, &'a T)> {
    let range = (symbol.to_owned(), i64::MIN)..=(symbol.to_owned(), i64::MAX);
    all.range(range).map(|((_, minute_ms), it)| (*minute_ms, it))
}

fn bar(candle: &Candle) -> Bar {
    Bar {
        open: candle.open,
        high: candle.high,
        low: candle.low,
        close: candle.close,
    }
}

/// The exchange's own candle, as the connector writes it.
#[derive(Debug, serde::Deserialize)]
struct Kline {
    open_time_ms: i64,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
}

impl Kline {
    fn bar(&self) -> Bar {
        Bar {
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
        }
    }
}

/// A candle as the textbook has it: sort by time, then take first, last, largest, smallest. `prices` is not empty.
fn naive_candle(mut prices: Vec<Price>) -> Candle {
    prices.sort_by_key(|price| price.event_time_ms);
    let (first, last) = (&prices[0], &prices[prices.len() - 1]);
    Candle {
        symbol: first.symbol.clone(),
        minute_ms: minute_of(first.event_time_ms),
        open: first.price,
        high: prices.iter().map(|it| it.price).fold(f64::MIN, f64::max),
        low: prices.iter().map(|it| it.price).fold(f64::MAX, f64::min),
        close: last.price,
        ticks: prices.len() as u64,
        first_event_ms: first.event_time_ms,
        last_event_ms: last.event_time_ms,
    }
}

/// Where `found` first differs from what it should hold, in a sentence.
fn first_difference(place: &str, found: &Candles, wanted: &Candles, may_hold_others: bool) -> Option<String> {
    for (key @ (symbol, minute_ms), candle) in wanted {
        let minute = utc::date_and_clock(*minute_ms);
        match found.get(key) {
            None => {
                return Some(format!(
                    "{place} lacks the candle of {symbol} at {minute}: {candle:?}"
                ));
            }
            Some(other) if other != candle => {
                return Some(format!(
                    "{place} differs at {symbol} {minute}: it holds {other:?}, but the prices make {candle:?}"
                ));
            }
            Some(_) => {}
        }
    }
    let extra = found.keys().find(|it| !wanted.contains_key(it));
    let (symbol, minute_ms) = extra.filter(|_| !may_hold_others)?;
    let minute = utc::date_and_clock(*minute_ms);
    Some(format!(
        "{place} holds a candle of {symbol} at {minute} for which there are no prices"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(event_time_ms: i64, price: f64) -> Price {
        Price {
            kind: "price".to_owned(),
            symbol: "BTCUSDT".to_owned(),
            price,
            event_time_ms,
        }
    }

    fn candles(closes: &[f64]) -> Candles {
        let candle = |(minute, close): (usize, &f64)| {
            let minute_ms = minute as i64 * 60_000;
            let candle = naive_candle(vec![price(minute_ms, *close)]);
            (("BTCUSDT".to_owned(), minute_ms), candle)
        };
        closes.iter().enumerate().map(candle).collect()
    }

    #[test]
    fn the_naive_candle_and_the_pipelines_agree_on_any_order_of_distinct_moments() {
        let prices =
            [(30, 3.0), (10, 2.0), (59, 1.5), (20, 9.0), (40, 1.0)].map(|(at, it)| price(at * 1_000, it));
        let mut candle = Candle::default();
        prices.iter().for_each(|it| candle.add(it));
        assert_eq!(naive_candle(prices.to_vec()), candle);
        assert_eq!(
            (candle.open, candle.close, candle.high, candle.low),
            (2.0, 1.5, 9.0, 1.0)
        );
    }

    #[test]
    fn the_first_difference_is_named_whether_missing_wrong_or_too_much() {
        let wanted = candles(&[1.0, 2.0]);
        assert_eq!(first_difference("here", &wanted, &wanted, false), None);
        let missing = first_difference("here", &candles(&[1.0]), &wanted, false).expect("one is missing");
        assert!(
            missing.contains("lacks") && missing.contains("00:01"),
            "{missing}"
        );
        let wrong = first_difference("here", &candles(&[1.0, 2.5]), &wanted, false).expect("one is wrong");
        assert!(wrong.contains("2.5"), "{wrong}");
        let extra = candles(&[1.0, 2.0, 3.0]);
        assert!(first_difference("here", &extra, &wanted, false).is_some());
        assert_eq!(first_difference("here", &extra, &wanted, true), None);
    }
}
