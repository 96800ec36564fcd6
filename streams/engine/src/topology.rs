//! A topology: the graph with every name settled, cut into sub-topologies, ready to be planned against topics.
//!
//! A sub-topology is a connected piece of the graph; pieces meet only through topics (semantic rows 7 and 89). Each runs
//! as one task per partition of its sources.
//!
//! # Invariants
//! - Node order is a topological order.
//! - Store names, node names and internal topic names are unique.

mod describe;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::TopicName;

pub use plan::{InternalTopicPlan, Plan};

use crate::{
    error::TopologyError,
    graph::{Graph, MakeOperator, MakeSink, MakeSource, NodeKind, TopicRef},
    store::StoreSpec,
};

/// How a task makes its own copy of a node.
#[derive(Clone)]
pub(crate) enum Role {
    Source {
        topics: Vec<TopicName>,
        make: MakeSource,
    },
    Operator {
        stores: Vec<StoreSpec>,
        make: MakeOperator,
    },
    Sink {
        topic: TopicName,
        make: MakeSink,
    },
}

/// A node with its names settled.
#[derive(Clone)]
pub(crate) struct TopologyNode {
    pub(crate) name: String,
    pub(crate) children: Vec<usize>,
    pub(crate) parents: Vec<usize>,
    pub(crate) role: Role,
}

/// A connected piece of the graph.
#[derive(Debug, Clone)]
pub struct SubTopology {
    pub(crate) nodes: Vec<usize>,
    /// Topics it reads, internal ones included.
    pub source_topics: Vec<TopicName>,
    /// Topics it writes, changelogs not included.
    pub sink_topics: Vec<TopicName>,
    /// Stores that each of its tasks owns.
    pub stores: Vec<StoreSpec>,
}

/// A topic between sub-topologies.
#[derive(Debug, Clone)]
pub(crate) struct Repartition {
    pub(crate) topic: TopicName,
    pub(crate) partitions: Option<i32>,
}

/// What an application does, as one immutable value that all its tasks share.
#[derive(Clone)]
pub struct Topology {
    application_id: String,
    pub(crate) nodes: Vec<TopologyNode>,
    pub(crate) sub_topologies: Vec<SubTopology>,
    pub(crate) repartitions: Vec<Repartition>,
    changelogs: BTreeMap<String, TopicName>,
}

impl std::fmt::Debug for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Topology {
    pub(crate) fn new(application_id: String, graph: &Graph) -> Result<Self, TopologyError> {
        if let Some(error) = graph.errors.first() {
            return Err(error.clone());
        }
        if graph.nodes.is_empty() {
            return Err(TopologyError::Empty);
        }
        let mut topology = Self {
            application_id,
            nodes: Vec::with_capacity(graph.nodes.len()),
            sub_topologies: Vec::new(),
            repartitions: Vec::new(),
            changelogs: BTreeMap::new(),
        };
        topology.settle_nodes(graph)?;
        topology.settle_stores()?;
        topology.cut();
        Ok(topology)
    }

    /// The application's name: prefix of internal topics, and the consumer group.
    pub fn application_id(&self) -> &str {
        &self.application_id
    }

    /// The connected pieces, in the order of their first node.
    pub fn sub_topologies(&self) -> &[SubTopology] {
        &self.sub_topologies
    }

    /// Every topic that some task reads.
    pub fn source_topics(&self) -> BTreeSet<TopicName> {
        let topics = self.sub_topologies.iter().flat_map(|sub| &sub.source_topics);
        topics.cloned().collect()
    }

    /// Topics that must exist before the application starts: those it reads and did not invent.
    pub fn external_source_topics(&self) -> BTreeSet<TopicName> {
        let mut topics = self.source_topics();
        for repartition in &self.repartitions {
            topics.remove(&repartition.topic);
        }
        topics
    }

    /// Topics between sub-topologies. What their readers have committed may be deleted (semantic row 46).
    pub fn repartition_topics(&self) -> impl Iterator<Item = &TopicName> {
        self.repartitions.iter().map(|repartition| &repartition.topic)
    }

    /// The changelog topic of a logged store.
    pub fn changelog_topic(&self, store: &str) -> Option<&TopicName> {
        self.changelogs.get(store)
    }

    /// The sub-topology that owns a store.
    pub fn sub_topology_of_store(&self, store: &str) -> Option<usize> {
        let owns = |sub: &SubTopology| sub.stores.iter().any(|spec| spec.name == store);
        self.sub_topologies.iter().position(owns)
    }

    fn settle_nodes(&mut self, graph: &Graph) -> Result<(), TopologyError> {
        let mut names = BTreeSet::new();
        let mut read = BTreeSet::new();
        for node in &graph.nodes {
            if !names.insert(&node.name) {
                return Err(TopologyError::DuplicateName {
                    name: node.name.clone(),
                });
            }
            let role = match &node.kind {
                NodeKind::Source { topics, make } => {
                    let named = topics.iter().map(|topic| self.topic_name(&node.name, topic));
                    let topics = named.collect::<Result<Vec<_>, _>>()?;
                    if let Some(twice) = topics.iter().find(|topic| !read.insert((*topic).clone())) {
                        return Err(TopologyError::TopicReadTwice {
                            topic: twice.to_string(),
                        });
                    }
                    Role::Source {
                        topics,
                        make: make.clone(),
                    }
                }
                NodeKind::Operator { stores, make } => Role::Operator {
                    stores: stores.clone(),
                    make: make.clone(),
                },
                NodeKind::Sink { topic, make } => {
                    let name = self.topic_name(&node.name, topic)?;
                    if let TopicRef::Repartition { partitions, .. } = topic {
                        self.repartitions.push(Repartition {
                            topic: name.clone(),
                            partitions: *partitions,
                        });
                    }
                    Role::Sink {
                        topic: name,
                        make: make.clone(),
                    }
                }
            };
            self.nodes.push(TopologyNode {
                name: node.name.clone(),
                children: Vec::new(),
                parents: node.parents.clone(),
                role,
            });
            let child = self.nodes.len() - 1;
            for parent in &node.parents {
                self.nodes[*parent].children.push(child);
            }
        }
        Ok(())
    }

    fn topic_name(&self, operator: &str, topic: &TopicRef) -> Result<TopicName, TopologyError> {
        let name = match topic {
            TopicRef::External(name) => name.clone(),
            TopicRef::Repartition { name, .. } => format!("{}-{name}-repartition", self.application_id),
        };
        self.legal(operator, name)
    }

    fn legal(&self, operator: &str, topic: String) -> Result<TopicName, TopologyError> {
        TopicName::new(topic.clone()).map_err(|source| TopologyError::TopicName {
            operator: operator.to_owned(),
            topic,
            source,
        })
    }

    fn settle_stores(&mut self) -> Result<(), TopologyError> {
        let mut stores = BTreeSet::new();
        for node in &self.nodes {
            let Role::Operator { stores: specs, .. } = &node.role else {
                continue;
            };
            for spec in specs {
                if !stores.insert(spec.name.clone()) {
                    return Err(TopologyError::DuplicateStore {
                        store: spec.name.clone(),
                    });
                }
                // Checked for stores without a changelog too, since the name also becomes part of a path.
                let changelog = format!("{}-{}-changelog", self.application_id, spec.name);
                let changelog = self.legal(&node.name, changelog)?;
                if spec.logged {
                    self.changelogs.insert(spec.name.clone(), changelog);
                }
            }
        }
        Ok(())
    }

    /// Finds the connected pieces: every node takes the smallest number that it can reach.
    fn cut(&mut self) {
        let mut piece: Vec<usize> = (0..self.nodes.len()).collect();
        loop {
            let before = piece.clone();
            for (at, node) in self.nodes.iter().enumerate() {
                for parent in &node.parents {
                    let smaller = piece[at].min(piece[*parent]);
                    piece[at] = smaller;
                    piece[*parent] = smaller;
                }
            }
            if piece == before {
                break;
            }
        }
        let firsts: BTreeSet<usize> = piece.iter().copied().collect();
        for first in firsts {
            let nodes: Vec<usize> = (0..piece.len()).filter(|at| piece[*at] == first).collect();
            let mut sub = SubTopology {
                nodes: Vec::new(),
                source_topics: Vec::new(),
                sink_topics: Vec::new(),
                stores: Vec::new(),
            };
            for at in &nodes {
                match &self.nodes[*at].role {
                    Role::Source { topics, .. } => sub.source_topics.extend(topics.iter().cloned()),
                    Role::Operator { stores, .. } => sub.stores.extend(stores.iter().cloned()),
                    Role::Sink { topic, .. } => sub.sink_topics.push(topic.clone()),
                }
            }
            sub.nodes = nodes;
            self.sub_topologies.push(sub);
        }
    }
}
