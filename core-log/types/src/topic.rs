//! Topic names and what names a partition.
//!
//! Refuses every name Kafka refuses (semantic 14), so that a [`TopicName`] can become a folder name as it is.
//!
//! # Invariants
//! - A [`TopicName`] is 1 to 249 characters of `a-z A-Z 0-9 . _ -` and neither `.` nor `..`.

use std::{borrow::Borrow, fmt, str::FromStr};

use bytestring::ByteString;

use crate::ids::PartitionId;

/// Longest legal topic name; leaves room for `-<partition>` and a deletion suffix in a 255-byte file name.
pub const MAX_TOPIC_NAME_CHARS: usize = 249;

/// Why a text cannot be a topic name (semantic 14).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopicName {
    /// The text has no characters.
    #[error("a topic name cannot be empty; use 1 to {MAX_TOPIC_NAME_CHARS} characters")]
    Empty,
    /// `.` and `..` would leave the data folder.
    #[error("topic name {name:?} stands for a folder; choose another name")]
    Dots {
        /// The refused text.
        name: ByteString,
    },
    /// The text is longer than [`MAX_TOPIC_NAME_CHARS`].
    #[error("topic name of {length_bytes} bytes is too long; use at most {MAX_TOPIC_NAME_CHARS} characters")]
    TooLong {
        /// How long the refused text is.
        length_bytes: usize,
    },
    /// A character outside the legal set.
    #[error("topic name has {character:?} at byte {position}; use only a-z, A-Z, 0-9, '.', '_' and '-'")]
    IllegalCharacter {
        /// The first illegal character.
        character: char,
        /// Where it stands, in bytes from the start.
        position: usize,
    },
}

/// A legal topic name; cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(ByteString);

impl TopicName {
    /// Checks the rules of semantic 14. Names that start with `__` are legal.
    ///
    /// # Errors
    /// [`InvalidTopicName`] says which rule is broken and where.
    pub fn new(name: impl Into<ByteString>) -> Result<Self, InvalidTopicName> {
        let name = name.into();
        match &*name {
            "" => return Err(InvalidTopicName::Empty),
            "." | ".." => return Err(InvalidTopicName::Dots { name }),
            _ => {}
        }
        if name.len() > MAX_TOPIC_NAME_CHARS {
            return Err(InvalidTopicName::TooLong {
                length_bytes: name.len(),
            });
        }
        let illegal = |c: &(usize, char)| !(c.1.is_ascii_alphanumeric() || matches!(c.1, '.' | '_' | '-'));
        match name.char_indices().find(illegal) {
            Some((position, character)) => Err(InvalidTopicName::IllegalCharacter { character, position }),
            None => Ok(Self(name)),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the wire codec wants it; shares the text.
    pub fn as_byte_string(&self) -> &ByteString {
        &self.0
    }

    /// Gives the shared text away.
    pub fn into_byte_string(self) -> ByteString {
        self.0
    }

    /// Whether the two names differ only in `.` against `_`. Kafka refuses to create such a pair because both
    /// give the same metric name (semantic 14).
    pub fn collides_with(&self, other: &Self) -> bool {
        let fold = |b: u8| if b == b'.' { b'_' } else { b };
        self.0.len() == other.0.len() && self.0.bytes().map(fold).eq(other.0.bytes().map(fold))
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Lets a map keyed by names be asked with a `&str`; `ByteString` hashes and compares as its text does.
impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicName({:?})", self.as_str())
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One partition of one topic. Prints as `topic-partition`, the name of its folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition inside the topic.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names a partition.
    pub const fn new(topic: TopicName, partition: PartitionId) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn refusal(name: &str) -> InvalidTopicName {
        TopicName::new(name).expect_err("the name should be refused")
    }

    #[test]
    fn legal_names_are_kept_as_they_are() {
        let longest = "t".repeat(MAX_TOPIC_NAME_CHARS);
        for name in ["a", "...", "__consumer_offsets", "Prices.v2_eu-1", &longest] {
            assert_eq!(TopicName::new(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    /// Hostile input 35: empty, folders, too long, slashes, look-alikes from other scripts.
    #[test]
    fn names_that_kafka_refuses_are_refused_with_the_reason() {
        assert_eq!(refusal(""), InvalidTopicName::Empty);
        assert_eq!(refusal("."), InvalidTopicName::Dots { name: ".".into() });
        assert_eq!(refusal(".."), InvalidTopicName::Dots { name: "..".into() });
        assert_eq!(
            refusal(&"t".repeat(250)),
            InvalidTopicName::TooLong { length_bytes: 250 }
        );
        for (name, character, position) in [("a/b", '/', 1), ("pri\u{441}es", '\u{441}', 3), ("a\0", '\0', 1)]
        {
            assert_eq!(
                refusal(name),
                InvalidTopicName::IllegalCharacter { character, position }
            );
        }
    }

    #[test]
    fn names_that_differ_only_in_dots_and_underscores_collide() {
        let name = |text: &str| TopicName::new(text).expect("legal");
        assert!(name("a.b_c").collides_with(&name("a_b.c")));
        assert!(!name("a.b").collides_with(&name("a-b")));
        assert!(!name("a.b").collides_with(&name("a.bc")));
    }

    #[test]
    fn a_map_of_names_answers_to_plain_text() {
        let map = HashMap::from([(TopicName::new("prices").expect("legal"), 1)]);
        assert_eq!(map.get("prices"), Some(&1));
    }

    #[test]
    fn a_partition_prints_as_its_folder() {
        let topic = TopicName::new("prices").expect("legal");
        assert_eq!(
            TopicPartition::new(topic, PartitionId::new(7)).to_string(),
            "prices-7"
        );
    }
}
