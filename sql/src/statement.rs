//! What a statement asks for, decided on its syntax: read, set, declare, or be refused with a reason.

use datafusion::sql::{
    parser::{DFParser, Statement},
    sqlparser::{
        ast::{self, ObjectName, ObjectType, Set, Statement as Sql},
        dialect::GenericDialect,
    },
};

use crate::{
    complexity::{check_statement, check_text},
    declare::Declaration,
    engine::SCHEMA,
    error::SqlError,
};

/// A statement that has been parsed.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    statement: Statement,
    sql: String,
}

/// What to do.
pub(crate) enum Action {
    /// Plan and run it.
    Plan(Box<Statement>),
    /// Change a setting of the session.
    Set(Box<Statement>),
    /// Remember a table's columns.
    Declare(Box<Declaration>),
    /// Forget declared tables.
    Forget { names: Vec<String>, if_exists: bool },
}

/// Settings a session may change. Not among them: where files are and how much memory there is.
const SETTABLE: [&str; 5] = [
    "datafusion.execution.",
    "datafusion.optimizer.",
    "datafusion.explain.",
    "datafusion.format.",
    "datafusion.sql_parser.",
];

/// The statements in `sql`.
pub(crate) fn parse(sql: &str) -> Result<Vec<Parsed>, SqlError> {
    check_text(sql)?;
    let statements =
        DFParser::parse_sql_with_dialect(sql, &GenericDialect {}).map_err(SqlError::from_datafusion)?;
    statements.iter().try_for_each(check_statement)?;
    Ok(statements
        .into_iter()
        .map(|statement| Parsed {
            statement,
            sql: sql.to_owned(),
        })
        .collect())
}

/// The one statement that is expected.
pub(crate) fn only(mut statements: Vec<Parsed>) -> Result<Parsed, SqlError> {
    match statements.pop() {
        Some(only) if statements.is_empty() => Ok(only),
        Some(_) => Err(SqlError::Several {
            count: statements.len() + 1,
        }),
        None => Err(SqlError::Empty),
    }
}

impl Parsed {
    /// The text it was parsed from.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// What it asks for.
    ///
    /// # Errors
    /// [`SqlError::Refused`] when it would change something.
    pub(crate) fn action(self) -> Result<Action, SqlError> {
        match self.statement {
            Statement::Statement(sql) => sql_action(*sql),
            Statement::Explain(explain) => {
                let inner = Self {
                    statement: (*explain.statement).clone(),
                    sql: String::new(),
                };
                match inner.action()? {
                    Action::Plan(statement) => {
                        let explain = datafusion::sql::parser::ExplainStatement { statement, ..explain };
                        Ok(Action::Plan(Box::new(Statement::Explain(explain))))
                    }
                    _ => Err(refused(&"EXPLAIN", "only what reads has a plan to explain")),
                }
            }
            Statement::Reset(_) => Ok(Action::Set(Box::new(self.statement))),
            Statement::CopyTo(_) => Err(refused(
                &"COPY",
                "queries write no files; `highwater sql --output csv` prints rows, and a file sink keeps writing them",
            )),
            Statement::CreateExternalTable(_) => Err(refused(
                &"CREATE EXTERNAL TABLE",
                "tables are topics; declare columns with CREATE TABLE name (col type, …) WITH (topic = '…')",
            )),
        }
    }
}

fn sql_action(sql: Sql) -> Result<Action, SqlError> {
    let plan = |sql| Ok(Action::Plan(Box::new(Statement::Statement(Box::new(sql)))));
    match sql {
        Sql::Query(_) | Sql::Explain { .. } | Sql::ExplainTable { .. } | Sql::ShowFunctions { .. } => {
            plan(sql)
        }
        Sql::ShowVariable { .. } => plan(sql),
        Sql::ShowTables { .. } => Ok(Action::Plan(Box::new(show_tables()?))),
        Sql::ShowColumns { show_options, .. } => {
            match show_options.show_in.and_then(|show_in| show_in.parent_name) {
                Some(table_name) => plan(describe(table_name)),
                None => Err(refused(
                    &"SHOW COLUMNS",
                    "say of which table: SHOW COLUMNS FROM name",
                )),
            }
        }
        Sql::Set(ref set) => {
            check_settable(set)?;
            Ok(Action::Set(Box::new(Statement::Statement(Box::new(sql)))))
        }
        Sql::CreateTable(create) => Ok(Action::Declare(Box::new(Declaration::from_sql(create)?))),
        Sql::Drop {
            object_type: ObjectType::Table,
            if_exists,
            names,
            ..
        } => {
            let names = names.iter().map(last_part).collect();
            Ok(Action::Forget { names, if_exists })
        }
        Sql::Insert(_) => Err(refused(
            &"INSERT",
            "SQL reads topics and does not write them; use `highwater produce`, a producer or a source connector",
        )),
        Sql::Update { .. } | Sql::Delete(_) | Sql::Merge { .. } | Sql::Truncate { .. } => Err(refused(
            &sql,
            "records in a log are not changed; produce a newer one with the same key",
        )),
        Sql::StartTransaction { .. } | Sql::Commit { .. } | Sql::Rollback { .. } => Err(refused(
            &sql,
            "every query reads its own snapshot; there are no transactions over several",
        )),
        Sql::CreateView { .. } => Err(refused(
            &"CREATE VIEW",
            "views are not kept; use WITH name AS (…) in the query",
        )),
        other => Err(refused(
            &other,
            "SQL over topics reads: SELECT, EXPLAIN, SHOW, DESCRIBE, SET",
        )),
    }
}

/// Topics and declared tables only: the views of information_schema would bury them.
fn show_tables() -> Result<Statement, SqlError> {
    let sql = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = '{SCHEMA}' ORDER BY table_name"
    );
    Ok(only(parse(&sql)?)?.statement)
}

fn describe(table_name: ObjectName) -> Sql {
    Sql::ExplainTable {
        describe_alias: ast::DescribeAlias::Describe,
        hive_format: None,
        has_table_keyword: false,
        table_name,
    }
}

fn check_settable(set: &Set) -> Result<(), SqlError> {
    match set {
        Set::SetTimeZone { .. } => Ok(()),
        Set::SingleAssignment { variable, .. } => {
            let name = variable.to_string().to_lowercase();
            if name == "timezone" || SETTABLE.iter().any(|prefix| name.starts_with(prefix)) {
                return Ok(());
            }
            Err(refused(
                &format!("SET {name}"),
                "a session may set datafusion.execution.*, datafusion.optimizer.*, datafusion.explain.*, datafusion.format.*, datafusion.sql_parser.* and the time zone",
            ))
        }
        other => Err(refused(other, "set one variable at a time: SET name = value")),
    }
}

/// The table's own name, without schema and catalog.
pub(crate) fn last_part(name: &ObjectName) -> String {
    name.0
        .last()
        .and_then(|part| part.as_ident())
        .map(|ident| ident.value.clone())
        .unwrap_or_default()
}

/// Names a statement by its first words.
fn refused(statement: &impl ToString, reason: &'static str) -> SqlError {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(3).collect();
    SqlError::Refused {
        statement: words.join(" "),
        reason,
    }
}
