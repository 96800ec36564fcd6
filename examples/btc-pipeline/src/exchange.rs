//! Where prices come from: Binance, or a stand-in of ours when Binance cannot be reached.
//!
//! The stand-in's clock belongs to the data directory. It starts a week back, runs faster than real time, and stands
//! still while nobody asks it: a run goes on one instant after the last price in the log, so that neither a pause nor
//! `kill -9` nor a machine out of breath leaves a minute without prices. It never overtakes the wall clock, since a broker refuses records from
//! the future; a directory that has caught up goes on in real time.
//!
//! # Invariants
//! - One data directory holds prices of one exchange: real and simulated prices never meet.
//! - The stand-in's prices depend on its seed and on the exchange's time alone, so a restart continues the same curve.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use highwater_binance_replay::{Replay, ReplayConfig};
use serde::{Deserialize, Serialize};

use crate::topology::minute_of;

/// Binance's host for market data alone: no key, and no geo block in most places.
pub(crate) const BINANCE_URL: &str = "https://data-api.binance.vision";
/// How long Binance may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How far in the past a new stand-in starts.
const HEAD_START_MS: i64 = 7 * 24 * 3_600 * 1_000;
/// The exchange's time between the last price of one run and the first of the next.
const RESUME_STEP_MS: i64 = 1_000;
/// How long the stand-in's time runs on when nobody asks for prices: a few polls.
const PATIENCE: Duration = Duration::from_millis(300);
const ORIGIN_FILE: &str = "exchange.json";

/// Which exchange a data directory belongs to, as kept in its `exchange.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "exchange", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// Binance itself.
    Binance,
    /// Our stand-in.
    StandIn {
        /// Seed of its prices.
        seed: u64,
        /// The exchange's time at the very first start, in milliseconds since the epoch.
        start_time_ms: i64,
    },
}

/// What the choice depends on.
#[derive(Debug)]
pub(crate) struct Wishes<'a> {
    /// Where the data lies, if the user said so; else each exchange has a directory below `default_dir`.
    pub(crate) data_dir: Option<&'a Path>,
    pub(crate) default_dir: &'a Path,
    pub(crate) offline: bool,
    pub(crate) binance_url: &'a str,
    pub(crate) seed: u64,
    pub(crate) now_ms: i64,
}

/// The exchange of this run and the directory that belongs to it.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) origin: Origin,
    pub(crate) data_dir: PathBuf,
    /// Why it is this one, in a sentence.
    pub(crate) reason: String,
}

/// Chooses Binance where it can be reached, else the stand-in; a directory that has data keeps its exchange.
///
/// # Errors
/// When the directory holds real prices and there are none to be had, or cannot be used.
pub(crate) async fn choose(wishes: &Wishes<'_>) -> Result<Choice> {
    let kept = match wishes.data_dir {
        Some(data_dir) => read_origin(data_dir)?,
        None => None,
    };
    if let (Some(origin @ Origin::StandIn { .. }), Some(data_dir)) = (&kept, wishes.data_dir) {
        return Ok(Choice {
            origin: origin.clone(),
            data_dir: data_dir.to_owned(),
            reason: "this data directory began with simulated prices and goes on with them".to_owned(),
        });
    }
    let unreachable = match wishes.offline {
        true => Some("--offline".to_owned()),
        false => ping(wishes.binance_url).await.err(),
    };
    let Some(reason) = unreachable else {
        let data_dir = wishes.directory("binance");
        keep_origin(&data_dir, Origin::Binance)?;
        return Ok(Choice {
            origin: Origin::Binance,
            data_dir,
            reason: format!("{} answers", wishes.binance_url),
        });
    };
    if let (Some(Origin::Binance), Some(data_dir)) = (kept, wishes.data_dir) {
        bail!(
            "{} holds real prices, and none can be fetched now ({reason}); \
             try again later, or simulate in another --data-dir",
            data_dir.display()
        );
    }
    let data_dir = wishes.directory("stand-in");
    let fresh = Origin::StandIn {
        seed: wishes.seed,
        start_time_ms: minute_of(wishes.now_ms - HEAD_START_MS),
    };
    Ok(Choice {
        origin: keep_origin(&data_dir, fresh)?,
        data_dir,
        reason,
    })
}

impl Wishes<'_> {
    fn directory(&self, exchange: &str) -> PathBuf {
        match self.data_dir {
            Some(data_dir) => data_dir.to_owned(),
            None => self.default_dir.join(exchange),
        }
    }
}

fn read_origin(data_dir: &Path) -> Result<Option<Origin>> {
    let path = data_dir.join(ORIGIN_FILE);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| {
            format!(
                "{} is not readable; restore it or choose another --data-dir",
                path.display()
            )
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// What the directory remembers, or `fresh` if it is new. Renamed into place, so that a kill leaves all or nothing.
fn keep_origin(data_dir: &Path, fresh: Origin) -> Result<Origin> {
    if let Some(kept) = read_origin(data_dir)? {
        return Ok(kept);
    }
    let path = data_dir.join(ORIGIN_FILE);
    let draft = path.with_extension("json.new");
    std::fs::create_dir_all(data_dir)
        .and_then(|()| std::fs::write(&draft, serde_json::to_vec_pretty(&fresh)?))
        .and_then(|()| std::fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fresh)
}

/// Whether Binance serves us; if not, why not, in a few words.
async fn ping(base_url: &str) -> Result<(), String> {
    // A second installation finds the first and is refused: either way a provider is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(PING_TIMEOUT)
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("{}/api/v3/ping", base_url.trim_end_matches('/'));
    match client.get(&url).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) if answer.status().as_u16() == 451 => {
            Err(format!("{base_url} does not serve this location (451)"))
        }
        Ok(answer) => Err(format!("{base_url} answers {}", answer.status())),
        Err(error) if error.is_timeout() => Err(format!("{base_url} does not answer")),
        Err(_) => Err(format!("{base_url} cannot be reached")),
    }
}

/// An exchange to poll.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// For the connector's `base_url`.
    pub(crate) base_url: String,
    /// For the connector's `poll_interval`.
    pub(crate) poll_interval: &'static str,
    /// For the connector's `klines_poll_interval`.
    pub(crate) klines_poll_interval: &'static str,
    /// Exchange seconds per second.
    pub(crate) speed: f64,
    /// Serves until dropped.
    pub(crate) stand_in: Option<Replay>,
}

/// How a run meets its exchange.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) binance_url: &'a str,
    /// Exchange seconds per second that a stand-in should run at.
    pub(crate) speed: f64,
    pub(crate) duration: Duration,
    /// The latest event time in the log, if there is any.
    pub(crate) last_event_ms: Option<i64>,
    pub(crate) symbols: &'a [String],
    pub(crate) now_ms: i64,
}

impl Origin {
    /// Binance as it is, or the stand-in from where it stood.
    ///
    /// # Errors
    /// When no local port can be had.
    pub(crate) async fn open(&self, session: &Session<'_>) -> Result<Exchange> {
        let Self::StandIn { seed, start_time_ms } = *self else {
            return Ok(Exchange {
                base_url: session.binance_url.to_owned(),
                poll_interval: "1s",
                klines_poll_interval: "10s",
                speed: 1.0,
                stand_in: None,
            });
        };
        let start_time_ms = session
            .last_event_ms
            .map_or(start_time_ms, |last| last + RESUME_STEP_MS);
        let speed = session.affordable_speed(start_time_ms);
        let stand_in = Replay::start(ReplayConfig {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            seed,
            start_time_ms,
            speed,
            symbols: session.symbols.to_vec(),
        })
        .await
        .context("cannot start the stand-in for the exchange")?;
        stand_in.wait_for_clients(PATIENCE);
        Ok(Exchange {
            base_url: stand_in.base_url(),
            poll_interval: "100ms",
            klines_poll_interval: "1s",
            speed,
            stand_in: Some(stand_in),
        })
    }
}

impl Session<'_> {
    /// The wanted speed, or what is left of it so that the run ends no later than now; real time at least.
    fn affordable_speed(&self, start_time_ms: i64) -> f64 {
        let room_ms = (self.now_ms - start_time_ms) as f64;
        let run_ms = (self.duration.as_millis() as f64).max(1.0);
        self.speed.min(room_ms / run_ms).max(self.speed.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn wishes<'a>(data_dir: Option<&'a Path>, default_dir: &'a Path) -> Wishes<'a> {
        Wishes {
            data_dir,
            default_dir,
            offline: true,
            binance_url: BINANCE_URL,
            seed: 7,
            now_ms: NOW_MS,
        }
    }

    fn session(last_event_ms: Option<i64>) -> Session<'static> {
        Session {
            binance_url: BINANCE_URL,
            speed: 60.0,
            duration: Duration::from_secs(60),
            last_event_ms,
            symbols: &[],
            now_ms: NOW_MS,
        }
    }

    #[tokio::test]
    async fn a_directory_keeps_its_seed_and_start_whatever_is_wished_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = choose(&wishes(Some(dir.path()), dir.path()))
            .await
            .expect("offline");
        let later = Wishes {
            seed: 8,
            now_ms: NOW_MS + 1_000_000,
            offline: false,
            ..wishes(Some(dir.path()), dir.path())
        };
        assert_eq!(
            choose(&later).await.expect("no ping is needed").origin,
            first.origin
        );
    }

    #[tokio::test]
    async fn real_and_simulated_prices_never_share_a_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        keep_origin(dir.path(), Origin::Binance).expect("a new directory");
        let refusal = choose(&wishes(Some(dir.path()), dir.path()))
            .await
            .expect_err("real prices");
        assert!(refusal.to_string().contains("another --data-dir"), "{refusal}");
        let choice = choose(&wishes(None, dir.path()))
            .await
            .expect("a directory of its own");
        assert_eq!(choice.data_dir, dir.path().join("stand-in"));
    }

    #[tokio::test]
    async fn a_stand_in_goes_on_right_after_the_last_price() {
        let origin = Origin::StandIn {
            seed: 7,
            start_time_ms: NOW_MS - HEAD_START_MS,
        };
        let last = NOW_MS - HEAD_START_MS + 12_345_678;
        let exchange = origin.open(&session(Some(last))).await.expect("a free port");
        let resumed_ms = exchange.stand_in.as_ref().expect("no real exchange").now_ms();
        assert!((last + 1..last + 60_000).contains(&resumed_ms), "{resumed_ms}");
    }

    #[test]
    fn a_stand_in_that_has_caught_up_slows_down_to_real_time() {
        assert_eq!(session(None).affordable_speed(NOW_MS - HEAD_START_MS), 60.0);
        assert_eq!(session(None).affordable_speed(NOW_MS - 600_000), 10.0);
        assert_eq!(session(None).affordable_speed(NOW_MS + 5), 1.0);
    }

    #[tokio::test]
    async fn a_ping_tells_a_served_place_from_a_refused_one() {
        let config = ReplayConfig {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            seed: 7,
            start_time_ms: NOW_MS,
            speed: 1.0,
            symbols: Vec::new(),
        };
        let server = Replay::start(config).await.expect("a free port");
        assert_eq!(ping(&server.base_url()).await, Ok(()));
        server.inject(&highwater_binance_replay::Fault::Restricted, 1);
        let refusal = ping(&server.base_url()).await.expect_err("restricted");
        assert!(refusal.contains("451"), "{refusal}");
    }
}
