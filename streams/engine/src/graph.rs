//! The logical graph that streams write themselves into while a program describes them.
//!
//! # Invariants
//! - A node comes after its parents, so the order of nodes is a topological order.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use highwater_types::TopicName;

use crate::{error::TopologyError, operator::Operator, operators::source::SourceNode, store::StoreSpec};

/// Position of a node in its graph.
pub(crate) type NodeId = usize;

/// A topic as the program names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicRef {
    /// A user's topic.
    External(String),
    /// An internal topic between two sub-topologies; the application's name comes in front.
    Repartition { name: String, partitions: Option<i32> },
}

pub(crate) type MakeSource = Arc<dyn Fn(&[TopicName]) -> Box<dyn SourceNode> + Send + Sync>;
pub(crate) type MakeOperator = Arc<dyn Fn(&str) -> Box<dyn Operator> + Send + Sync>;
pub(crate) type MakeSink = Arc<dyn Fn(&TopicName) -> Box<dyn Operator> + Send + Sync>;

/// What a node is and how each task makes its own.
#[derive(Clone)]
pub(crate) enum NodeKind {
    Source {
        topics: Vec<TopicRef>,
        make: MakeSource,
    },
    Operator {
        stores: Vec<StoreSpec>,
        make: MakeOperator,
    },
    Sink {
        topic: TopicRef,
        make: MakeSink,
    },
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) parents: Vec<NodeId>,
    pub(crate) kind: NodeKind,
}

/// Nodes and what is already known to be wrong with them.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) errors: Vec<TopologyError>,
    /// How often a derived name was wanted, to tell equal siblings apart.
    wanted: BTreeMap<String, usize>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.nodes.iter().map(|node| &node.name))
            .finish()
    }
}

/// The graph that the streams of one builder share.
pub(crate) type SharedGraph = Rc<RefCell<Graph>>;

impl Graph {
    /// Adds a node. A derived name that an equal sibling has already taken gets `-2`, `-3`, ...; only names for people
    /// are derived so, never those of stores and topics.
    pub(crate) fn add(&mut self, name: NodeName, parents: Vec<NodeId>, kind: NodeKind) -> NodeId {
        let name = match name {
            NodeName::Given(name) => name,
            NodeName::Derived(name) => {
                let times = self.wanted.entry(name.clone()).or_insert(0);
                *times += 1;
                match *times {
                    1 => name,
                    times => format!("{name}-{times}"),
                }
            }
        };
        self.nodes.push(Node { name, parents, kind });
        self.nodes.len() - 1
    }

    pub(crate) fn name(&self, node: NodeId) -> &str {
        &self.nodes[node].name
    }
}

/// Where a node's name comes from.
pub(crate) enum NodeName {
    Given(String),
    Derived(String),
}

impl NodeName {
    pub(crate) fn new(given: Option<String>, derived: impl FnOnce() -> String) -> Self {
        given.map_or_else(|| Self::Derived(derived()), Self::Given)
    }
}
