//! Streams of records: each row stands for itself.

use std::sync::Arc;

use super::grouped::KGroupedStream;
use crate::{
    error::TopologyError,
    graph::{MakeOperator, NodeId, NodeKind, NodeName, SharedGraph, TopicRef},
    operator::Operator,
    operators::{
        sink::Sink,
        stateless::{PassThrough, Transform},
    },
    options::{Grouped, Produced},
    row::{Data, Key, Row},
    serdes::DynSerde,
    store::StoreSpec,
};

/// What a stream's content depends on as far as state is concerned; derived store names are made of it.
#[derive(Debug, Clone)]
pub(crate) struct Lineage(String);

impl Lineage {
    pub(crate) fn new(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn then(&self, step: &str) -> Self {
        Self(format!("{}-{step}", self.0))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A stream of rows with keys `K` and values `V`.
///
/// Predicates and `peek` see rows by reference, mapping takes them by value; nothing is cloned unless a stream is
/// used twice.
pub struct KStream<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) node: NodeId,
    pub(crate) lineage: Lineage,
    pub(crate) key: Option<DynSerde<K>>,
    pub(crate) value: Option<DynSerde<V>>,
    /// The key may no longer be the one that chose the partition (semantic row 7).
    pub(crate) rekeyed: bool,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            lineage: self.lineage.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            rekeyed: self.rekeyed,
        }
    }
}

impl<K, V> std::fmt::Debug for KStream<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KStream({})", self.graph.borrow().name(self.node))
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Names the step that made this stream, for people, metrics and derived names further down.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.lineage = Lineage::new(name.clone());
        let mut graph = self.graph.borrow_mut();
        graph.nodes[self.node].name = name;
        drop(graph);
        self
    }

    /// Keeps the rows that the predicate accepts.
    pub fn filter(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.same("filter", move |mut rows: Vec<Row<K, V>>| {
            rows.retain(|row| predicate(&row.key, &row.value));
            rows
        })
    }

    /// Keeps the rows that the predicate refuses.
    pub fn filter_not(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Self {
        self.same("filter_not", move |mut rows: Vec<Row<K, V>>| {
            rows.retain(|row| !predicate(&row.key, &row.value));
            rows
        })
    }

    /// Shows every row to a side effect, which may see rows again after a crash (semantic row 10).
    pub fn peek(&self, look: impl Fn(&K, &V) + Send + Sync + 'static) -> Self {
        self.same("peek", move |rows: Vec<Row<K, V>>| {
            rows.iter().for_each(|row| look(&row.key, &row.value));
            rows
        })
    }

    /// Splits a stream: rows that the predicate accepts, and the rest. Chain it for more branches; the first match wins
    /// (semantic row 8). The predicate runs twice per row and must answer the same.
    pub fn branch(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> (Self, Self) {
        let predicate = Arc::new(predicate);
        let accepts = predicate.clone();
        (
            self.filter(move |key, value| accepts(key, value)),
            self.filter_not(move |key, value| predicate(key, value)),
        )
    }

    /// Changes values and leaves keys, so that no repartition becomes necessary.
    pub fn map_values<V2: Data>(&self, map: impl Fn(V) -> V2 + Send + Sync + 'static) -> KStream<K, V2> {
        self.keep_key("map_values", move |rows: Vec<Row<K, V>>| {
            rows.into_iter()
                .map(|row| Row {
                    key: row.key,
                    value: map(row.value),
                    timestamp: row.timestamp,
                    headers: row.headers,
                })
                .collect()
        })
    }

    /// Makes any number of values of each and leaves the key.
    pub fn flat_map_values<V2: Data, I>(&self, map: impl Fn(V) -> I + Send + Sync + 'static) -> KStream<K, V2>
    where
        I: IntoIterator<Item = V2>,
    {
        self.keep_key("flat_map_values", move |rows: Vec<Row<K, V>>| {
            let mut mapped = Vec::with_capacity(rows.len());
            for row in rows {
                mapped.extend(map(row.value).into_iter().map(|value| Row {
                    key: row.key.clone(),
                    value,
                    timestamp: row.timestamp,
                    headers: row.headers.clone(),
                }));
            }
            mapped
        })
    }

    /// Changes key and value. A grouping that follows sends rows through a repartition topic (semantic row 7).
    pub fn map<K2: Data, V2: Data>(
        &self,
        map: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.transform("map", move |rows: Vec<Row<K, V>>| {
            rows.into_iter()
                .map(|row| {
                    let (key, value) = map(row.key, row.value);
                    Row {
                        key,
                        value,
                        timestamp: row.timestamp,
                        headers: row.headers,
                    }
                })
                .collect()
        })
    }

    /// Makes any number of rows of each.
    pub fn flat_map<K2: Data, V2: Data, I>(
        &self,
        map: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2>
    where
        I: IntoIterator<Item = (K2, V2)>,
    {
        self.transform("flat_map", move |rows: Vec<Row<K, V>>| {
            let mut mapped = Vec::with_capacity(rows.len());
            for row in rows {
                let (timestamp, headers) = (row.timestamp, row.headers);
                mapped.extend(map(row.key, row.value).into_iter().map(|(key, value)| Row {
                    key,
                    value,
                    timestamp,
                    headers: headers.clone(),
                }));
            }
            mapped
        })
    }

    /// Changes whole rows, timestamps and headers included; `None` leaves a row out.
    pub fn map_rows<K2: Data, V2: Data>(
        &self,
        map: impl Fn(Row<K, V>) -> Option<Row<K2, V2>> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.transform("map_rows", move |rows: Vec<Row<K, V>>| {
            rows.into_iter().filter_map(&map).collect()
        })
    }

    /// Gives every row a new key.
    pub fn select_key<K2: Data>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
    ) -> KStream<K2, V> {
        let mut stream = self.transform("select_key", move |rows: Vec<Row<K, V>>| {
            rows.into_iter()
                .map(|row| Row {
                    key: select(&row.key, &row.value),
                    value: row.value,
                    timestamp: row.timestamp,
                    headers: row.headers,
                })
                .collect()
        });
        stream.value = self.value.clone();
        stream
    }

    /// Both streams as one; no order is promised between them (semantic row 9).
    pub fn merge(&self, other: &Self) -> Self {
        let name = {
            let graph = self.graph.borrow();
            format!("{}+{}", graph.name(self.node), graph.name(other.node))
        };
        let kind = NodeKind::Operator {
            stores: Vec::new(),
            make: Arc::new(|_| Box::new(PassThrough)),
        };
        let parents = vec![self.node, other.node];
        let node = self
            .graph
            .borrow_mut()
            .add(NodeName::Derived(name), parents, kind);
        Self {
            node,
            lineage: self.lineage.then(other.lineage.as_str()),
            rekeyed: self.rekeyed || other.rekeyed,
            ..self.clone()
        }
    }

    /// Sends rows through an operator of one's own, with stores of its own. It receives and forwards
    /// `Vec<Row<..>>` chunks; its name is part of the topology. `changes_key` says whether a grouping that follows must
    /// repartition.
    pub fn process<K2: Data, V2: Data>(
        &self,
        name: impl Into<String>,
        stores: Vec<StoreSpec>,
        changes_key: KeyEffect,
        make: impl Fn() -> Box<dyn Operator> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let name = name.into();
        let make: MakeOperator = Arc::new(move |_| make());
        let kind = NodeKind::Operator { stores, make };
        let node = self
            .graph
            .borrow_mut()
            .add(NodeName::Given(name.clone()), vec![self.node], kind);
        KStream {
            graph: self.graph.clone(),
            node,
            lineage: Lineage::new(name),
            key: None,
            value: None,
            rekeyed: self.rekeyed || changes_key == KeyEffect::Changes,
        }
    }

    /// Says how rows are written where nothing else says so: after `map` and the like.
    #[must_use]
    pub fn with_serdes(
        mut self,
        key: impl crate::serdes::Serde<K>,
        value: impl crate::serdes::Serde<V>,
    ) -> Self {
        self.key = Some(Arc::new(key));
        self.value = Some(Arc::new(value));
        self
    }

    /// Writes the rows to a topic, which must exist (semantic row 12).
    pub fn to(&self, topic: impl Into<String>, produced: Produced<K, V>) {
        let topic = topic.into();
        let Produced { key, value, name } = produced;
        let name = NodeName::new(name, || format!("{topic}.to"));
        self.sink(name, TopicRef::External(topic), key, value);
    }

    pub(crate) fn sink(&self, name: NodeName, topic: TopicRef, key: DynSerde<K>, value: DynSerde<V>) {
        let kind = NodeKind::Sink {
            topic,
            make: Arc::new(move |topic| {
                Box::new(Sink {
                    topic: topic.clone(),
                    key: key.clone(),
                    value: value.clone(),
                })
            }),
        };
        self.graph.borrow_mut().add(name, vec![self.node], kind);
    }

    /// Adds a step that keeps keys and values.
    fn same(
        &self,
        step: &str,
        transform: impl Fn(Vec<Row<K, V>>) -> Vec<Row<K, V>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            node: self.step(step, transform),
            ..self.clone()
        }
    }

    fn keep_key<V2: Data>(
        &self,
        step: &str,
        transform: impl Fn(Vec<Row<K, V>>) -> Vec<Row<K, V2>> + Send + Sync + 'static,
    ) -> KStream<K, V2> {
        KStream {
            graph: self.graph.clone(),
            node: self.step(step, transform),
            lineage: self.lineage.clone(),
            key: self.key.clone(),
            value: None,
            rekeyed: self.rekeyed,
        }
    }

    fn transform<K2: Data, V2: Data>(
        &self,
        step: &str,
        transform: impl Fn(Vec<Row<K, V>>) -> Vec<Row<K2, V2>> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        KStream {
            graph: self.graph.clone(),
            node: self.step(step, transform),
            lineage: self.lineage.then(step),
            key: None,
            value: None,
            rekeyed: true,
        }
    }

    fn step<K2: Data, V2: Data>(
        &self,
        step: &str,
        transform: impl Fn(Vec<Row<K, V>>) -> Vec<Row<K2, V2>> + Send + Sync + 'static,
    ) -> NodeId {
        let transform = Arc::new(transform);
        let name = format!("{}.{step}", self.graph.borrow().name(self.node));
        let kind = NodeKind::Operator {
            stores: Vec::new(),
            make: Arc::new(move |_| Box::new(Transform::new(transform.clone()))),
        };
        self.graph
            .borrow_mut()
            .add(NodeName::Derived(name), vec![self.node], kind)
    }
}

impl<K: Key, V: Data> KStream<K, V> {
    /// Groups rows by their key. If the key was changed since the topic was read, rows travel through a repartition
    /// topic, written with the stream's serdes; see [`group_by_key_with`](Self::group_by_key_with) when it has none.
    pub fn group_by_key(&self) -> KGroupedStream<K, V> {
        KGroupedStream::new(self.clone(), None)
    }

    /// Groups rows by their key and says how they travel, if they have to.
    pub fn group_by_key_with(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        KGroupedStream::new(self.clone(), Some(grouped))
    }

    pub(crate) fn complain(&self, error: TopologyError) {
        self.graph.borrow_mut().errors.push(error);
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Groups rows by a new key; they travel through a repartition topic.
    pub fn group_by<K2: Key>(
        &self,
        select: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        KGroupedStream::new(self.select_key(select), Some(grouped))
    }
}

/// Whether an operator of one's own may change keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEffect {
    /// Rows leave with the key they came with.
    Keeps,
    /// Rows may leave with another key.
    Changes,
}
