//! Topics as tables: which there are, and what columns they have, learned from samples or declared.
//!
//! # Invariants
//! - A topic's learned columns only widen while the topic lives; one that was deleted and created anew starts over.
//! - Looking a table up never creates a topic.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, TableProvider},
    common::{DataFusionError, Result as DataFusionResult},
    logical_expr::TableType,
};
use highwater_types::TopicName;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    columns::TopicColumns,
    config::{EngineConfig, Misfits},
    error::SqlError,
    limits,
    reader::{ReadError, TopicReader},
    table::TopicTable,
};

mod learn;

pub(crate) use learn::Learner;

/// A table whose columns somebody wrote down.
#[derive(Debug, Clone)]
pub(crate) struct DeclaredTable {
    pub(crate) topic: TopicName,
    pub(crate) columns: Arc<TopicColumns>,
    pub(crate) misfits: Misfits,
}

/// What is known about topics, shared by all sessions of an engine.
pub(crate) struct TopicCatalog {
    reader: Arc<dyn TopicReader>,
    sample_records: usize,
    schema_ttl: Duration,
    misfits: Misfits,
    names: Mutex<Names>,
    learned: Mutex<HashMap<TopicName, Arc<tokio::sync::Mutex<Learned>>>>,
    declared: Mutex<BTreeMap<String, DeclaredTable>>,
}

#[derive(Default)]
struct Names {
    listed_at: Option<Instant>,
    topics: Vec<TopicName>,
}

/// What sampling has taught about one topic.
#[derive(Default)]
struct Learned {
    sampled_at: Option<Instant>,
    learner: Arc<Learner>,
}

impl TopicCatalog {
    pub(crate) fn new(reader: Arc<dyn TopicReader>, config: &EngineConfig) -> Self {
        Self {
            reader,
            sample_records: config.schema_sample_records.max(1),
            schema_ttl: config.schema_ttl,
            misfits: config.misfits,
            names: Mutex::default(),
            learned: Mutex::default(),
            declared: Mutex::default(),
        }
    }

    /// Makes sure that the list of topics is not older than [`limits::TOPIC_LIST_TTL`], or than now when `force`d.
    pub(crate) async fn refresh_names(&self, force: bool) -> Result<(), ReadError> {
        let listed_at = lock(&self.names).listed_at;
        if !force && listed_at.is_some_and(|at| at.elapsed() < limits::TOPIC_LIST_TTL) {
            return Ok(());
        }
        let mut topics = self.reader.topics().await?;
        topics.sort();
        let present: HashSet<&TopicName> = topics.iter().collect();
        lock(&self.learned).retain(|topic, _| present.contains(topic));
        *lock(&self.names) = Names {
            listed_at: Some(Instant::now()),
            topics,
        };
        Ok(())
    }

    /// Tables in alphabetical order. Internal topics can be asked for by name, but are not listed.
    pub(crate) fn table_names(&self) -> Vec<String> {
        let topics = lock(&self.names).topics.clone();
        let visible = topics
            .iter()
            .map(|topic| topic.as_str())
            .filter(|name| !name.starts_with("__"));
        let mut names: Vec<String> = visible.map(str::to_owned).collect();
        names.extend(lock(&self.declared).keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Remembers a declared table.
    ///
    /// # Errors
    /// When there is one of this name already, unless it may be replaced.
    pub(crate) fn declare(&self, name: String, table: DeclaredTable, replace: bool) -> Result<(), SqlError> {
        let mut declared = lock(&self.declared);
        if declared.contains_key(&name) && !replace {
            return Err(SqlError::Declaration {
                table: name,
                problem: "it is declared already; CREATE OR REPLACE TABLE changes it".to_owned(),
            });
        }
        declared.insert(name, table);
        Ok(())
    }

    /// Forgets a declared table; false when there is none.
    pub(crate) fn forget(&self, name: &str) -> bool {
        lock(&self.declared).remove(name).is_some()
    }

    /// The table of this name as of now.
    pub(crate) async fn table(&self, name: &str) -> Result<Option<TopicTable>, ReadError> {
        let declared = lock(&self.declared).get(name).cloned();
        if let Some(declared) = declared {
            return match self.topic(declared.topic.as_str()).await? {
                Some(topic) => Ok(Some(self.make(topic, declared.columns, declared.misfits, None))),
                None => Err(ReadError::NoSuchTopic {
                    topic: declared.topic,
                }),
            };
        }
        let Some(topic) = self.topic(name).await? else {
            return Ok(None);
        };
        let learner = self.learn(&topic).await?;
        let columns = Arc::new(learner.columns());
        Ok(Some(self.make(topic, columns, self.misfits, Some(learner))))
    }

    fn make(
        &self,
        topic: TopicName,
        columns: Arc<TopicColumns>,
        misfits: Misfits,
        learner: Option<Arc<Learner>>,
    ) -> TopicTable {
        TopicTable {
            topic,
            columns,
            misfits,
            learner,
            reader: self.reader.clone(),
            snapshot: OnceCell::new(),
        }
    }

    /// The topic of this name, if the cluster has it.
    async fn topic(&self, name: &str) -> Result<Option<TopicName>, ReadError> {
        let find = || {
            lock(&self.names)
                .topics
                .iter()
                .find(|topic| topic.as_str() == name)
                .cloned()
        };
        self.refresh_names(false).await?;
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        // It may have been created a moment ago.
        self.refresh_names(true).await?;
        Ok(find())
    }

    /// What is known about the topic, sampled anew when that was too long ago.
    async fn learn(&self, topic: &TopicName) -> Result<Arc<Learner>, ReadError> {
        let entry = lock(&self.learned).entry(topic.clone()).or_default().clone();
        // Held while sampling, so that queries which start together sample once.
        let mut entry = entry.lock().await;
        if entry.sampled_at.is_none_or(|at| at.elapsed() >= self.schema_ttl) {
            let ranges = self.reader.offset_ranges(topic).await?;
            if !entry.learner.continues(&ranges) {
                entry.learner = Arc::new(Learner::default());
            }
            entry
                .learner
                .sample(&*self.reader, topic, ranges, self.sample_records)
                .await?;
            entry.sampled_at = Some(Instant::now());
        }
        Ok(entry.learner.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is locked here can be left half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for TopicCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicCatalog")
            .field("tables", &self.table_names())
            .finish_non_exhaustive()
    }
}

/// Counts values that were learned from again because they did not fit, see [`limits::MAX_RELEARNED_VALUES`].
pub(crate) type Relearned = AtomicU64;

#[async_trait]
impl SchemaProvider for TopicCatalog {
    fn table_names(&self) -> Vec<String> {
        Self::table_names(self)
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let external = |error| DataFusionError::External(Box::new(SqlError::from(error)));
        let found = Self::table(self, name).await.map_err(external)?;
        Ok(found.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        // Without sampling it.
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        lock(&self.declared).contains_key(name)
            || lock(&self.names)
                .topics
                .iter()
                .any(|topic| topic.as_str() == name)
    }
}
