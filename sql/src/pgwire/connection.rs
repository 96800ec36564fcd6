//! One connection: a session of the engine behind both query protocols.

use std::{collections::VecDeque, fmt::Debug, sync::Arc};

use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch, into_pg_type};
use async_trait::async_trait;
use futures::{Sink, SinkExt, StreamExt, stream};
use pgwire::{
    api::{
        ClientInfo, ClientPortalStore, ConnectionManager, Type,
        auth::noop::NoopStartupHandler,
        portal::{Format, Portal},
        query::{ExtendedQueryHandler, SimpleQueryHandler},
        results::{FieldInfo, QueryResponse, Response, Tag},
        stmt::QueryParser,
        store::PortalStore,
    },
    error::{ErrorInfo, PgWireError, PgWireResult},
    messages::{PgWireBackendMessage, response::NoticeResponse},
};

use super::{
    courtesy::{self, Reply},
    parameters,
};
use crate::{Engine, Prepared, QueryResult, Session, SqlError};

/// Batches looked at before the first row is sent. A result that ends within them can be preceded by its warnings,
/// and until they are there the client can cancel.
const PEEKED_BATCHES: usize = 4;

/// One client's session.
pub(super) struct Connection {
    session: Session,
    cancels: Arc<ConnectionManager>,
}

/// A statement as the extended protocol keeps it between parsing and running.
#[derive(Clone)]
pub(super) enum Statement {
    Courtesy(Reply),
    Sql(Arc<Prepared>),
}

impl Connection {
    pub(super) fn new(engine: &Engine, cancels: Arc<ConnectionManager>) -> Self {
        let session = engine.session();
        for (names, value) in courtesy::constants() {
            session.define_constant(names, &value);
        }
        Self { session, cancels }
    }

    /// Turns a result into a response, its first batches read.
    async fn respond<C>(
        &self,
        client: &mut C,
        mut result: QueryResult,
        format: &Format,
    ) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        PgWireError: From<C::Error>,
    {
        if let Some(command) = result.command() {
            return Ok(Response::Execution(Tag::new(command)));
        }
        let fields = Arc::new(arrow_schema_to_pg_fields(result.schema(), format, None)?);
        let mut peeked = VecDeque::new();
        let mut has_ended = false;
        while peeked.len() < PEEKED_BATCHES && !has_ended {
            match result.next().await.transpose().map_err(|error| to_wire(&error))? {
                Some(batch) => peeked.push_back(batch),
                None => has_ended = true,
            }
        }
        for warning in result.warnings() {
            let notice = ErrorInfo::new("WARNING".to_owned(), "01000".to_owned(), warning);
            client
                .feed(PgWireBackendMessage::NoticeResponse(NoticeResponse::from(notice)))
                .await?;
        }
        let rest = result.map(|batch| batch.map_err(|error| to_wire(&error)));
        let rows = stream::iter(peeked.into_iter().map(Ok)).chain(rest);
        let encoded = fields.clone();
        let rows = rows.flat_map(move |batch: PgWireResult<RecordBatch>| match batch {
            Ok(batch) => stream::iter(encode_recordbatch(encoded.clone(), batch).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(error)]),
        });
        Ok(Response::Query(QueryResponse::new(fields, rows)))
    }
}

fn courtesy_response(reply: &Reply, format: &Format) -> PgWireResult<Response> {
    Ok(match reply {
        Reply::Done(tag) => Response::Execution(Tag::new(tag)),
        Reply::Begin => Response::TransactionStart(Tag::new("BEGIN")),
        Reply::End(tag) => Response::TransactionEnd(Tag::new(tag)),
        Reply::Row { value, .. } => {
            let schema = reply_schema(reply);
            let fields = Arc::new(arrow_schema_to_pg_fields(&schema, format, None)?);
            let column = Arc::new(arrow::array::StringArray::from(vec![value.as_str()]));
            let batch = RecordBatch::try_new(schema, vec![column])
                .map_err(|error| user_error("XX000", error.to_string()))?;
            let rows: Vec<_> = encode_recordbatch(fields.clone(), batch).collect();
            let mut response = QueryResponse::new(fields, stream::iter(rows));
            response.set_command_tag("SHOW");
            Response::Query(response)
        }
    })
}

fn reply_schema(reply: &Reply) -> SchemaRef {
    Arc::new(match reply {
        Reply::Row { column, .. } => Schema::new(vec![Field::new(column, DataType::Utf8, false)]),
        Reply::Done(_) | Reply::Begin | Reply::End(_) => Schema::empty(),
    })
}

/// Questions about Postgres' own tables fail in many ways; all of them get the answer that helps.
fn explain_failure(error: &SqlError, sql: &str) -> PgWireError {
    let message = error.to_string();
    if sql.contains("pg_catalog") || message.contains("table 'highwater.public.pg_") {
        let message = "the system tables of pg_catalog are not here; ask SHOW TABLES, DESCRIBE name, or \
                       information_schema.tables and .columns";
        return user_error("0A000", message);
    }
    to_wire(error)
}

fn to_wire(error: &SqlError) -> PgWireError {
    let message = error.to_string();
    let (message, hint) = match message.split_once(". Hint: ") {
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (message, None),
    };
    let mut info = ErrorInfo::new("ERROR".to_owned(), error.sqlstate().to_owned(), message);
    info.hint = hint;
    PgWireError::UserError(Box::new(info))
}

/// An error with a SQLSTATE.
pub(super) fn user_error(sqlstate: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "ERROR".to_owned(),
        sqlstate.to_owned(),
        message.into(),
    )))
}

impl NoopStartupHandler for Connection {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(self.cancels.clone())
    }
}

#[async_trait]
impl SimpleQueryHandler for Connection {
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let format = Format::UnifiedText;
        let statements = courtesy::split(sql);
        let mut responses = Vec::with_capacity(statements.len());
        for statement in statements {
            let response = match courtesy::reply(&statement) {
                Some(reply) => courtesy_response(&reply, &format)?,
                None => {
                    let explain = |error: SqlError| explain_failure(&error, &statement);
                    let result = self.session.query(&statement).await.map_err(explain)?;
                    self.respond(client, result, &format).await?
                }
            };
            responses.push(response);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Connection {
    type Statement = Statement;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser {
            session: self.session.clone(),
        })
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Statement>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let format = &portal.result_column_format;
        match &portal.statement.statement {
            Statement::Courtesy(reply) => courtesy_response(reply, format),
            Statement::Sql(prepared) => {
                let values = parameters::decode(portal, &prepared.parameters)?;
                let result = self
                    .session
                    .execute(prepared, values)
                    .await
                    .map_err(|error| to_wire(&error))?;
                self.respond(client, result, format).await
            }
        }
    }
}

/// Plans statements when they are parsed, so that drivers learn parameters and columns before they run them.
pub(super) struct Parser {
    session: Session,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Statement;

    async fn parse_sql<C>(
        &self,
        _client: &C,
        sql: &str,
        _types: &[Option<Type>],
    ) -> PgWireResult<Option<Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = courtesy::split(sql);
        let statement = match statements.pop() {
            None => return Ok(None),
            Some(only) if statements.is_empty() => only,
            Some(_) => {
                return Err(to_wire(&SqlError::Several {
                    count: statements.len() + 1,
                }));
            }
        };
        if let Some(reply) = courtesy::reply(&statement) {
            return Ok(Some(Statement::Courtesy(reply)));
        }
        let prepared = self.session.prepare(&statement).await;
        let prepared = prepared.map_err(|error| explain_failure(&error, &statement))?;
        Ok(Some(Statement::Sql(Arc::new(prepared))))
    }

    fn get_parameter_types(&self, statement: &Statement) -> PgWireResult<Vec<Type>> {
        let Statement::Sql(prepared) = statement else {
            return Ok(Vec::new());
        };
        let types = prepared.parameters.iter();
        types
            .map(|inferred| inferred.as_ref().map_or(Ok(Type::TEXT), into_pg_type))
            .collect()
    }

    fn get_result_schema(
        &self,
        statement: &Statement,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let schema = match statement {
            Statement::Courtesy(reply) => reply_schema(reply),
            Statement::Sql(prepared) => prepared.schema.clone(),
        };
        arrow_schema_to_pg_fields(&schema, format.unwrap_or(&Format::UnifiedText), None)
    }
}
