//! The plugin and its task.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use highwater_connect_api::{
    ConfigDef, ConfigProblem, RejectedRecord, Settings, SinkContext, SinkError, SinkPlugin, SinkRecord,
    SinkTask, TaskError,
};
use serde_json::{Map, Value};

use crate::dialect::{Column, ColumnType};
use crate::rows::{Change, Row, field_types, rejection, rows_of};
use crate::settings::{CONFIG, DatabaseSettings, PkMode};
use crate::store::{Failure, Statement, Store};

/// The plugin `database`.
#[derive(Debug, Default)]
pub struct DatabaseSink;

#[async_trait]
impl SinkPlugin for DatabaseSink {
    fn name(&self) -> &'static str {
        "database"
    }

    fn about(&self) -> &'static str {
        "Rows of PostgreSQL or SQLite, upserted by key; the fields of a JSON value are the columns."
    }

    fn config(&self) -> ConfigDef {
        CONFIG
    }

    fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        let problem = |key: &str, message: &str| ConfigProblem {
            key: key.to_owned(),
            message: message.to_owned(),
        };
        let settings: DatabaseSettings = match settings.read() {
            Ok(settings) => settings,
            Err(error) => return vec![problem("settings", &error.to_string())],
        };
        let mut problems = Vec::new();
        if settings.pk_mode != PkMode::None && settings.pk_fields.is_empty() {
            problems.push(problem(
                "pk_fields",
                "is empty; name the key's columns, or set pk_mode = \"none\"",
            ));
        }
        if settings.delete_enabled && settings.pk_mode != PkMode::RecordKey {
            problems.push(problem(
                "delete_enabled",
                "needs pk_mode = \"record_key\": a tombstone has only a key",
            ));
        }
        if !["postgres:", "postgresql:", "sqlite:"]
            .iter()
            .any(|scheme| settings.url.starts_with(scheme))
        {
            problems.push(problem("url", "must begin with postgres:// or sqlite:"));
        }
        problems
    }

    fn task(&self) -> Box<dyn SinkTask> {
        Box::new(DatabaseTask { work: None })
    }
}

struct DatabaseTask {
    work: Option<Work>,
}

struct Work {
    settings: DatabaseSettings,
    store: Store,
    /// Columns of the tables seen so far.
    tables: HashMap<String, Vec<Column>>,
}

#[async_trait]
impl SinkTask for DatabaseTask {
    async fn start(&mut self, context: SinkContext, settings: &Settings) -> Result<(), TaskError> {
        let settings: DatabaseSettings = settings
            .read()
            .map_err(|error| TaskError::fatal(error, "run the configuration check"))?;
        let store = Store::connect(&settings.url).await?;
        tracing::info!(connector = %context.connector, task = context.task, database = ?store.dialect(), "connected");
        self.work = Some(Work {
            settings,
            store,
            tables: HashMap::new(),
        });
        Ok(())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<(), SinkError> {
        match &mut self.work {
            Some(work) => work.put(records).await,
            None => Err(
                TaskError::fatal("records came before the task was started", "report this as a bug").into(),
            ),
        }
    }

    /// Every `put` commits its own transaction, so there is nothing left to make durable.
    async fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn stop(&mut self) {
        if let Some(work) = self.work.take() {
            work.store.close().await;
        }
    }
}

impl Work {
    async fn put(&mut self, records: &[SinkRecord]) -> Result<(), SinkError> {
        let (rows, mut rejected) = rows_of(records, &self.settings);
        let mut by_table: BTreeMap<String, Vec<Row<'_>>> = BTreeMap::new();
        for row in rows {
            by_table.entry(row.table.clone()).or_default().push(row);
        }
        for (table, rows) in &by_table {
            self.prepare_table(table, rows).await?;
            match self.store.execute(&self.statements(table, rows)?).await {
                Ok(()) => {}
                Err(Failure::Data(_)) => rejected.extend(self.put_one_by_one(table, rows).await?),
                Err(Failure::Task(error)) => return Err(self.forget(table, error).into()),
            }
        }
        if rejected.is_empty() {
            Ok(())
        } else {
            Err(SinkError::Rejected(rejected))
        }
    }

    /// A failed statement may mean that the table changed under us: look at it again next time.
    fn forget(&mut self, table: &str, error: TaskError) -> TaskError {
        self.tables.remove(table);
        error
    }

    async fn put_one_by_one(
        &mut self,
        table: &str,
        rows: &[Row<'_>],
    ) -> Result<Vec<RejectedRecord>, TaskError> {
        let mut rejected = Vec::new();
        for row in rows {
            match self
                .store
                .execute(&self.statements(table, std::slice::from_ref(row))?)
                .await
            {
                Ok(()) => {}
                Err(Failure::Data(reason)) => rejected.push(rejection(row.record, reason)),
                Err(Failure::Task(error)) => return Err(self.forget(table, error)),
            }
        }
        Ok(rejected)
    }

    /// Makes sure that the table has the columns of the rows, as far as the settings allow.
    async fn prepare_table(&mut self, table: &str, rows: &[Row<'_>]) -> Result<(), TaskError> {
        if !self.tables.contains_key(table) {
            let columns = self.store.columns(table).await?;
            self.tables.insert(table.to_owned(), columns);
        }
        let known = &self.tables[table];
        let missing: Vec<(String, ColumnType)> = field_types(rows)
            .into_iter()
            .filter(|(name, _)| !known.iter().any(|column| column.name == *name))
            .map(|(name, kind)| {
                let kind = self.settings.columns.get(&name).copied().unwrap_or(kind);
                (name, kind)
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let dialect = self.store.dialect();
        let changes: Vec<String> = match (
            known.is_empty(),
            self.settings.auto_create,
            self.settings.auto_evolve,
        ) {
            (true, true, _) => vec![dialect.create_table(table, &missing, &self.key())],
            (true, false, _) => {
                return Err(TaskError::fatal(
                    format!("there is no table {table}"),
                    "create it, or set auto_create = true",
                ));
            }
            (false, _, true) => missing
                .iter()
                .map(|(name, kind)| dialect.add_column(table, name, *kind))
                .collect(),
            (false, _, false) => {
                let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
                return Err(TaskError::fatal(
                    format!("table {table} has no column {}", names.join(", ")),
                    "add it, set auto_evolve = true, or list the wanted ones in fields",
                ));
            }
        };
        tracing::info!(
            table,
            changes = changes.join("; "),
            "changing the table to fit the records"
        );
        let changes: Vec<Statement> = changes
            .into_iter()
            .map(|sql| Statement { sql, rows: None })
            .collect();
        let outcome = self.store.execute(&changes).await;
        // Another task may have made the same change first; what counts is what is there now.
        let columns = self.store.columns(table).await?;
        let complete = missing
            .iter()
            .all(|(name, _)| columns.iter().any(|column| column.name == *name));
        self.tables.insert(table.to_owned(), columns);
        match outcome {
            Err(Failure::Task(error)) if !complete => Err(error),
            Err(Failure::Data(reason)) if !complete => Err(TaskError::retriable(reason)),
            _ => Ok(()),
        }
    }

    fn key(&self) -> Vec<String> {
        if self.settings.pk_mode == PkMode::None {
            Vec::new()
        } else {
            self.settings.pk_fields.clone()
        }
    }

    /// One statement per set of fields, then one for the deletions. The rows have distinct keys, so their order
    /// does not matter.
    fn statements(&self, table: &str, rows: &[Row<'_>]) -> Result<Vec<Statement>, TaskError> {
        let dialect = self.store.dialect();
        let mut writes: BTreeMap<Vec<&str>, Vec<&Map<String, Value>>> = BTreeMap::new();
        let mut deletions: Vec<&Map<String, Value>> = Vec::new();
        for row in rows {
            match &row.change {
                Change::Write(fields) => {
                    writes
                        .entry(fields.keys().map(String::as_str).collect())
                        .or_default()
                        .push(fields);
                }
                Change::Delete(key) => deletions.push(key),
            }
        }
        let mut statements = Vec::new();
        for (fields, rows) in writes {
            let columns = self.columns_named(table, fields.into_iter());
            statements.push(Statement {
                sql: dialect.write(table, &columns, &self.key()),
                rows: Some(json_of(&rows)?),
            });
        }
        if !deletions.is_empty() && !self.tables[table].is_empty() {
            let columns = self.columns_named(table, self.settings.pk_fields.iter().map(String::as_str));
            statements.push(Statement {
                sql: dialect.delete(table, &columns),
                rows: Some(json_of(&deletions)?),
            });
        }
        Ok(statements)
    }

    fn columns_named<'a>(&self, table: &str, names: impl Iterator<Item = &'a str>) -> Vec<Column> {
        names
            .filter_map(|name| {
                self.tables[table]
                    .iter()
                    .find(|column| column.name == name)
                    .cloned()
            })
            .collect()
    }
}

fn json_of(rows: &[&Map<String, Value>]) -> Result<String, TaskError> {
    serde_json::to_string(rows).map_err(TaskError::retriable)
}
