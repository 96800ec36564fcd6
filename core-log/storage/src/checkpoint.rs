//! Small files beside the segments, in Kafka's formats: offset checkpoints of a data directory, `partition.metadata`,
//! `meta.properties`, the clean-shutdown marker.
//!
//! All are replaced as one step and synced, so that a crash leaves the old or the new content. What is read is
//! untrusted: counts are compared with the lines that are there, nothing is reserved by them.

use std::collections::BTreeMap;

use highwater_types::{Offset, PartitionId, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use crate::error::FormatProblem;

/// No checkpoint of ours is larger: 100,000 partitions with the longest names.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;

/// Splits a checkpoint into its entries' lines, with their numbers, after checking version and count.
pub(crate) fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, FormatProblem> {
    let text = str::from_utf8(bytes).map_err(|_| FormatProblem::NotText)?;
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    if version != "0" {
        return Err(FormatProblem::Version(shorten(version)));
    }
    let count = lines.next().unwrap_or_default();
    let announced: i64 = count.parse().map_err(|_| bad_line(2, count))?;
    let found = lines.clone().filter(|line| !line.is_empty()).count() as i64;
    if announced != found {
        return Err(FormatProblem::Count { announced, found });
    }
    Ok(lines
        .enumerate()
        .map(|(at, line)| (at + 3, line))
        .filter(|(_, line)| !line.is_empty()))
}

/// The error for a line that does not parse.
pub(crate) fn bad_line(line: usize, text: &str) -> FormatProblem {
    FormatProblem::Line {
        line,
        text: shorten(text),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// One offset per partition: `recovery-point-offset-checkpoint`, `log-start-offset-checkpoint`,
/// `replication-offset-checkpoint` (high watermarks).
///
/// ```text
/// 0                    version
/// 2                    number of entries
/// orders 0 1432        topic, partition, offset
/// orders 1 88
/// ```
pub type OffsetMap = BTreeMap<TopicPartition, Offset>;

/// Writes an offset checkpoint.
pub(crate) fn encode_offsets(offsets: &OffsetMap) -> Vec<u8> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        text.push_str(&format!(
            "{} {} {offset}\n",
            partition.topic.as_str(),
            partition.partition
        ));
    }
    text.into_bytes()
}

/// Reads an offset checkpoint.
pub(crate) fn decode_offsets(bytes: &[u8]) -> Result<OffsetMap, FormatProblem> {
    let mut offsets = OffsetMap::new();
    for (number, line) in lines(bytes)? {
        let (partition, offset) = parse_offset_line(line).ok_or_else(|| bad_line(number, line))?;
        if offsets.insert(partition, offset).is_some() {
            return Err(bad_line(number, line));
        }
    }
    Ok(offsets)
}

fn parse_offset_line(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut words = line.split_ascii_whitespace();
    let topic = TopicName::new(words.next()?).ok()?;
    let partition: i32 = words.next()?.parse().ok().filter(|partition| *partition >= 0)?;
    let offset: i64 = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
    if words.next().is_some() {
        return None;
    }
    Some((
        TopicPartition {
            topic,
            partition: PartitionId::new(partition),
        },
        Offset::new(offset),
    ))
}

/// Writes `partition.metadata`.
///
/// ```text
/// version: 0
/// topic_id: AAAAAAAAAAAAAAAAAAAAAQ
/// crc: 1ddac617            CRC-32C of the line above, as hex; Kafka writes none, and reads two lines
/// ```
/// By this file a directory is taken for the rest of a deleted topic: one flipped bit must not do that.
pub(crate) fn encode_partition_metadata(topic_id: TopicId) -> Vec<u8> {
    let id = encode_uuid(topic_id.get());
    let crc = crc32c::crc32c(id.as_bytes());
    format!("version: 0\ntopic_id: {id}\ncrc: {crc:08x}").into_bytes()
}

/// Reads `partition.metadata`, with our checksum or, from Kafka, without.
pub(crate) fn decode_partition_metadata(bytes: &[u8]) -> Result<TopicId, FormatProblem> {
    let text = str::from_utf8(bytes).map_err(|_| FormatProblem::NotText)?;
    let (mut topic_id, mut stored, mut computed) = (None, None, 0);
    for (at, line) in text.lines().enumerate() {
        let bad = || bad_line(at + 1, line);
        match line.split_once(": ") {
            Some(("version", "0")) => {}
            Some(("version", other)) => return Err(FormatProblem::Version(shorten(other))),
            Some(("topic_id", id)) => {
                let id = id.trim_end();
                computed = crc32c::crc32c(id.as_bytes());
                topic_id = Some(TopicId::new(decode_uuid(id).ok_or_else(bad)?));
            }
            Some(("crc", crc)) if crc.len() == 8 => {
                stored = Some(u32::from_str_radix(crc, 16).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
    }
    match stored {
        Some(stored) if stored != computed => Err(FormatProblem::Crc { stored, computed }),
        _ => topic_id.ok_or(FormatProblem::Missing("topic_id")),
    }
}

/// `meta.properties` of a data directory: whose it is (invariant 17).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`: identity of the directory itself (KIP-858).
    pub directory_id: Uuid,
}

impl MetaProperties {
    /// Writes version 1 of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        format!(
            "#\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
            self.cluster_id,
            encode_uuid(self.directory_id),
            self.node_id
        )
        .into_bytes()
    }

    /// Reads version 1 of the file; unknown keys are left alone.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let text = str::from_utf8(bytes).map_err(|_| FormatProblem::NotText)?;
        let mut values = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line.starts_with('!') {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| bad_line(at + 1, line))?;
            values.insert(key.trim(), (at + 1, line, value.trim()));
        }
        let get = |key: &'static str| values.get(key).copied().ok_or(FormatProblem::Missing(key));
        let (_, _, version) = get("version")?;
        if version != "1" {
            return Err(FormatProblem::Version(shorten(version)));
        }
        let (node_at, node_line, node_id) = get("node.id")?;
        let (dir_at, dir_line, directory_id) = get("directory.id")?;
        Ok(Self {
            cluster_id: get("cluster.id")?.2.to_owned(),
            node_id: node_id.parse().map_err(|_| bad_line(node_at, node_line))?,
            directory_id: decode_uuid(directory_id).ok_or_else(|| bad_line(dir_at, dir_line))?,
        })
    }
}

/// Writes `.kafka_cleanshutdown`.
pub(crate) fn encode_clean_shutdown(broker_epoch: Option<i64>) -> Vec<u8> {
    // -1 is how the file spells "unknown".
    format!("{{\"version\":0,\"brokerEpoch\":{}}}", broker_epoch.unwrap_or(-1)).into_bytes()
}

const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka spells UUIDs as URL-safe base64 without padding: 22 characters.
pub(crate) fn encode_uuid(id: Uuid) -> String {
    let mut bits = id.as_u128();
    // 128 bits are 21 groups of six and one of two, which is padded with zeros on the right.
    let mut text = [0; 22];
    text[21] = URL_SAFE[((bits & 0b11) << 4) as usize];
    bits >>= 2;
    for letter in text[..21].iter_mut().rev() {
        *letter = URL_SAFE[(bits & 0b11_1111) as usize];
        bits >>= 6;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

/// Reads Kafka's spelling of a UUID.
pub(crate) fn decode_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let mut bits: u128 = 0;
    for (at, letter) in text.bytes().enumerate() {
        let value = URL_SAFE.iter().position(|known| *known == letter)? as u128;
        if at < 21 {
            bits = (bits << 6) | value;
        } else if value & 0b1111 == 0 {
            bits = (bits << 2) | (value >> 4);
        } else {
            return None;
        }
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicName::new("orders").unwrap(),
            partition: PartitionId::new(partition),
        }
    }

    #[test]
    fn offset_checkpoints_have_kafkas_text() {
        let offsets = OffsetMap::from([(orders(0), Offset::new(1432)), (orders(1), Offset::new(88))]);
        assert_eq!(encode_offsets(&offsets), b"0\n2\norders 0 1432\norders 1 88\n");
        assert_eq!(decode_offsets(&encode_offsets(&offsets)).unwrap(), offsets);
    }

    #[test]
    fn damaged_offset_checkpoints_are_refused() {
        for bad in [
            "",
            "\0\0\0\0",
            "1\n0\n",
            "0\n9223372036854775807\n",
            "0\n2\norders 0 1\n",
            "0\n1\norders 0\n",
            "0\n1\norders 0 -1\n",
            "0\n1\n../x 0 1\n",
            "0\n2\norders 0 1\norders 0 2\n",
        ] {
            assert!(decode_offsets(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(decode_offsets(&[0xff, 0xfe]).unwrap_err(), FormatProblem::NotText);
    }

    #[test]
    fn uuids_are_spelled_as_kafka_does() {
        // Kafka's Uuid.METADATA_TOPIC_ID (1) and a random one checked against java.util.Base64.
        assert_eq!(encode_uuid(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = Uuid::from_u128(0x00010203_04050607_08090a0b_0c0d0e0f);
        assert_eq!(encode_uuid(id), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(decode_uuid("AAECAwQFBgcICQoLDA0ODw"), Some(id));
        assert_eq!(
            decode_uuid("AAECAwQFBgcICQoLDA0ODx"),
            None,
            "bits beyond the 128th"
        );
        assert_eq!(decode_uuid("short"), None);
    }

    #[test]
    fn partition_metadata_has_kafkas_text() {
        let id = TopicId::new(Uuid::from_u128(1));
        assert_eq!(
            encode_partition_metadata(id),
            b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\ncrc: 1ddac617"
        );
        assert_eq!(
            decode_partition_metadata(b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n").unwrap(),
            id,
            "as Kafka writes it"
        );
        assert_eq!(
            decode_partition_metadata(&encode_partition_metadata(id)).unwrap(),
            id
        );
        assert!(decode_partition_metadata(b"version: 0\n").is_err());
        assert!(decode_partition_metadata(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ").is_err());
    }

    #[test]
    fn meta_properties_round_trip_and_tolerate_comments() {
        let meta = MetaProperties {
            cluster_id: "c1".to_owned(),
            node_id: 3,
            directory_id: Uuid::from_u128(7),
        };
        assert_eq!(MetaProperties::decode(&meta.encode()).unwrap(), meta);
        let text =
            "#Fri\ncluster.id=c1\nnode.id=3\n\nversion=1\nextra=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAABw\n";
        assert_eq!(MetaProperties::decode(text.as_bytes()).unwrap(), meta);
        assert!(MetaProperties::decode(b"version=0\n").is_err());
    }

    #[test]
    fn the_clean_shutdown_marker_has_kafkas_json() {
        assert_eq!(
            encode_clean_shutdown(Some(5)),
            br#"{"version":0,"brokerEpoch":5}"#
        );
        assert_eq!(encode_clean_shutdown(None), br#"{"version":0,"brokerEpoch":-1}"#);
    }
}
