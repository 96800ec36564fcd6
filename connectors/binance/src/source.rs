//! The plugin and its task.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use highwater_connect_api::{
    ConfigDef, ConfigProblem, Settings, SourceContext, SourcePlugin, SourceRecord, SourceTask, TaskError,
};
use tokio::time::Instant;

use crate::api::Api;
use crate::records::{TIME_FIELD, kline_record, partition_of, price_record};
use crate::settings::{BinanceSettings, CONFIG, Stream};

/// Symbols in one request, as the exchange allows.
const MAX_SYMBOLS_PER_REQUEST: usize = 100;
/// Klines in one page, as the exchange allows.
const KLINES_PER_PAGE: u16 = 1_000;
/// How long a task pauses when it used its share of the weight; the exchange's window is a minute.
const WEIGHT_PAUSE: Duration = Duration::from_secs(10);

/// The plugin `binance`.
#[derive(Debug, Default)]
pub struct BinanceSource;

#[async_trait]
impl SourcePlugin for BinanceSource {
    fn name(&self) -> &'static str {
        "binance"
    }

    fn about(&self) -> &'static str {
        "Spot prices and klines of Binance, polled over HTTP; key = symbol, event time from the exchange."
    }

    fn config(&self) -> ConfigDef {
        CONFIG
    }

    fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        let problem = |key: &str, message: &str| ConfigProblem {
            key: key.to_owned(),
            message: message.to_owned(),
        };
        let Ok(settings) = settings.read::<BinanceSettings>() else {
            return Vec::new(); // The table of settings has named the problem.
        };
        let mut problems = Vec::new();
        if settings.symbols.is_empty() {
            problems.push(problem(
                "symbols",
                "is empty; name at least one symbol, such as BTCUSDT",
            ));
        }
        if settings.streams.is_empty() {
            problems.push(problem("streams", "is empty; choose prices, klines or both"));
        }
        if let Some(message) = problem_of_base_url(&settings.base_url) {
            problems.push(problem("base_url", message));
        }
        problems
    }

    async fn task_settings(&self, settings: &Settings, tasks_max: usize) -> Result<Vec<Settings>, TaskError> {
        let all: BinanceSettings = read(settings)?;
        let per_task = all.symbols.len().div_ceil(tasks_max.max(1)).max(1);
        Ok(all
            .symbols
            .chunks(per_task)
            .map(|share| settings.clone().with("symbols", share.to_vec()))
            .collect())
    }

    fn task(&self) -> Box<dyn SourceTask> {
        Box::new(BinanceTask { work: None })
    }
}

/// Whoever may write a configuration makes this process send requests. What an address answers is never repeated
/// unless it is the exchange's own form of an error; hosts that hand out credentials to whoever asks are not asked.
fn problem_of_base_url(base_url: &str) -> Option<&'static str> {
    const METADATA_HOSTS: [&str; 2] = ["metadata.google.internal", "instance-data"];
    let Ok(url) = reqwest::Url::parse(base_url) else {
        return Some("is no URL; write it as https://host");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Some("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some("must hold no user and no password: messages name this address");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Some("must end with the host or a path, without ? and #");
    }
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches([']', '.']);
    let is_link_local = match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|address| address.is_link_local())
                || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        Err(_) => METADATA_HOSTS.contains(&bare),
    };
    is_link_local.then_some("names a machine's metadata service, which is no exchange")
}

fn read(settings: &Settings) -> Result<BinanceSettings, TaskError> {
    settings
        .read()
        .map_err(|error| TaskError::fatal(error, "run the configuration check"))
}

struct BinanceTask {
    work: Option<Work>,
}

struct Work {
    settings: BinanceSettings,
    api: Api,
    connector: String,
    /// Exchange time of the last price per symbol, in milliseconds.
    last_price_ms: BTreeMap<String, i64>,
    /// Open time of the last closed kline per symbol, in milliseconds.
    last_kline_ms: BTreeMap<String, i64>,
    next_prices: Instant,
    next_klines: Instant,
}

#[async_trait]
impl SourceTask for BinanceTask {
    async fn start(&mut self, context: SourceContext, settings: &Settings) -> Result<(), TaskError> {
        let settings: BinanceSettings = read(settings)?;
        let stored = |stream: &str| -> BTreeMap<String, i64> {
            settings
                .symbols
                .iter()
                .filter_map(|symbol| {
                    let offset = context.offsets.get(&partition_of(stream, symbol))?;
                    Some((symbol.clone(), offset.integer(TIME_FIELD)?))
                })
                .collect()
        };
        let now = Instant::now();
        self.work = Some(Work {
            last_price_ms: stored("prices"),
            last_kline_ms: stored("klines"),
            api: Api::new(&settings)?,
            connector: context.connector,
            settings,
            next_prices: now,
            next_klines: now,
        });
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError> {
        match &mut self.work {
            Some(work) => work.poll().await,
            None => Err(TaskError::fatal(
                "the task was polled before it was started",
                "report this as a bug",
            )),
        }
    }

    async fn stop(&mut self) {
        self.work = None;
    }
}

impl Work {
    fn wants(&self, stream: Stream) -> bool {
        self.settings.streams.contains(&stream)
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError> {
        let next = match (self.wants(Stream::Prices), self.wants(Stream::Klines)) {
            (true, true) => self.next_prices.min(self.next_klines),
            (true, false) => self.next_prices,
            (false, _) => self.next_klines,
        };
        tokio::time::sleep_until(next).await;
        self.spare_the_exchange().await;
        let mut records = Vec::new();
        let now = Instant::now();
        // The next time is set before the request, so that a failing request is not repeated hot.
        if self.wants(Stream::Prices) && self.next_prices <= now {
            self.next_prices = now + self.settings.poll_interval;
            self.poll_prices(&mut records).await?;
        }
        if self.wants(Stream::Klines) && self.next_klines <= now {
            self.next_klines = now + self.settings.klines_poll_interval;
            self.poll_klines(&mut records).await?;
        }
        Ok(records)
    }

    async fn spare_the_exchange(&self) {
        let (used, ceiling) = (self.api.used_weight(), self.settings.weight_ceiling());
        if used > ceiling {
            tracing::warn!(connector = %self.connector, used, ceiling, "slowing down for the exchange's rate limit");
            tokio::time::sleep(WEIGHT_PAUSE).await;
        }
    }

    async fn poll_prices(&mut self, records: &mut Vec<SourceRecord>) -> Result<(), TaskError> {
        for symbols in self.settings.symbols.chunks(MAX_SYMBOLS_PER_REQUEST) {
            for ticker in self.api.tickers(symbols).await? {
                // The same moment twice is the same price twice.
                let last = self.last_price_ms.get(&ticker.symbol).copied();
                if last.is_some_and(|last| ticker.close_time <= last) {
                    continue;
                }
                self.last_price_ms
                    .insert(ticker.symbol.clone(), ticker.close_time);
                records.push(price_record(&ticker, self.settings.decimals));
            }
        }
        Ok(())
    }

    /// Fetches the klines that closed since the last poll, page by page; a failure keeps what was fetched.
    async fn poll_klines(&mut self, records: &mut Vec<SourceRecord>) -> Result<(), TaskError> {
        let now_ms = self.api.server_time_ms().await?;
        for symbol in self.settings.symbols.clone() {
            loop {
                let last = self.last_kline_ms.get(&symbol).copied();
                let (start_ms, limit) = match last {
                    Some(last) => (Some(last + 1), KLINES_PER_PAGE),
                    None => (
                        None,
                        self.settings
                            .klines_backfill
                            .saturating_add(1)
                            .min(KLINES_PER_PAGE),
                    ),
                };
                let page = self
                    .api
                    .klines(&symbol, &self.settings.interval, start_ms, limit)
                    .await?;
                let is_full = start_ms.is_some() && page.len() == usize::from(limit);
                for kline in page.iter().filter(|kline| kline.close_time_ms() < now_ms) {
                    self.last_kline_ms.insert(symbol.clone(), kline.open_time_ms());
                    records.push(kline_record(
                        &symbol,
                        &self.settings.interval,
                        kline,
                        self.settings.decimals,
                    ));
                }
                if !is_full || self.api.used_weight() > self.settings.weight_ceiling() {
                    break;
                }
            }
        }
        Ok(())
    }
}
