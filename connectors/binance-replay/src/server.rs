//! The HTTP server: the public market-data paths under `/api/v3/`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::faults::{Fault, Faults, error_body};
use crate::process::{Bar, PriceProcess};

/// How much request weight one minute allows, as the exchange documents it.
const WEIGHT_LIMIT_PER_MINUTE: u64 = 6_000;
/// Symbols in one request.
const MAX_SYMBOLS: usize = 100;
/// Klines in one answer.
const MAX_KLINES: i64 = 1_000;

/// What a stand-in is to be.
#[derive(Debug, Clone)]
pub struct ReplayConfig {
    /// Where to listen; port 0 picks a free one.
    pub bind: SocketAddr,
    /// Seed of the price process.
    pub seed: u64,
    /// The exchange's time at the start, in milliseconds since the epoch.
    pub start_time_ms: i64,
    /// Exchange seconds per second.
    pub speed: f64,
    /// Symbols that are traded; any other is invalid.
    pub symbols: Vec<String>,
}

/// A running stand-in. Dropping it stops it.
#[derive(Debug)]
pub struct Replay {
    address: SocketAddr,
    exchange: Arc<Exchange>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Exchange {
    process: PriceProcess,
    symbols: Vec<String>,
    clock: Mutex<Clock>,
    faults: Faults,
    requests: AtomicU64,
    weight: Mutex<(Instant, u64)>,
}

type Parameters = Query<HashMap<String, String>>;

impl Replay {
    /// Starts to serve.
    pub async fn start(config: ReplayConfig) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(config.bind).await?;
        let address = listener.local_addr()?;
        let exchange = Arc::new(Exchange {
            process: PriceProcess::new(config.seed),
            symbols: config.symbols,
            clock: Mutex::new(Clock::new(config.start_time_ms, config.speed, Instant::now())),
            faults: Faults::default(),
            requests: AtomicU64::new(0),
            weight: Mutex::new((Instant::now(), 0)),
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let app = router(Arc::clone(&exchange));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the stand-in for the exchange stopped");
            }
        });
        tracing::info!(%address, seed = config.seed, "serving simulated prices; this is not the real exchange");
        Ok(Self {
            address,
            exchange,
            stop,
        })
    }

    /// The URL to give to the connector.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The exchange's time, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.exchange.now_ms()
    }

    /// From now on the exchange's time stands still while nobody asks: between two requests it runs for at most
    /// `patience` of real time. A client that is late, or not there yet, then misses nothing.
    pub fn wait_for_clients(&self, patience: Duration) {
        self.exchange.clock().wait_for_clients(patience, Instant::now());
    }

    /// Requests served so far, faulty ones included.
    pub fn requests(&self) -> u64 {
        self.exchange.requests.load(Ordering::Relaxed)
    }

    /// Makes the next `times` requests fail in this way.
    pub fn inject(&self, fault: &Fault, times: usize) {
        self.exchange.faults.add(fault, times);
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn router(exchange: Arc<Exchange>) -> Router {
    Router::new()
        .route("/api/v3/ping", get(async || axum::Json(json!({}))))
        .route("/api/v3/time", get(time))
        .route("/api/v3/exchangeInfo", get(exchange_info))
        .route("/api/v3/ticker/price", get(ticker_price))
        .route("/api/v3/ticker/bookTicker", get(book_ticker))
        .route("/api/v3/ticker/24hr", get(ticker_24hr))
        .route("/api/v3/klines", get(klines))
        .route("/api/v3/uiKlines", get(klines))
        .layer(axum::middleware::from_fn_with_state(
            Arc::clone(&exchange),
            around,
        ))
        .with_state(exchange)
}

/// What happens around every request: counting, faults, the weight header, the honest server name.
async fn around(
    State(exchange): State<Arc<Exchange>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    exchange.requests.fetch_add(1, Ordering::Relaxed);
    exchange.clock().asked(Instant::now());
    let weight = weight_of(request.uri().path());
    let used = exchange.use_weight(weight);
    let faulty = match exchange.faults.next() {
        Some(fault) => fault.answer().await,
        None if used > WEIGHT_LIMIT_PER_MINUTE => Fault::RateLimited { retry_after_s: 60 }.answer().await,
        None => None,
    };
    let mut response = match faulty {
        Some(answer) => answer,
        None => next.run(request).await,
    };
    response.headers_mut().insert("x-mbx-used-weight-1m", used.into());
    response.headers_mut().insert("x-mbx-used-weight", used.into());
    response
        .headers_mut()
        .insert("server", HeaderValue::from_static("binance-replay"));
    response
}

fn weight_of(path: &str) -> u64 {
    match path {
        "/api/v3/ping" | "/api/v3/time" => 1,
        "/api/v3/exchangeInfo" => 20,
        "/api/v3/ticker/price" | "/api/v3/ticker/bookTicker" => 4,
        _ => 2,
    }
}

async fn time(State(exchange): State<Arc<Exchange>>) -> axum::Json<Value> {
    axum::Json(json!({ "serverTime": exchange.now_ms() }))
}

async fn exchange_info(State(exchange): State<Arc<Exchange>>) -> axum::Json<Value> {
    let symbols: Vec<Value> = exchange
        .symbols
        .iter()
        .map(|symbol| {
            let (base, quote) = symbol.split_at(symbol.len().saturating_sub(4));
            json!({ "symbol": symbol, "status": "TRADING", "baseAsset": base, "quoteAsset": quote })
        })
        .collect();
    axum::Json(json!({
        "timezone": "UTC",
        "serverTime": exchange.now_ms(),
        "rateLimits": [{
            "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
            "limit": WEIGHT_LIMIT_PER_MINUTE
        }],
        "exchangeFilters": [],
        "symbols": symbols,
    }))
}

async fn ticker_price(State(exchange): State<Arc<Exchange>>, parameters: Parameters) -> Response {
    exchange.for_symbols(&parameters, |symbol, now_ms| {
        json!({ "symbol": symbol, "price": decimal(exchange.process.price(symbol, now_ms)) })
    })
}

async fn book_ticker(State(exchange): State<Arc<Exchange>>, parameters: Parameters) -> Response {
    exchange.for_symbols(&parameters, |symbol, now_ms| {
        let price = exchange.process.price(symbol, now_ms);
        json!({
            "symbol": symbol, "bidPrice": decimal(price * 0.999_9), "bidQty": decimal(1.5),
            "askPrice": decimal(price * 1.000_1), "askQty": decimal(1.25),
        })
    })
}

async fn ticker_24hr(State(exchange): State<Arc<Exchange>>, parameters: Parameters) -> Response {
    const DAY_MS: i64 = 86_400_000;
    let mini = parameters.get("type").is_some_and(|kind| kind == "MINI");
    exchange.for_symbols(&parameters, |symbol, now_ms| {
        let open_time_ms = now_ms - DAY_MS;
        let last = exchange.process.price(symbol, now_ms);
        let bar = exchange.process.bar(symbol, open_time_ms, DAY_MS, now_ms);
        let (open, high, low, volume, trades) =
            bar.map_or((last, last, last, 0.0, 0), |b| (b.open, b.high.max(last), b.low.min(last), b.volume, b.trades));
        let mut ticker = json!({
            "symbol": symbol, "openPrice": decimal(open), "highPrice": decimal(high), "lowPrice": decimal(low),
            "lastPrice": decimal(last), "volume": decimal(volume), "quoteVolume": decimal(volume * last),
            "openTime": open_time_ms, "closeTime": now_ms, "firstId": 0, "lastId": trades, "count": trades,
        });
        if !mini {
            ticker["priceChange"] = json!(decimal(last - open));
            ticker["priceChangePercent"] = json!(format!("{:.3}", (last / open - 1.0) * 100.0));
            ticker["weightedAvgPrice"] = json!(decimal((open + last) / 2.0));
            ticker["prevClosePrice"] = json!(decimal(open));
            ticker["lastQty"] = json!(decimal(0.01));
            ticker["bidPrice"] = json!(decimal(last * 0.999_9));
            ticker["bidQty"] = json!(decimal(1.5));
            ticker["askPrice"] = json!(decimal(last * 1.000_1));
            ticker["askQty"] = json!(decimal(1.25));
        }
        ticker
    })
}

async fn klines(State(exchange): State<Arc<Exchange>>, parameters: Parameters) -> Response {
    let Some(symbol) = parameters.get("symbol") else {
        return missing("symbol");
    };
    if !exchange.symbols.contains(symbol) {
        return invalid_symbol();
    }
    let Some(interval) = parameters.get("interval") else {
        return missing("interval");
    };
    let Some(length_ms) = interval_ms(interval) else {
        return error_body(StatusCode::BAD_REQUEST, -1120, "Invalid interval.");
    };
    let number = |name: &str| parameters.get(name).map(|text| text.parse::<i64>());
    let (Ok(start), Ok(end), Ok(limit)) = (
        number("startTime").transpose(),
        number("endTime").transpose(),
        number("limit").transpose(),
    ) else {
        return error_body(
            StatusCode::BAD_REQUEST,
            -1100,
            "Illegal characters found in a parameter.",
        );
    };
    let limit = limit.unwrap_or(500).clamp(1, MAX_KLINES);
    let now_ms = exchange.now_ms();
    let end_ms = end.unwrap_or(now_ms).min(now_ms);
    // With a start the oldest bars come first; without one, the newest.
    let first = match start {
        Some(start) => (start + length_ms - 1).div_euclid(length_ms) * length_ms,
        None => end_ms.div_euclid(length_ms) * length_ms - (limit - 1) * length_ms,
    };
    let bars: Vec<Value> = (0..limit)
        .map(|index| first + index * length_ms)
        .take_while(|open_time_ms| *open_time_ms <= end_ms)
        .filter_map(|open_time_ms| exchange.process.bar(symbol, open_time_ms, length_ms, now_ms))
        .map(|bar| kline(&bar))
        .collect();
    axum::Json(Value::Array(bars)).into_response()
}

fn kline(bar: &Bar) -> Value {
    json!([
        bar.open_time_ms,
        decimal(bar.open),
        decimal(bar.high),
        decimal(bar.low),
        decimal(bar.close),
        decimal(bar.volume),
        bar.close_time_ms,
        decimal(bar.volume * bar.close),
        bar.trades,
        decimal(bar.volume / 2.0),
        decimal(bar.volume * bar.close / 2.0),
        "0"
    ])
}

/// The length of an interval that the exchange knows; weeks and months are left to the real one.
fn interval_ms(interval: &str) -> Option<i64> {
    const MINUTE_MS: i64 = 60_000;
    Some(match interval {
        "1s" => 1_000,
        "1m" => MINUTE_MS,
        "3m" => 3 * MINUTE_MS,
        "5m" => 5 * MINUTE_MS,
        "15m" => 15 * MINUTE_MS,
        "30m" => 30 * MINUTE_MS,
        "1h" => 60 * MINUTE_MS,
        "2h" => 120 * MINUTE_MS,
        "4h" => 240 * MINUTE_MS,
        "6h" => 360 * MINUTE_MS,
        "8h" => 480 * MINUTE_MS,
        "12h" => 720 * MINUTE_MS,
        "1d" => 1_440 * MINUTE_MS,
        _ => return None,
    })
}

/// Prices and amounts travel as text with eight decimals.
fn decimal(number: f64) -> String {
    format!("{number:.8}")
}

fn missing(parameter: &str) -> Response {
    let message = format!("Mandatory parameter '{parameter}' was not sent, was empty/null, or malformed.");
    error_body(StatusCode::BAD_REQUEST, -1102, &message)
}

fn invalid_symbol() -> Response {
    error_body(StatusCode::BAD_REQUEST, -1121, "Invalid symbol.")
}

impl Exchange {
    fn now_ms(&self) -> i64 {
        self.clock().time_ms(Instant::now())
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Clock> {
        // A panic elsewhere leaves the clock whole: every change of it is a plain assignment.
        self.clock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn use_weight(&self, weight: u64) -> u64 {
        // A panic elsewhere leaves a count that is at most one request off.
        let mut window = self
            .weight
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.0.elapsed() >= Duration::from_secs(60) {
            *window = (Instant::now(), 0);
        }
        window.1 += weight;
        window.1
    }

    /// One object for `symbol`, an array for `symbols` or for neither.
    fn for_symbols(&self, parameters: &Parameters, item: impl Fn(&str, i64) -> Value) -> Response {
        let now_ms = self.now_ms();
        if let Some(symbol) = parameters.get("symbol") {
            if !self.symbols.contains(symbol) {
                return invalid_symbol();
            }
            return axum::Json(item(symbol, now_ms)).into_response();
        }
        let wanted = match parameters.get("symbols") {
            None => self.symbols.clone(),
            Some(list) => match serde_json::from_str::<Vec<String>>(list) {
                Ok(symbols) if symbols.len() <= MAX_SYMBOLS => symbols,
                Ok(_) | Err(_) => {
                    return error_body(
                        StatusCode::BAD_REQUEST,
                        -1100,
                        "Illegal characters found in parameter 'symbols'; legal range is a JSON array.",
                    );
                }
            },
        };
        if wanted.iter().any(|symbol| !self.symbols.contains(symbol)) {
            return invalid_symbol();
        }
        axum::Json(Value::Array(
            wanted.iter().map(|symbol| item(symbol, now_ms)).collect(),
        ))
        .into_response()
    }
}
