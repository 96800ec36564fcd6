//! The two databases behind one small door: columns, statements in a transaction, and what a failure means.

use std::time::Duration;

use highwater_connect_api::TaskError;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row as _};

use crate::dialect::{Column, Dialect, quoted_table};

/// How long a connection may take, and how long SQLite waits for another writer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One statement and its JSON parameter, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) rows: Option<String>,
}

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The data does not fit; other rows may.
    Data(String),
    /// Anything that concerns the whole task.
    Task(TaskError),
}

/// An open database.
#[derive(Debug)]
pub(crate) enum Store {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Store {
    /// Connects to what `url` names.
    pub(crate) async fn connect(url: &str) -> Result<Self, TaskError> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" => {
                let options = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_TIMEOUT);
                let pool = options
                    .connect(url)
                    .await
                    .map_err(|error| connect_error(&error))?;
                Ok(Self::Postgres(pool))
            }
            "sqlite" => {
                let options: SqliteConnectOptions =
                    url.parse().map_err(|error: sqlx::Error| connect_error(&error))?;
                // Acknowledged rows survive a power cut: the group's offsets say they are there.
                let options = options
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(CONNECT_TIMEOUT);
                let pool = SqlitePoolOptions::new()
                    .max_connections(1)
                    .connect_with(options)
                    .await;
                Ok(Self::Sqlite(pool.map_err(|error| connect_error(&error))?))
            }
            _ => Err(TaskError::fatal(
                format!("no database speaks the scheme `{scheme}`"),
                "write postgres://user:password@host/database or sqlite:FILE",
            )),
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// The columns of a table; none if there is no such table.
    pub(crate) async fn columns(&self, table: &str) -> Result<Vec<Column>, TaskError> {
        const POSTGRES: &str = "select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute a \
             where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped order by a.attnum";
        const SQLITE: &str = "select name, type from pragma_table_info(?1)";
        let column = |name: Result<String, sqlx::Error>, sql_type: Result<String, sqlx::Error>| {
            Ok::<_, sqlx::Error>(Column {
                name: name?,
                sql_type: sql_type?,
            })
        };
        let columns: Result<Vec<Column>, sqlx::Error> = match self {
            Self::Postgres(pool) => {
                let rows = sqlx::query(POSTGRES)
                    .bind(quoted_table(table))
                    .fetch_all(pool)
                    .await;
                rows.and_then(|rows| {
                    rows.iter()
                        .map(|row| column(row.try_get(0), row.try_get(1)))
                        .collect()
                })
            }
            Self::Sqlite(pool) => {
                let rows = sqlx::query(SQLITE).bind(table).fetch_all(pool).await;
                rows.and_then(|rows| {
                    rows.iter()
                        .map(|row| column(row.try_get(0), row.try_get(1)))
                        .collect()
                })
            }
        };
        columns.map_err(|error| match classify(&error) {
            Failure::Task(error) => error,
            Failure::Data(reason) => TaskError::retriable(reason),
        })
    }

    /// Executes statements in one transaction: all of them happen, or none.
    pub(crate) async fn execute(&self, statements: &[Statement]) -> Result<(), Failure> {
        let outcome = match self {
            Self::Postgres(pool) => execute_postgres(pool, statements).await,
            Self::Sqlite(pool) => execute_sqlite(pool, statements).await,
        };
        outcome.map_err(|error| classify(&error))
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

// The text of a statement is made by `dialect`, which quotes every identifier; data travels as a parameter.
async fn execute_postgres(pool: &PgPool, statements: &[Statement]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for statement in statements {
        let query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
        let query = statement.rows.iter().fold(query, |query, rows| query.bind(rows));
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn execute_sqlite(pool: &SqlitePool, statements: &[Statement]) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    for statement in statements {
        let query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
        let query = statement.rows.iter().fold(query, |query, rows| query.bind(rows));
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

fn connect_error(error: &sqlx::Error) -> TaskError {
    match error {
        sqlx::Error::Configuration(_) => TaskError::fatal(error, "correct the url"),
        sqlx::Error::Database(database) if database.code().is_some_and(|code| code.starts_with("28")) => {
            TaskError::fatal(error, "correct the user or password in the url")
        }
        sqlx::Error::Database(database) if database.code().is_some_and(|code| code == "3D000") => {
            TaskError::fatal(error, "create the database, or correct its name in the url")
        }
        other => TaskError::retriable(other),
    }
}

fn classify(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = error else {
        return Failure::Task(TaskError::retriable(error));
    };
    let code = database.code().unwrap_or_default().into_owned();
    let message = database.message().to_owned();
    if database
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return match code.get(..2) {
            Some("22" | "23") => Failure::Data(message),
            Some("08" | "40" | "53" | "55" | "57" | "58") => Failure::Task(TaskError::retriable(message)),
            _ => Failure::Task(TaskError::fatal(
                format!("PostgreSQL refuses the statement ({code}): {message}"),
                "check the table, its columns and the user's rights",
            )),
        };
    }
    // The low byte of SQLite's extended code is the primary one.
    match code.parse::<i32>().unwrap_or(0) & 0xff {
        19 | 20 | 25 => Failure::Data(message), // constraint, mismatch, range
        5 | 6 | 7 | 10 | 13 => Failure::Task(TaskError::retriable(message)), // busy, locked, memory, I/O, full
        _ => Failure::Task(TaskError::fatal(
            format!("SQLite refuses the statement ({code}): {message}"),
            "check the file, the table and its columns",
        )),
    }
}
