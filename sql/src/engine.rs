//! The engine and its sessions: from a statement's text to a stream of rows.
//!
//! Refuses: writing. A statement that would change data, files or topics is named and refused before it is planned;
//! the one thing that can be created is a declaration of columns, which lives in the engine's memory.
//!
//! # Invariants
//! - Each statement is planned anew, so that it sees the log as of its start, and runs in a memory pool of its own.
//! - Dropping a result's stream stops everything that works for it.

use std::{fmt, sync::Arc};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider},
    common::ParamValues,
    error::DataFusionError,
    execution::{
        SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
        session_state::SessionState,
    },
    logical_expr::{ColumnarValue, LogicalPlan, ScalarFunctionImplementation, Volatility, create_udf},
    physical_plan::execute_stream,
    prelude::{SQLOptions, SessionConfig, SessionContext},
    scalar::ScalarValue,
};
use highwater_client::Client;

use crate::{
    bounded,
    catalog::TopicCatalog,
    config::EngineConfig,
    declare,
    error::SqlError,
    hint,
    reader::{ClientReader, TopicReader},
    report::QueryReport,
    result::QueryResult,
    statement::{Action, Parsed, only, parse},
};

/// Name of the catalog all topics are in.
pub const CATALOG: &str = "highwater";
/// Name of the schema all topics are in.
pub const SCHEMA: &str = "public";

/// Consumers named in the message of a query that ran out of memory.
const CONSUMERS_IN_MESSAGE: std::num::NonZeroUsize =
    std::num::NonZeroUsize::new(3).expect("three is not zero");

/// Answers SQL over the topics of a cluster. Cheap to clone; clones share what is known about topics.
#[derive(Clone)]
pub struct Engine {
    catalog: Arc<TopicCatalog>,
    config: Arc<EngineConfig>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("catalog", &self.catalog)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that reads through `client`. Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// [`SqlError::Declaration`] when one of `config.declared_tables` does not declare a table.
    pub async fn new(client: Client, config: EngineConfig) -> Result<Self, SqlError> {
        Self::over(Arc::new(ClientReader::new(client)), config).await
    }

    pub(crate) async fn over(reader: Arc<dyn TopicReader>, config: EngineConfig) -> Result<Self, SqlError> {
        let catalog = Arc::new(TopicCatalog::new(reader, &config));
        let engine = Self {
            catalog,
            config: Arc::new(config),
        };
        engine.declare_tables().await?;
        Ok(engine)
    }

    async fn declare_tables(&self) -> Result<(), SqlError> {
        // A session costs megabytes of functions and rules; a node that nobody asks in SQL never makes one.
        if self.config.declared_tables.is_empty() {
            return Ok(());
        }
        let session = self.session();
        for declaration in &self.config.declared_tables {
            match only(parse(declaration)?)?.action()? {
                Action::Declare(table) => session.declare(*table).await?,
                _ => {
                    return Err(SqlError::Declaration {
                        table: declaration.clone(),
                        problem: "not a CREATE TABLE statement".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// A session: settings made with SET last as long as it.
    pub fn session(&self) -> Session {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_target_partitions(self.config.target_partitions);
        let options = config.options_mut();
        // JSON fields and topics are case-sensitive; folding names to lower case would hide half of them.
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        let context = SessionContext::new_with_config(config);
        let catalog = MemoryCatalogProvider::new();
        catalog
            .register_schema(SCHEMA, self.catalog.clone())
            .expect("a memory catalog takes every schema");
        context.register_catalog(CATALOG, Arc::new(catalog));
        bounded::register(&context);
        Session {
            engine: self.clone(),
            context,
        }
    }

    /// Runs one statement in a session of its own.
    ///
    /// # Errors
    /// [`SqlError`] when it cannot be planned; what goes wrong later comes out of the result's stream.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, SqlError> {
        self.session().query(sql).await
    }

    /// Names of the tables: topics except internal ones, and declared tables.
    ///
    /// # Errors
    /// [`SqlError::Read`] when the cluster does not answer.
    pub async fn tables(&self) -> Result<Vec<String>, SqlError> {
        self.catalog.refresh_names(true).await?;
        Ok(self.catalog.table_names())
    }

    fn runtime(&self) -> Result<Arc<RuntimeEnv>, DataFusionError> {
        let pool = FairSpillPool::new(self.config.memory_limit_bytes);
        let disk = DiskManagerBuilder::default();
        let disk = match self.config.spill_limit_bytes {
            0 => disk.with_mode(DiskManagerMode::Disabled),
            limit => disk.with_max_temp_directory_size(limit),
        };
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, CONSUMERS_IN_MESSAGE)))
            .with_disk_manager_builder(disk)
            .build_arc()
    }
}

/// Statements that share settings. Clones are the same session.
#[derive(Clone)]
pub struct Session {
    engine: Engine,
    context: SessionContext,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// A statement that was planned once, to learn its parameters and columns.
#[derive(Debug, Clone)]
pub struct Prepared {
    parsed: Parsed,
    /// Types of `$1`, `$2` …; `None` where nothing tells.
    pub parameters: Vec<Option<DataType>>,
    /// The columns it will give.
    pub schema: SchemaRef,
}

impl Session {
    /// Runs one statement.
    ///
    /// # Errors
    /// [`SqlError`] when it cannot be planned; what goes wrong later comes out of the result's stream.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, SqlError> {
        self.run(self.parse(sql).await?, Vec::new()).await
    }

    /// Plans one statement to learn its parameters and columns.
    ///
    /// # Errors
    /// [`SqlError`] when it cannot be planned.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, SqlError> {
        let parsed = self.parse(sql).await?;
        let (parameters, schema) = match parsed.clone().action()? {
            Action::Plan(statement) => {
                let (_, plan) = self.plan(*statement, parsed.sql()).await?;
                let types = plan.get_parameter_types().map_err(SqlError::from_datafusion)?;
                let mut names: Vec<_> = types.into_iter().collect();
                // $2 comes before $10.
                names.sort_by_key(|(name, _)| {
                    name.trim_start_matches('$')
                        .parse::<usize>()
                        .unwrap_or(usize::MAX)
                });
                let parameters = names.into_iter().map(|(_, data_type)| data_type).collect();
                (parameters, Arc::new(plan.schema().as_arrow().clone()))
            }
            Action::Set(_) | Action::Declare(_) | Action::Forget { .. } => {
                (Vec::new(), Arc::new(Schema::empty()))
            }
        };
        Ok(Prepared {
            parsed,
            parameters,
            schema,
        })
    }

    /// Runs a prepared statement with values for its parameters.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub(crate) async fn execute(
        &self,
        prepared: &Prepared,
        parameters: Vec<ScalarValue>,
    ) -> Result<QueryResult, SqlError> {
        self.run(prepared.parsed.clone(), parameters).await
    }

    async fn parse(&self, sql: &str) -> Result<Parsed, SqlError> {
        // For hints about the names of topics.
        self.engine.catalog.refresh_names(false).await?;
        let parsed = parse(sql).and_then(only);
        parsed.map_err(|error| hint::at_parsing(error, sql, &self.engine.catalog.table_names()))
    }

    async fn run(&self, parsed: Parsed, parameters: Vec<ScalarValue>) -> Result<QueryResult, SqlError> {
        match parsed.clone().action()? {
            Action::Plan(statement) => {
                let (state, plan) = self.plan(*statement, parsed.sql()).await?;
                let plan = if parameters.is_empty() {
                    plan
                } else {
                    plan.with_param_values(ParamValues::from(parameters))
                        .map_err(SqlError::from_datafusion)?
                };
                self.start(state, &plan).await
            }
            Action::Set(statement) => {
                let plan = self.context.state().statement_to_plan(*statement).await;
                let done = match plan {
                    Ok(plan) => self.context.execute_logical_plan(plan).await.map(drop),
                    Err(error) => Err(error),
                };
                done.map_err(SqlError::from_datafusion)?;
                Ok(QueryResult::done("SET"))
            }
            Action::Declare(table) => {
                self.declare(*table).await?;
                Ok(QueryResult::done("CREATE TABLE"))
            }
            Action::Forget { names, if_exists } => {
                for name in names {
                    if !self.engine.catalog.forget(&name) && !if_exists {
                        return Err(SqlError::Refused {
                            statement: format!("DROP TABLE {name}"),
                            reason: "only tables declared with CREATE TABLE can be dropped; `highwater topic \
                                     delete` deletes topics",
                        });
                    }
                }
                Ok(QueryResult::done("DROP TABLE"))
            }
        }
    }

    /// Plans a statement that reads.
    async fn plan(
        &self,
        statement: datafusion::sql::parser::Statement,
        sql: &str,
    ) -> Result<(SessionState, LogicalPlan), SqlError> {
        self.engine.catalog.refresh_names(false).await?;
        let runtime = self.engine.runtime().map_err(SqlError::from_datafusion)?;
        let mut state = SessionStateBuilder::new_from_existing(self.context.state())
            .with_runtime_env(runtime)
            .build();
        state.config_mut().set_extension(Arc::new(QueryReport::default()));
        let plan = match state.statement_to_plan(statement).await {
            Ok(plan) => plan,
            Err(error) => {
                let error = SqlError::from_datafusion(error);
                return Err(hint::at_planning(error, sql, &self.engine.catalog.table_names()));
            }
        };
        // The second lock on the door: what the parser's tree did not show, the plan does.
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        read_only.verify_plan(&plan).map_err(SqlError::from_datafusion)?;
        Ok((state, plan))
    }

    async fn start(&self, mut state: SessionState, plan: &LogicalPlan) -> Result<QueryResult, SqlError> {
        let report = state.config().get_extension::<QueryReport>().unwrap_or_default();
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let optimized = state.optimize(plan).map_err(SqlError::from_datafusion)?;
        let wanted = state.config().batch_size();
        let rows = bounded::batch_rows(&optimized, wanted).map_err(SqlError::from_datafusion)?;
        *state.config_mut() = state.config().clone().with_batch_size(rows);
        let planner = Arc::clone(state.query_planner());
        let physical = planner
            .create_physical_plan(&optimized, &state)
            .await
            .and_then(bounded::guard)
            .map_err(SqlError::from_datafusion)?;
        let stream = execute_stream(physical, state.task_ctx()).map_err(SqlError::from_datafusion)?;
        Ok(QueryResult::rows(
            schema,
            stream,
            report,
            self.engine.config.max_rows,
        ))
    }

    /// Defines a function without arguments, by all of its names, that gives a constant text.
    pub(crate) fn define_constant(&self, names: &[&str], value: &str) {
        let value = ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned())));
        let function: ScalarFunctionImplementation = Arc::new(move |_: &[ColumnarValue]| Ok(value.clone()));
        for name in names {
            self.context.register_udf(create_udf(
                name,
                Vec::new(),
                DataType::Utf8,
                Volatility::Stable,
                function.clone(),
            ));
        }
    }

    async fn declare(&self, table: declare::Declaration) -> Result<(), SqlError> {
        let (name, replace) = (table.name.clone(), table.replace);
        let declared = declare::resolve(table, &self.context.state(), self.engine.config.misfits).await?;
        self.engine.catalog.declare(name, declared, replace)
    }
}
