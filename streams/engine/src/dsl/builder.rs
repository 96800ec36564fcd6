//! Where streams start and topologies come from.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::stream::{KStream, Lineage};
use crate::{
    error::TopologyError,
    graph::{Graph, NodeKind, NodeName, SharedGraph, TopicRef},
    operators::source::Source,
    options::Consumed,
    row::Data,
    topology::Topology,
};

/// Collects the streams of one application.
#[derive(Debug, Default)]
pub struct StreamsBuilder {
    graph: SharedGraph,
}

impl StreamsBuilder {
    /// No streams yet.
    pub fn new() -> Self {
        Self {
            graph: Rc::new(RefCell::new(Graph::default())),
        }
    }

    /// Reads one topic. Records without a key or value that the serdes need are dropped and counted.
    pub fn stream<K: Data, V: Data>(
        &self,
        topic: impl Into<String>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        self.streams([topic.into()], consumed)
    }

    /// Reads several topics as one stream (semantic row 1): one node, one task per partition index across all of them.
    pub fn streams<K: Data, V: Data>(
        &self,
        topics: impl IntoIterator<Item = impl Into<String>>,
        consumed: Consumed<K, V>,
    ) -> KStream<K, V> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        let joined = topics.join("+");
        let lineage = topics.join("-");
        let Consumed {
            key,
            value,
            name,
            policy,
            extractor,
        } = consumed;
        let (key_serde, value_serde) = (key.clone(), value.clone());
        let kind = NodeKind::Source {
            topics: topics.into_iter().map(TopicRef::External).collect(),
            make: Arc::new(move |topics| {
                Box::new(Source::new(
                    topics,
                    key.clone(),
                    value.clone(),
                    policy.clone(),
                    extractor.clone(),
                ))
            }),
        };
        let node = self
            .graph
            .borrow_mut()
            .add(NodeName::new(name, || joined), Vec::new(), kind);
        KStream {
            graph: self.graph.clone(),
            node,
            lineage: Lineage::new(lineage),
            key: Some(key_serde),
            value: Some(value_serde),
            rekeyed: false,
        }
    }

    /// Checks what was described and fixes every name. The application's name comes in front of internal topics and is
    /// the consumer group.
    ///
    /// # Errors
    /// The first [`TopologyError`].
    pub fn build(&self, application_id: impl Into<String>) -> Result<Topology, TopologyError> {
        Topology::new(application_id.into(), &self.graph.borrow())
    }
}
