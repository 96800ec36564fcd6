//! How many tasks there are and which internal topics they need, given the partitions of the topics that exist.

use std::collections::BTreeMap;

use highwater_types::TopicName;

use super::Topology;
use crate::error::PlanError;

/// Repartition segments are small, so that data that was consumed can be deleted soon (semantic row 46).
const REPARTITION_SEGMENT_BYTES: u32 = 50 * 1024 * 1024;

/// An internal topic as it must exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopicPlan {
    /// The topic.
    pub topic: TopicName,
    /// Partitions.
    pub partitions: i32,
    /// Configurations to create it with.
    pub configs: BTreeMap<String, String>,
}

/// What a runtime has to set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tasks of each sub-topology: partitions `0..n`.
    pub task_counts: Vec<i32>,
    /// Internal topics, repartitions before changelogs.
    pub internal_topics: Vec<InternalTopicPlan>,
}

impl Topology {
    /// Plans against the partition counts of the topics that exist, internal ones included if they already do.
    ///
    /// A sub-topology has as many tasks as its largest source has partitions; a repartition topic has what the program
    /// said, or as many partitions as the tasks that write it; a changelog has one partition per task
    /// (semantic rows 41, 44).
    ///
    /// # Errors
    /// [`PlanError::MissingTopic`] for a user's topic, [`PlanError::InternalPartitionCount`] when an internal topic no
    /// longer fits.
    pub fn plan(&self, partitions: &BTreeMap<TopicName, i32>) -> Result<Plan, PlanError> {
        let (task_counts, known) = self.count_tasks(partitions)?;
        let mut internal_topics = Vec::new();
        for repartition in &self.repartitions {
            let configs = [
                ("cleanup.policy", "delete".to_owned()),
                ("retention.ms", "-1".to_owned()),
                ("segment.bytes", REPARTITION_SEGMENT_BYTES.to_string()),
            ];
            internal_topics.push(InternalTopicPlan {
                topic: repartition.topic.clone(),
                partitions: known.get(&repartition.topic).copied().unwrap_or(0),
                configs: configs.map(|(name, value)| (name.to_owned(), value)).into(),
            });
        }
        for (sub, count) in self.sub_topologies.iter().zip(&task_counts) {
            for spec in &sub.stores {
                if let Some(topic) = self.changelog_topic(&spec.name) {
                    internal_topics.push(InternalTopicPlan {
                        topic: topic.clone(),
                        partitions: *count,
                        configs: spec.changelog_topic_configs(),
                    });
                }
            }
        }
        for internal in &internal_topics {
            if let Some(actual) = partitions.get(&internal.topic)
                && *actual != internal.partitions
            {
                return Err(PlanError::InternalPartitionCount {
                    topic: internal.topic.clone(),
                    actual: *actual,
                    needed: internal.partitions,
                });
            }
        }
        Ok(Plan {
            task_counts,
            internal_topics,
        })
    }

    /// Tasks per sub-topology, and the partitions of every topic that a sub-topology reads.
    fn count_tasks(
        &self,
        partitions: &BTreeMap<TopicName, i32>,
    ) -> Result<(Vec<i32>, BTreeMap<TopicName, i32>), PlanError> {
        let mut known = BTreeMap::new();
        for topic in self.external_source_topics() {
            match partitions.get(&topic) {
                Some(count) => known.insert(topic, *count),
                None => return Err(PlanError::MissingTopic { topic }),
            };
        }
        let mut task_counts = vec![0; self.sub_topologies.len()];
        // Repartitions form no cycle, so each round settles at least one more sub-topology.
        for _ in 0..=self.sub_topologies.len() {
            for (sub, count) in self.sub_topologies.iter().zip(&mut task_counts) {
                let sources = sub.source_topics.iter().filter_map(|topic| known.get(topic));
                *count = sources.copied().max().unwrap_or(0);
            }
            for repartition in &self.repartitions {
                let writers = self.sub_topologies.iter().zip(&task_counts);
                let writers = writers.filter(|(sub, _)| sub.sink_topics.contains(&repartition.topic));
                let written = writers.map(|(_, count)| *count).max().unwrap_or(0);
                known.insert(
                    repartition.topic.clone(),
                    repartition.partitions.unwrap_or(written),
                );
            }
        }
        Ok((task_counts, known))
    }
}
