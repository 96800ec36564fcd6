//! What the coordinator must know of the consumers' own protocol: which topics a member subscribes to.
//!
//! Everything else in a subscription belongs to the clients. A subscription that cannot be read is not an
//! error: the group's topics are then unknown, and the coordinator stays on the safe side.

use std::collections::BTreeSet;

use bytes::Bytes;
use bytestring::ByteString;

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
