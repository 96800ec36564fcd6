//! What the coordinator must know of the consumers' own protocol: which topics a member subscribes to, and, when
//! classic members live in a consumer group, what they own and should own.
//!
//! Everything else in a subscription belongs to the clients. In a classic group a subscription that cannot be read
//! is not an error: the group's topics are then unknown, and the coordinator stays on the safe side.

use std::collections::BTreeSet;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_wire::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use highwater_wire::messages::{consumer_protocol_assignment, consumer_protocol_subscription};
use highwater_wire::{DecodeError, FrameReader, FrameWriter, Message};

use crate::consumer::partitions::Partitions;
use crate::topics::Topics;

use crate::records::ReplayError;
use crate::records::codec::Reader;

/// The protocol type of ordinary consumers.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics of one subscription (`ConsumerProtocolSubscription`: version, then an array of topic names).
pub(crate) fn subscribed_topics(subscription: &Bytes) -> Result<Vec<ByteString>, ReplayError> {
    let mut r = Reader::new(subscription.clone());
    r.i16("subscription version")?;
    let count = r.array_length("topics")?;
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(r.string("topic")?);
    }
    Ok(topics)
}

/// The topics of all subscriptions, or `None` when one of them cannot be read.
pub(crate) fn union_of_topics<'a>(
    subscriptions: impl Iterator<Item = &'a Bytes>,
) -> Option<BTreeSet<ByteString>> {
    let mut all = BTreeSet::new();
    for subscription in subscriptions {
        all.extend(subscribed_topics(subscription).ok()?);
    }
    Some(all)
}

/// The newest version of both formats. Later ones only add fields, so they are read as this one.
const NEWEST_VERSION: i16 = 3;

fn versioned<M: Message>(bytes: &Bytes) -> Result<(i16, M), DecodeError> {
    let mut reader = FrameReader::new(bytes.clone());
    let version = reader.i16()?;
    let known = version.clamp(0, NEWEST_VERSION);
    Ok((known, M::decode(&mut reader, known)?))
}

/// A consumer's subscription and its version.
pub(crate) fn decode_subscription(bytes: &Bytes) -> Result<(i16, ConsumerProtocolSubscription), DecodeError> {
    versioned(bytes)
}

/// The assignment a leader made for a consumer.
pub(crate) fn decode_assignment(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    versioned(bytes).map(|(_, assignment)| assignment)
}

/// What an assignment names, without topics that are gone.
pub(crate) fn partitions_of(assignment: &ConsumerProtocolAssignment, topics: &dyn Topics) -> Partitions {
    let named = assignment.assigned_partitions.iter();
    by_id(named.map(|topic| (&topic.topic, &topic.partitions)), topics)
}

/// What a consumer says it owns, without topics that are gone.
pub(crate) fn owned_partitions(
    subscription: &ConsumerProtocolSubscription,
    topics: &dyn Topics,
) -> Partitions {
    let named = subscription.owned_partitions.iter();
    by_id(
        named.map(|topic: &consumer_protocol_subscription::TopicPartition| (&topic.topic, &topic.partitions)),
        topics,
    )
}

fn by_id<'a>(named: impl Iterator<Item = (&'a ByteString, &'a Vec<i32>)>, topics: &dyn Topics) -> Partitions {
    let known = named.filter_map(|(name, partitions)| Some((topics.by_name(name)?.id, partitions)));
    known
        .flat_map(|(id, partitions)| partitions.iter().map(move |partition| (id, *partition)))
        .collect()
}

/// An assignment in the bytes that a consumer of this version reads; `None` if a field does not fit.
pub(crate) fn encode_assignment(version: i16, partitions: &Partitions, topics: &dyn Topics) -> Option<Bytes> {
    let named = partitions.topics().filter_map(|(id, partitions)| {
        Some(consumer_protocol_assignment::TopicPartition {
            topic: topics.name_of(id)?,
            partitions: partitions.iter().copied().collect(),
        })
    });
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: named.collect(),
        user_data: None,
    };
    let mut writer = FrameWriter::new();
    writer.put_i16(version);
    assignment.encode(&mut writer, version);
    writer.try_finish().ok().map(|frame| frame.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_the_rest_is_ignored() {
        let bytes =
            Bytes::from_static(b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff whatever");
        assert_eq!(subscribed_topics(&bytes).unwrap(), ["a", "bc"]);
    }

    #[test]
    fn a_subscription_that_lies_about_its_length_is_unknown() {
        let lying = Bytes::from_static(b"\x00\x00\x7f\xff\xff\xff\x00\x01a");
        assert_eq!(union_of_topics([&lying].into_iter()), None);
    }
}
