//! Requests to the exchange, and what their failures mean.

use std::time::Duration;

use highwater_connect_api::TaskError;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::records::{Kline, Ticker};
use crate::settings::BinanceSettings;

/// An answer longer than this is refused: 1,000 klines take about 200 kB.
const MAX_BODY_BYTES: usize = 4 << 20;
/// How much of an error body is repeated to people.
const MAX_ERROR_CHARS: usize = 200;
/// Wait after 418 that names no time: the shortest ban the exchange documents.
const SHORTEST_BAN: Duration = Duration::from_secs(120);

/// The exchange as one task sees it.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    base_url: String,
    used_weight: u32,
}

impl Api {
    pub(crate) fn new(settings: &BinanceSettings) -> Result<Self, TaskError> {
        // A second installation finds the first and is refused: either way a provider is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(settings.timeout)
            // The exchange sends nobody elsewhere; another host could, to one that only this machine reaches.
            .redirect(Policy::none())
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| TaskError::fatal(describe(&error), "check the machine's TLS set-up"))?;
        let base_url = settings.base_url.trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            base_url,
            used_weight: 0,
        })
    }

    /// Request weight used in the present minute, as the exchange last said.
    pub(crate) fn used_weight(&self) -> u32 {
        self.used_weight
    }

    /// Tickers of several symbols in one request.
    pub(crate) async fn tickers(&mut self, symbols: &[String]) -> Result<Vec<Ticker>, TaskError> {
        let list = serde_json::to_string(symbols).map_err(TaskError::retriable)?;
        self.get("/api/v3/ticker/24hr", &[("type", "MINI"), ("symbols", &list)])
            .await
    }

    /// Klines of one symbol; with a start the oldest first, without one the newest.
    pub(crate) async fn klines(
        &mut self,
        symbol: &str,
        interval: &str,
        start_ms: Option<i64>,
        limit: u16,
    ) -> Result<Vec<Kline>, TaskError> {
        let limit = limit.to_string();
        let start = start_ms.map(|start| start.to_string());
        let mut query = vec![("symbol", symbol), ("interval", interval), ("limit", &limit)];
        if let Some(start) = &start {
            query.push(("startTime", start));
        }
        self.get("/api/v3/klines", &query).await
    }

    /// The exchange's clock, in milliseconds since the epoch.
    pub(crate) async fn server_time_ms(&mut self) -> Result<i64, TaskError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Time {
            server_time: i64,
        }
        Ok(self.get::<Time>("/api/v3/time", &[]).await?.server_time)
    }

    async fn get<T: DeserializeOwned>(&mut self, path: &str, query: &[(&str, &str)]) -> Result<T, TaskError> {
        let url = format!("{}{path}", self.base_url);
        let response = self
            .client
            .get(&url)
            .query(query)
            .send()
            .await
            .map_err(|error| TaskError::retriable(format!("{url}: {}", describe(&error))))?;
        if let Some(used) = number_header(&response, "x-mbx-used-weight-1m") {
            self.used_weight = u32::try_from(used).unwrap_or(u32::MAX);
        }
        let status = response.status();
        let retry_after = number_header(&response, header::RETRY_AFTER.as_str()).map(Duration::from_secs);
        let body = bounded_body(response)
            .await
            .map_err(|reason| TaskError::retriable(format!("{url}: {reason}")))?;
        if !status.is_success() {
            return Err(failure(&url, status, retry_after, &body));
        }
        // Where, but not what: a text that is no answer of the exchange may be anybody's secret.
        serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            TaskError::retriable(format!(
                "{url}: the answer is malformed at line {line}, column {column}"
            ))
        })
    }
}

async fn bounded_body(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| describe(&error))? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(format!("the answer is longer than {MAX_BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn number_header(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.trim().parse().ok()
}

/// What an error status means for the task.
fn failure(url: &str, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> TaskError {
    #[derive(serde::Deserialize)]
    struct Body {
        code: i64,
        msg: String,
    }
    let (code, message) = match serde_json::from_slice::<Body>(body) {
        Ok(body) => (body.code, body.msg),
        Err(_) => (
            0,
            format!("{} bytes that the exchange would not send", body.len()),
        ),
    };
    let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
    let reason = format!("{url} answered {status} (code {code}): {message}");
    match (status.as_u16(), code) {
        (451, _) => TaskError::fatal(
            reason,
            format!(
                "the exchange does not serve this location; try base_url = \"{}\"",
                crate::settings::DEFAULT_BASE_URL
            ),
        ),
        (418, _) => TaskError::Retriable {
            reason,
            retry_after: Some(retry_after.unwrap_or(SHORTEST_BAN)),
        },
        (429, _) => TaskError::Retriable { reason, retry_after },
        (_, -1121) => TaskError::fatal(
            reason,
            "check the list of symbols against the exchange's exchangeInfo",
        ),
        (_, -1120) => TaskError::fatal(reason, "choose an interval that the exchange knows, such as 1m"),
        (400..=499, _) => TaskError::fatal(
            reason,
            "the exchange refuses the request itself; check the settings",
        ),
        _ => TaskError::Retriable { reason, retry_after },
    }
}

/// An error with its causes, without the URL's query (it may be long).
fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "timed out".to_owned()
    } else {
        String::new()
    };
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        cause = error.source();
        if cause.is_none() {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
        }
    }
    text
}
