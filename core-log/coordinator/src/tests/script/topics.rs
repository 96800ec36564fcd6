//! The topics of a script: `topics a=3 b=2`. A topic that is named again under another line keeps its id.

use std::collections::BTreeMap;

use bytestring::ByteString;
use highwater_types::Uuid;

use crate::{TopicFacts, Topics};

#[derive(Debug, Clone, Default)]
pub(super) struct ScriptTopics {
    version: u64,
    by_name: BTreeMap<String, TopicFacts>,
}

impl ScriptTopics {
    /// The topics after a line of `name=partitions`.
    pub(super) fn next(&self, named: &BTreeMap<&str, &str>) -> Self {
        let version = self.version + 1;
        let facts = named.iter().map(|(name, count)| {
            let fresh = || {
                let letters = name.bytes().fold(0_u64, |all, byte| all << 8 | u64::from(byte));
                Uuid::from_u64_pair(version, letters)
            };
            let id = self.by_name.get(*name).map_or_else(fresh, |facts| facts.id);
            let facts = TopicFacts {
                id,
                partition_count: count.parse().unwrap(),
            };
            (name.to_string(), facts)
        });
        Self {
            version,
            by_name: facts.collect(),
        }
    }
}

/// The name that the id was made from; a later incarnation has a quote mark per version.
pub(super) fn name_of(id: Uuid) -> String {
    let (_, letters) = id.as_u64_pair();
    let name: Vec<u8> = letters
        .to_be_bytes()
        .into_iter()
        .filter(|byte| *byte != 0)
        .collect();
    String::from_utf8(name).unwrap()
}

pub(super) fn id_of(name: &str, topics: &ScriptTopics) -> Uuid {
    topics.by_name.get(name).map_or(Uuid::nil(), |facts| facts.id)
}

impl Topics for ScriptTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.by_name.get(name).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<ByteString> {
        let found = self.by_name.iter().find(|(_, facts)| facts.id == id);
        found.map(|(name, _)| ByteString::from(name.as_str()))
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        self.by_name.keys().for_each(|name| visit(name));
    }
}
