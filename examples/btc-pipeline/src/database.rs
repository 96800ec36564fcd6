//! The database behind the candles: SQLite in the data directory, or a PostgreSQL of the user's.
//!
//! The connector writes it; here it is only named, and read at the end to see that every candle arrived.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::topology::Candle;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ROWS: &str =
    "select symbol, minute_ms, open, high, low, close, ticks, first_event_ms, last_event_ms from candles";

/// Where candles end up.
#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    /// The URL may hold a password and is never shown.
    Postgres(String),
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

/// Candles by symbol and minute.
pub(crate) type Candles = BTreeMap<(String, i64), Candle>;

macro_rules! candle_of {
    ($row:expr) => {
        Candle {
            symbol: $row.try_get(0)?,
            minute_ms: $row.try_get(1)?,
            open: $row.try_get(2)?,
            high: $row.try_get(3)?,
            low: $row.try_get(4)?,
            close: $row.try_get(5)?,
            ticks: u64::try_from($row.try_get::<i64, _>(6)?)?,
            first_event_ms: $row.try_get(7)?,
            last_event_ms: $row.try_get(8)?,
        }
    };
}

impl Database {
    /// For the connector's `url`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => sqlite_url(path),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// For people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(_) => "table `candles` of the given PostgreSQL".to_owned(),
        }
    }

    /// Whether other runs, with other data directories, may have written there too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Fails early where the connector would try again for minutes.
    ///
    /// # Errors
    /// When there is no connection to be had.
    pub(crate) async fn check(&self) -> Result<()> {
        if let Self::Postgres(url) = self {
            connect(url).await?.close().await?;
        }
        Ok(())
    }

    /// All rows; none where there is no table yet.
    ///
    /// # Errors
    /// When the database does not answer, or a row is no candle.
    pub(crate) async fn candles(&self) -> Result<Candles> {
        let candles = match self {
            Self::Sqlite(path) => from_sqlite(path)
                .await
                .context("cannot read candles from SQLite")?,
            Self::Postgres(url) => from_postgres(url)
                .await
                .context("cannot read candles from PostgreSQL")?,
        };
        Ok(candles
            .into_iter()
            .map(|candle| ((candle.symbol.clone(), candle.minute_ms), candle))
            .collect())
    }
}

async fn connect(url: &str) -> Result<PgConnection> {
    let advice = "cannot connect to PostgreSQL; check the URL given with --postgres";
    tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect(url))
        .await
        .context(advice)?
        .context(advice)
}

async fn from_postgres(url: &str) -> Result<Vec<Candle>> {
    let mut connection = connect(url).await?;
    let there: bool = sqlx::query("select to_regclass('candles') is not null")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    let mut candles = Vec::new();
    if there {
        for row in sqlx::query(ROWS).fetch_all(&mut connection).await? {
            candles.push(candle_of!(row));
        }
    }
    connection.close().await?;
    Ok(candles)
}

async fn from_sqlite(path: &Path) -> Result<Vec<Candle>> {
    if !path.try_exists()? {
        return Ok(Vec::new());
    }
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
    let there: bool = sqlx::query("select count(*) > 0 from pragma_table_info('candles')")
        .fetch_one(&mut connection)
        .await?
        .try_get(0)?;
    let mut candles = Vec::new();
    if there {
        for row in sqlx::query(ROWS).fetch_all(&mut connection).await? {
            candles.push(candle_of!(row));
        }
    }
    connection.close().await?;
    Ok(candles)
}

/// A path may hold what means something in a URL.
fn sqlite_url(path: &Path) -> String {
    let path = path.display().to_string();
    let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite:{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_nobody_wrote_to_has_no_candles() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("100% new?.db");
        assert!(
            Database::Sqlite(path.clone())
                .candles()
                .await
                .expect("no file")
                .is_empty()
        );
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let mut connection = options.connect().await.expect("a new file");
        assert!(
            Database::Sqlite(path.clone())
                .candles()
                .await
                .expect("no table")
                .is_empty()
        );
        sqlx::query("create table candles (symbol, minute_ms, open, high, low, close, ticks, first_event_ms, last_event_ms)")
            .execute(&mut connection)
            .await
            .expect("a table");
        sqlx::query("insert into candles values ('BTCUSDT', 60000, 1.5, 2.0, 1.0, 1.25, 4, 60001, 119999)")
            .execute(&mut connection)
            .await
            .expect("a row");
        let candles = Database::Sqlite(path).candles().await.expect("a candle");
        let candle = &candles[&("BTCUSDT".to_owned(), 60_000)];
        assert_eq!((candle.open, candle.close, candle.ticks), (1.5, 1.25, 4));
    }

    #[tokio::test]
    async fn the_url_of_a_path_names_that_path_whatever_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("100% new?.db");
        let options: SqliteConnectOptions = sqlite_url(&path).parse().expect("a URL");
        let options = options.create_if_missing(true);
        let connection = options.connect().await.expect("a new file");
        connection.close().await.expect("closed");
        assert!(path.try_exists().expect("a readable directory"));
    }
}
