//! A topology as text, in the form Kafka's `Topology#describe` made familiar (semantic row 73).

use std::fmt::Write as _;

use super::{Role, Topology, TopologyNode};

impl Topology {
    /// The sub-topologies with their nodes, arrows and topics.
    ///
    /// ```text
    /// Topologies:
    ///    Sub-topology: 0
    ///     Source: btc_prices (topics: [btc_prices])
    ///       --> candles
    ///     Processor: candles (stores: [candles])
    ///       --> candles.to
    ///       <-- btc_prices
    ///     Sink: candles.to (topic: candles)
    ///       <-- candles
    /// ```
    pub fn describe(&self) -> String {
        let mut text = "Topologies:\n".to_owned();
        for (number, sub) in self.sub_topologies.iter().enumerate() {
            // Writing into a String does not fail.
            let _ = writeln!(text, "   Sub-topology: {number}");
            for at in &sub.nodes {
                self.describe_node(&self.nodes[*at], &mut text);
            }
        }
        text
    }

    fn describe_node(&self, node: &TopologyNode, text: &mut String) {
        let list = |items: Vec<String>| items.join(", ");
        let names = |nodes: &[usize]| list(nodes.iter().map(|at| self.nodes[*at].name.clone()).collect());
        let head = match &node.role {
            Role::Source { topics, .. } => {
                let topics = list(topics.iter().map(ToString::to_string).collect());
                format!("Source: {} (topics: [{topics}])", node.name)
            }
            Role::Operator { stores, .. } => {
                let stores = list(stores.iter().map(|spec| spec.name.clone()).collect());
                format!("Processor: {} (stores: [{stores}])", node.name)
            }
            Role::Sink { topic, .. } => format!("Sink: {} (topic: {topic})", node.name),
        };
        let _ = writeln!(text, "    {head}");
        if !node.children.is_empty() {
            let _ = writeln!(text, "      --> {}", names(&node.children));
        }
        if !node.parents.is_empty() {
            let _ = writeln!(text, "      <-- {}", names(&node.parents));
        }
    }
}
