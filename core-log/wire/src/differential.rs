//! Every message, every version, compared with the `kafka-protocol` package: the oracle shares no code with us.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::messages::for_each_message;
use crate::sample::{Sample, Sampler};
use crate::{FrameReader, FrameWriter, Message};

/// Random values per message and version.
const ROUNDS: u64 = 40;

fn encode<M: Message>(value: &M, version: i16) -> Bytes {
    let mut writer = FrameWriter::new();
    value.encode(&mut writer, version);
    writer
        .try_finish()
        .expect("samples are legal in their version")
        .into_bytes()
}

fn decode<M: Message>(bytes: Bytes, version: i16) -> M {
    let mut reader = FrameReader::new(bytes);
    let value = M::decode(&mut reader, version).expect("our own bytes");
    reader.finish().expect("nothing is left");
    value
}

/// Ours -> oracle -> bytes must be the bytes of ours, and reading them back must give the value.
fn compare<M, O>(versions: std::ops::RangeInclusive<i16>)
where
    M: Message + Sample + PartialEq + std::fmt::Debug + Default,
    O: Decodable + Encodable + std::fmt::Debug + Default,
{
    for version in versions {
        for seed in 0..ROUNDS {
            let mut sampler = Sampler::new(seed << 16 | version as u64);
            let value = M::sample(&mut sampler, version);
            check_value::<M, O>(&value, version);
        }
        check_default::<M, O>(version);
    }
}

fn check_value<M, O>(value: &M, version: i16)
where
    M: Message + PartialEq + std::fmt::Debug,
    O: Decodable + Encodable + std::fmt::Debug,
{
    let ours = encode(value, version);
    assert_eq!(&decode::<M>(ours.clone(), version), value, "version {version}");

    let mut rest = ours.clone();
    let theirs =
        O::decode(&mut rest, version).unwrap_or_else(|error| panic!("version {version}: {error}: {value:?}"));
    assert!(
        rest.is_empty(),
        "version {version}: the oracle left {} bytes of {value:?}",
        rest.len()
    );
    let mut again = BytesMut::new();
    theirs
        .encode(&mut again, version)
        .unwrap_or_else(|error| panic!("version {version}: {error}: {theirs:?}"));
    assert_eq!(again, ours, "version {version}: {value:?}\n{theirs:?}");
}

/// What the oracle writes for its default value is what we write for ours: same defaults, same tags left out.
fn check_default<M, O>(version: i16)
where
    M: Message + PartialEq + std::fmt::Debug + Default,
    O: Encodable + std::fmt::Debug + Default,
{
    let mut theirs = BytesMut::new();
    O::default()
        .encode(&mut theirs, version)
        .expect("defaults are legal in every version");
    assert_eq!(
        theirs,
        encode(&M::default(), version),
        "default, version {version}"
    );
    decode::<M>(theirs.freeze(), version);
}

macro_rules! compare_all {
    ($(($module:ident, $name:ident, $versions:expr))*) => {
        $(
            #[test]
            fn $module() {
                compare::<crate::messages::$name, kafka_protocol::messages::$name>($versions);
            }
        )*
    };
}

for_each_message!(compare_all);
