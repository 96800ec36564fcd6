//! Every message, every version, compared with the `kafka-protocol` package: the oracle shares no code with us.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::messages::{for_each_message, for_each_struct};
use crate::sample::{Sample, Sampler};
use crate::{FrameReader, FrameWriter, Message};

/// How the oracle shows a struct that met no unknown tag.
const NO_UNKNOWN_TAGS: &str = "unknown_tagged_fields: {}";

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
    // The oracle keeps tags it does not know and writes them again, which would hide a wrong tag of ours.
    let shown = format!("{theirs:?}");
    let (sections, empty) = (
        shown.matches("unknown_tagged_fields: {").count(),
        shown.matches(NO_UNKNOWN_TAGS).count(),
    );
    assert_eq!(
        sections, empty,
        "version {version}: a tag the oracle does not know in {shown}"
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

/// Our `Debug` text of a default, with the fields it does not show as the oracle shows them.
fn ours_shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
        .replace("records: 0 bytes", "records: Some(b\"\")")
        .replace("auth_bytes: hidden", "auth_bytes: b\"\"")
        .replace("value: hidden", "value: Some(\"\")")
}

/// Fields the oracle has for versions that Kafka 4.1 marks as unstable and we do not cover.
const UNSTABLE_FIELDS: [(&str, &str); 6] = [
    (
        "offset_commit",
        " topic_id: 00000000-0000-0000-0000-000000000000,",
    ),
    ("offset_fetch", " topic_id: 00000000-0000-0000-0000-000000000000,"),
    ("init_producer_id_request", ", enable_2_pc: false"),
    ("init_producer_id_request", ", keep_prepared_txn: false"),
    ("init_producer_id_response", ", ongoing_txn_producer_id: -1"),
    ("init_producer_id_response", ", ongoing_txn_producer_epoch: -1"),
];

/// Fields of nested structs that we hide and the oracle shows.
const SECRET_FIELDS: [(&str, &str); 2] = [
    ("alter_user_scram_credentials_request", "salt"),
    ("alter_user_scram_credentials_request", "salted_password"),
];

/// The oracle's `Debug` text of a default, without its wrapper types and its store of unknown tags.
fn theirs_shown(module: &str, value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:?}")
        .replace(&format!(", {NO_UNKNOWN_TAGS}"), "")
        .replace("_match: ", "match_name: ");
    for (_, field) in UNSTABLE_FIELDS
        .iter()
        .filter(|(prefix, _)| module.starts_with(prefix))
    {
        text = text.replace(field, "");
    }
    for (_, field) in SECRET_FIELDS
        .iter()
        .filter(|(prefix, _)| module.starts_with(prefix))
    {
        text = text.replace(&format!("{field}: b\"\""), &format!("{field}: hidden"));
    }
    for wrapper in [
        "BrokerId(",
        "GroupId(",
        "ProducerId(",
        "TopicName(",
        "TransactionalId(",
    ] {
        while let Some(start) = text.find(wrapper) {
            let end = start + text[start..].find(')').expect("the wrapper closes");
            text = [
                &text[..start],
                &text[start + wrapper.len()..end],
                &text[end + 1..],
            ]
            .concat();
        }
    }
    text
}

macro_rules! compare_defaults {
    ($(($module:ident, $name:ident))*) => {
        #[test]
        fn names_of_structs_and_fields_and_their_defaults_are_those_of_the_oracle() {
            $(
                let ours = crate::messages::$module::$name::default();
                let theirs = kafka_protocol::messages::$module::$name::default();
                let module = stringify!($module);
                assert_eq!(ours_shown(&ours), theirs_shown(module, &theirs), "{module}");
            )*
        }
    };
}

for_each_struct!(compare_defaults);
