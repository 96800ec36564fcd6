//! Tables: the latest value of each key, as aggregates keep it.

use std::sync::Arc;

use super::stream::{KStream, Lineage};
use crate::{
    graph::{NodeId, NodeKind, NodeName, SharedGraph},
    operators::stateless::Transform,
    row::{Data, Row},
    serdes::DynSerde,
};

/// The result of an aggregate: one value per key, forwarded when it changed, at most once per key and commit
/// (semantic row 48).
pub struct KTable<K, V> {
    pub(crate) graph: SharedGraph,
    pub(crate) node: NodeId,
    pub(crate) lineage: Lineage,
    pub(crate) store: Option<String>,
    pub(crate) key: Option<DynSerde<K>>,
    pub(crate) value: Option<DynSerde<V>>,
}

impl<K, V> std::fmt::Debug for KTable<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KTable")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// A table after a complaint: the build fails, so it is never run.
    pub(crate) fn broken(graph: &SharedGraph, node: NodeId) -> Self {
        Self {
            graph: graph.clone(),
            node,
            lineage: Lineage::new(String::new()),
            store: None,
            key: None,
            value: None,
        }
    }

    /// The store that holds the table, to ask it questions; `None` for a view on another table (semantic row 82).
    pub fn store_name(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// A view with other values.
    pub fn map_values<V2: Data>(&self, map: impl Fn(V) -> V2 + Send + Sync + 'static) -> KTable<K, V2> {
        let transform = Arc::new(move |rows: Vec<Row<K, V>>| -> Vec<Row<K, V2>> {
            rows.into_iter()
                .map(|row| Row {
                    key: row.key,
                    value: map(row.value),
                    timestamp: row.timestamp,
                    headers: row.headers,
                })
                .collect()
        });
        let name = format!("{}.map_values", self.graph.borrow().name(self.node));
        let kind = NodeKind::Operator {
            stores: Vec::new(),
            make: Arc::new(move |_| Box::new(Transform::new(transform.clone()))),
        };
        let node = self
            .graph
            .borrow_mut()
            .add(NodeName::Derived(name), vec![self.node], kind);
        KTable {
            graph: self.graph.clone(),
            node,
            lineage: self.lineage.clone(),
            store: None,
            key: self.key.clone(),
            value: None,
        }
    }

    /// The table's changes as a stream of new values (semantic row 14).
    pub fn to_stream(&self) -> KStream<K, V> {
        KStream {
            graph: self.graph.clone(),
            node: self.node,
            lineage: self.lineage.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            rekeyed: false,
        }
    }
}
