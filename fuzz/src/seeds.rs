//! Where fuzzing starts: honest inputs of every target, made by our own encoders.
//!
//! A fuzzer finds its way from a valid input in seconds and from nothing in hours. Seeds are made, not stored, so they
//! follow the formats as these grow; only inputs that once broke a claim are stored.

use bytes::Bytes;
use highwater_storage::testing::FakeDisk;
use highwater_storage::{CorruptionPolicy, DataDir, DataDirOptions, LogConfig};
use highwater_types::record::{
    BatchBuilder, BatchOptions, Compression, HEADER_BYTES, Header, ProducerStamp, RecordBatch,
};
use highwater_types::{
    ByteString, LeaderEpoch, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicName,
    TopicPartition,
};
use highwater_wire::messages::ConsumerGroupHeartbeatRequest;
use highwater_wire::{ApiKey, FrameReader, FrameWriter, Message, RequestBody, RequestHeader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::targets::storage::{IN_PARTITION, IN_ROOT, ROOT};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Honest inputs of a target; empty for a name that is none.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "wire_request" => requests(),
        "wire_response" => responses(),
        "consumer_protocol" => consumer_protocol(),
        "record_batch" => CODECS.iter().map(|codec| batch(*codec).to_vec()).collect(),
        "record_decompression" => compressed_bodies(),
        "storage_files" => data_dirs(),
        "coordinator_records" => vec![offset_commit_record()],
        "coordinator_requests" => vec![group_life(), consumer_group_life()],
        "login_messages" => login_messages(),
        "metadata_records" => vec![METADATA.as_bytes().to_vec()],
        _ => Vec::new(),
    }
}

/// One of each kind, behind the byte that says which it is; see the target.
fn login_messages() -> Vec<Vec<u8>> {
    let scram = b"n,,n=tim,r=abc\nc=biws,r=abcdef,p=4RZsGiCT2JHD3v0zFhqJ8c3lJlmMdw1kQ0B4d4k7X2E=";
    let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ0aW0iLCJleHAiOjJ9.AAAA";
    let subject = [0x31, 12, 0x30, 10, 6, 3, 0x55, 4, 3, 0x0c, 3, b't', b'i', b'm'];
    [
        &b"\0\0tim\0pencil"[..],
        b"\x01n,,\x01auth=Bearer a.b.c\x01host=b\x01\x01",
        &[&[2], &scram[..]].concat(),
        &[&[3], token.as_bytes()].concat(),
        &[&[4], key.as_bytes()].concat(),
        &[&[5], &subject[..]].concat(),
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// For each key and version the simplest bodies that decode: all lengths zero, and in flexible versions all ones.
fn requests() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for key in ApiKey::ALL {
        for version in key.codec_versions() {
            for body in [Bytes::from_static(&[0; 96]), Bytes::from_static(&[1; 96])] {
                let Ok(body) = RequestBody::decode(key, version, &mut FrameReader::new(body)) else {
                    continue;
                };
                let mut writer = FrameWriter::new();
                RequestHeader::new(key, version, 7, Some("seed".into())).encode(&mut writer);
                body.encode(&mut writer, version);
                found.push(writer.finish().into_bytes().to_vec());
            }
        }
    }
    found
}

fn responses() -> Vec<Vec<u8>> {
    (0..ApiKey::ALL.len())
        .flat_map(|key| {
            (0..20u8).map(move |version| {
                let mut input = vec![u8::try_from(key).expect("fewer keys than 256"), version];
                input.extend_from_slice(&[0; 64]);
                input
            })
        })
        .collect()
}

fn consumer_protocol() -> Vec<Vec<u8>> {
    (0..8u8)
        .map(|which| {
            let mut input = vec![which % 2, which / 2];
            // One topic "t", with what follows it empty; or one topic with one partition.
            input.extend_from_slice(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            input
        })
        .collect()
}

fn batch(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        producer: Some(ProducerStamp {
            id: ProducerId::new(4_000),
            epoch: ProducerEpoch::new(1),
            base_sequence: Some(Sequence::new(0)),
        }),
        ..BatchOptions::default()
    });
    let headers = [
        Header::new("trace", Some(Bytes::from_static(b"a"))),
        Header::new("trace", None),
    ];
    for (at, value) in [Some(&b"64000.10"[..]), None, Some(b"")].into_iter().enumerate() {
        let timestamp = Timestamp::new(1_000 + i64::try_from(at).expect("three records"));
        builder.append(timestamp, Some(b"BTCUSDT"), value, &headers);
    }
    builder.build().expect("three small records")
}

fn compressed_bodies() -> Vec<Vec<u8>> {
    CODECS[1..]
        .iter()
        .zip(0u8..)
        .map(|(codec, which)| [&[which], &batch(*codec)[HEADER_BYTES..]].concat())
        .collect()
}

/// What our own writer leaves after some appends: closed, and killed.
fn data_dirs() -> Vec<Vec<u8>> {
    let disk = FakeDisk::new();
    let partition = TopicPartition {
        topic: TopicName::new("fuzz").expect("a legal name"),
        partition: PartitionId::new(0),
    };
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = DataDir::open(disk.shared(), PathBuf::from(ROOT), options).expect("an empty disk opens");
    let config = Arc::new(LogConfig {
        segment_bytes: 512,
        ..LogConfig::default()
    });
    let now = Timestamp::new(1_000);
    let (mut log, _) = dir
        .open_partition(&partition, None, config, now)
        .expect("a new partition opens");
    let (first, _) = RecordBatch::parse(batch(Compression::None)).expect("our own batch");
    log.append_as_leader(first, LeaderEpoch::new(0), now)
        .expect("a healthy disk takes a batch");
    let killed = collect(&disk);
    log.close().expect("a healthy disk closes");
    dir.mark_clean_shutdown(None)
        .expect("a healthy disk takes the marker");
    vec![killed, collect(&disk)]
}

/// The files of a disk in the form that the target lays out.
fn collect(disk: &FakeDisk) -> Vec<u8> {
    let partition = Path::new(ROOT).join("fuzz-0");
    let in_partition = IN_PARTITION.iter().map(|name| partition.join(name));
    let in_root = IN_ROOT.iter().map(|name| Path::new(ROOT).join(name));
    let mut input = vec![0];
    for (path, which) in in_partition.chain(in_root).zip(0u8..) {
        let Some(content) = disk.content(&path) else {
            continue;
        };
        let Ok(length) = u16::try_from(content.len()) else {
            continue;
        };
        input.push(which);
        input.extend_from_slice(&length.to_be_bytes());
        input.extend_from_slice(&content);
    }
    input
}

/// Offset 5 of partition 0 of topic "t", committed by group "g" (key version 1, value version 3).
fn offset_commit_record() -> Vec<u8> {
    let key = [&[0, 1][..], &[0, 1, b'g'], &[0, 1, b't'], &[0, 0, 0, 0]].concat();
    let value = [
        &[0, 3][..],
        &5i64.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &[0, 0],
        &9i64.to_be_bytes(),
    ]
    .concat();
    [sized(&key), vec![1], sized(&value)].concat()
}

/// A member joins, time passes, and it asks for offsets.
fn group_life() -> Vec<u8> {
    let join = [
        &[0, 1, b'g'][..],
        &30_000i32.to_be_bytes(),
        &60_000i32.to_be_bytes(),
        &[0, 1, b'm', 0, 8],
        b"consumer",
        &[0, 0, 0, 1, 0, 5],
        b"range",
        &[0, 0, 0, 0],
    ]
    .concat();
    let fetch = [&[0, 1, b'g'][..], &[0, 0, 0, 0]].concat();
    [
        [vec![0, 1], sized(&join)].concat(),
        vec![0xf0, 0, 0x0f, 0xff],
        [vec![5, 2], sized(&fetch)].concat(),
    ]
    .concat()
}

/// A member of the newer protocol joins, stays and leaves.
fn consumer_group_life() -> Vec<u8> {
    let beat = |epoch: i32, topics: Option<Vec<ByteString>>| {
        let body = ConsumerGroupHeartbeatRequest {
            group_id: "g".into(),
            member_id: "m".into(),
            member_epoch: epoch,
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: topics,
            topic_partitions: (epoch == 0).then(Vec::new),
            ..Default::default()
        };
        let mut writer = FrameWriter::new();
        body.encode(&mut writer, 1);
        [vec![10, 1], sized(&writer.finish().into_bytes())].concat()
    };
    [
        beat(0, Some(vec!["t".into(), "a".into()])),
        vec![0xf0, 0x0f, 0xff],
        beat(1, None),
        beat(-1, None),
    ]
    .concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("seeds are small");
    [&length.to_be_bytes(), bytes].concat()
}

const METADATA: &str = r#"[
{"cluster.1":{"cluster_id":"0123456789012345678901"}},
{"feature.1":{"name":"metadata.version","level":1}},
{"producer_id_block.1":{"first_producer_id":0,"next_producer_id":1000}},
{"scram_credential.1":{"user":"ann","mechanism":"sha_256","credential":{"iterations":4096,"salt":"00ff","stored_key":"0000000000000000000000000000000000000000000000000000000000000000","server_key":"0000000000000000000000000000000000000000000000000000000000000000"}}},
{"acl.1":{"id":"01020304-0506-0708-090a-0b0c0d0e0f10","resource_type":"topic","name":"pri","pattern":"prefixed","principal":"User:*","host":"::1","operation":"read","permission":"allow"}},
{"remove_acl.1":{"id":"01020304-0506-0708-090a-0b0c0d0e0f10"}}
]"#;
