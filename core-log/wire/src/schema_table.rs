//! Checks of the schema table itself: the parser refuses what it does not understand, and the API table is Kafka's.

#[allow(dead_code, reason = "the emitters use the rest")]
#[path = "../build/schema.rs"]
mod schema;

#[path = "../build/parse.rs"]
mod parse;

use crate::ApiKey;

/// What the parser says about one `data` format with these field lines.
fn complaint(fields: &str) -> String {
    let mut table = schema::Table::default();
    let text = format!("data Thing versions 2-4 flexible 3+\n{fields}\n");
    match parse::parse(&text, &mut table).and_then(|()| table.check()) {
        Ok(()) => "fine".to_string(),
        Err(message) => message,
    }
}

#[test]
fn parser_names_line_and_fault() {
    let cases = [
        ("  a: int32 0+ # comment", "fine"),
        ("  a: string 2+ nullable 3+ tag 0 = null", "fine"),
        ("  a: Inner 2+\n    b: [int32] 2+", "fine"),
        ("  a: Inner 2+ nullable 3+ = null\n    b: int32 2+", "fine"),
        ("  a: bytes 2+ secret", "fine"),
        (
            "   a: int32 0+",
            "2: indent with two spaces per level: a: int32 0+",
        ),
        (
            "  a: int32 0+\n    b: int8 0+",
            "3: too deep: the line above has no struct type: b: int8 0+",
        ),
        (
            "  a: int 0+",
            "2: type `int` is unknown; struct names start with a capital letter: a: int 0+",
        ),
        ("  a: int32", "2: the versions are missing: a: int32"),
        (
            "  a: int32 4-2",
            "2: `4-2` is no version range; write `3`, `3-7` or `3+`: a: int32 4-2",
        ),
        (
            "  a: int32 0-1",
            "2: the field is in no version that the codec covers: a: int32 0-1",
        ),
        (
            "  a: int32 2+ nullable 2+",
            "2: only strings, bytes, records, structs and arrays can be null: a: int32 2+ nullable 2+",
        ),
        (
            "  a: int8 2+ = 300",
            "2: `300` is no default for this type: a: int8 2+ = 300",
        ),
        (
            "  a: string 2+ = null",
            "2: `null` is no default for this type: a: string 2+ = null",
        ),
        (
            "  a: int8 2+ ignorable yes",
            "2: `ignorable` is unknown; use `nullable`, `tag`, `secret` or `=`: a: int8 2+ ignorable yes",
        ),
        ("  a: int8 2+ tag", "2: `tag` lacks its value: a: int8 2+ tag"),
        ("  a: int8 2+\n  a: int8 2+", "Thing.a is defined twice"),
        (
            "  a: int8 3+ tag 0\n  b: int8 3+ tag 0",
            "Thing.b: tag 0 is taken",
        ),
        ("  a: Inner 2+", "Thing.a: struct Inner has no fields"),
        ("  a: Inner 3+\n    b: int8 3+\n  c: [Inner] 4+", "fine"),
        (
            "  a: Inner 3+\n    b: int8 3+\n  c: Inner 2+",
            "Thing.c: struct Inner is defined twice in one message",
        ),
        (
            "request",
            "2: expected `api` or `data` with versions and flexible: request",
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(complaint(fields), expected, "{fields}");
    }
}

#[test]
fn version_conditions_are_the_shortest_that_hold() {
    use schema::Versions;
    let range = |first, last| Versions { first, last };
    let cases = [
        (range(0, 9), None),
        (range(0, schema::OPEN_END), None),
        (range(4, 9), Some("version >= 4")),
        (range(0, 4), Some("version <= 4")),
        (range(4, 4), Some("version == 4")),
        (range(4, 6), Some("(4..=6).contains(&version)")),
    ];
    for (versions, expected) in cases {
        assert_eq!(
            versions.condition_within(range(2, 9)).as_deref(),
            expected,
            "{versions}"
        );
    }
}

#[test]
fn names_numbers_and_versions_of_every_api_are_those_of_the_oracle() {
    /// Kafka 4.1 marks the last request version as unstable; the oracle counts it but cannot write it either.
    const UNSTABLE: [ApiKey; 3] = [ApiKey::OffsetCommit, ApiKey::OffsetFetch, ApiKey::InitProducerId];
    for key in ApiKey::ALL {
        let theirs = kafka_protocol::messages::ApiKey::try_from(key.as_i16()).expect("a number of Kafka's");
        assert_eq!(format!("{theirs:?}"), key.name());
        let range = theirs.valid_versions();
        let last = if UNSTABLE.contains(&key) {
            range.max - 1
        } else {
            range.max
        };
        assert_eq!(key.codec_versions(), range.min..=last, "{}", key.name());
        for version in key.codec_versions() {
            assert_eq!(
                key.request_header_version(version),
                theirs.request_header_version(version),
                "{key:?}"
            );
            assert_eq!(
                key.response_header_version(version),
                theirs.response_header_version(version),
                "{key:?}"
            );
        }
    }
}
