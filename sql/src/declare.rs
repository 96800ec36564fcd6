//! Declared tables: `CREATE TABLE prices (symbol VARCHAR, price DECIMAL(18, 8)) WITH (topic = 'btc_prices')`.
//!
//! A declaration is for topics whose samples mislead, are empty yet, or whose types JSON cannot tell, such as
//! decimals and timestamps. It says how to read a topic; the topic itself is neither created nor changed, and the
//! declaration lives as long as the engine. The columns of every topic (`_key` …) come with it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::{
    execution::session_state::SessionState,
    logical_expr::{DdlStatement, LogicalPlan},
    sql::{
        parser::Statement,
        sqlparser::ast::{CreateTable, CreateTableOptions, Expr, SqlOption, Statement as Sql, Value},
    },
};
use highwater_types::TopicName;

use crate::{
    catalog::DeclaredTable,
    columns::{MetaColumn, TextOrBinary, TopicColumns, ValueFormat},
    config::Misfits,
    error::SqlError,
    json::decode::is_supported,
    statement::last_part,
};

/// A `CREATE TABLE` statement taken apart.
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) replace: bool,
    options: Vec<SqlOption>,
    create: CreateTable,
}

impl Declaration {
    /// Takes the statement apart; its columns are looked at by [`resolve`].
    pub(crate) fn from_sql(mut create: CreateTable) -> Result<Self, SqlError> {
        let name = last_part(&create.name);
        let problem = |problem: &str| {
            Err(SqlError::Declaration {
                table: name.clone(),
                problem: problem.to_owned(),
            })
        };
        if create.query.is_some() {
            return problem("its rows are those of a topic; CREATE TABLE … AS SELECT has nowhere to write");
        }
        if create.columns.is_empty() {
            return problem(
                "it has no columns; without a declaration a topic's columns are learned from its records",
            );
        }
        let options = match std::mem::take(&mut create.table_options) {
            CreateTableOptions::None => Vec::new(),
            CreateTableOptions::With(options) | CreateTableOptions::Options(options) => options,
            _ => return problem("options are given as WITH (topic = '…')"),
        };
        Ok(Self {
            name,
            replace: create.or_replace,
            options,
            create,
        })
    }
}

/// Finds out what the declaration means.
pub(crate) async fn resolve(
    declaration: Declaration,
    state: &SessionState,
    default_misfits: Misfits,
) -> Result<DeclaredTable, SqlError> {
    let Declaration {
        name,
        options,
        create,
        ..
    } = declaration;
    let problem = |problem: String| SqlError::Declaration {
        table: name.clone(),
        problem,
    };
    let (mut topic, mut misfits) = (name.clone(), default_misfits);
    for option in options {
        let (key, value) =
            key_and_value(&option).ok_or_else(|| problem(format!("option {option} is not key = 'value'")))?;
        match (key.to_lowercase().as_str(), value.as_str()) {
            ("topic", value) => topic = value.to_owned(),
            ("misfits", "null") => misfits = Misfits::Null,
            ("misfits", "fail") => misfits = Misfits::Fail,
            ("misfits", other) => {
                return Err(problem(format!(
                    "misfits = '{other}' is neither 'null' nor 'fail'"
                )));
            }
            ("format", "json") => {}
            ("format", other) => {
                return Err(problem(format!(
                    "format '{other}' is not known; values are read as 'json'"
                )));
            }
            (other, _) => {
                return Err(problem(format!(
                    "option {other} is not known; there are topic, misfits and format"
                )));
            }
        }
    }
    let topic = TopicName::new(topic).map_err(|error| problem(error.to_string()))?;
    let statement = Statement::Statement(Box::new(Sql::CreateTable(create)));
    let plan = state
        .statement_to_plan(statement)
        .await
        .map_err(SqlError::from_datafusion)?;
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)) = plan else {
        return Err(problem("not a plain CREATE TABLE".to_owned()));
    };
    let fields = table
        .input
        .schema()
        .fields()
        .iter()
        .map(|field| json_field(field).map_err(problem));
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let columns = TopicColumns::new(&ValueFormat::Json(fields), TextOrBinary::default());
    Ok(DeclaredTable {
        topic,
        columns: Arc::new(columns),
        misfits,
    })
}

fn json_field(field: &FieldRef) -> Result<FieldRef, String> {
    if MetaColumn::from_name(field.name()).is_some() {
        return Err(format!(
            "column {} is there by itself; leave it out",
            field.name()
        ));
    }
    let data_type = match field.data_type() {
        // A moment without a zone is a moment of UTC, and shown as one, as the log's own timestamps are.
        DataType::Timestamp(TimeUnit::Nanosecond, None) => {
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
        }
        DataType::Timestamp(unit, None) => DataType::Timestamp(*unit, Some("UTC".into())),
        other => other.clone(),
    };
    if !is_supported(&data_type) {
        return Err(format!(
            "column {} has type {data_type}, which JSON values are not read as; use BOOLEAN, an integer, REAL, DOUBLE, \
             DECIMAL(p, s), VARCHAR, DATE, TIMESTAMP, or an array or struct of them",
            field.name()
        ));
    }
    Ok(Arc::new(Field::new(field.name(), data_type, true)))
}

fn key_and_value(option: &SqlOption) -> Option<(String, String)> {
    let SqlOption::KeyValue { key, value } = option else {
        return None;
    };
    let value = match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            _ => return None,
        },
        Expr::Identifier(ident) => ident.value.clone(),
        _ => return None,
    };
    Some((key.value.clone(), value))
}
