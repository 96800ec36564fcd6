//! Walking over one level of a JSON object or array, handing out the raw text of each value.
//!
//! Refuses: anything after the value. Nesting may be as deep as it likes, since one level is walked without recursion
//! and whoever goes deeper stops at a depth of his own.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Takes the fields of an object.
pub(crate) trait FieldSink {
    /// Where the field goes; `None` skips its value without looking at it.
    fn slot(&mut self, name: &str) -> Option<usize>;
    /// The raw text of a wanted value.
    fn value(&mut self, slot: usize, raw: &str);
}

/// Walks over the fields of an object.
///
/// # Errors
/// When `text` is not exactly one JSON object. Fields before the trouble have been handed out.
pub(crate) fn walk_object(text: &[u8], sink: &mut impl FieldSink) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    deserializer.deserialize_map(ObjectVisitor(sink))?;
    deserializer.end()
}

/// Walks over the elements of an array.
///
/// # Errors
/// When `text` is not exactly one JSON array. Elements before the trouble have been handed out.
pub(crate) fn walk_array(text: &str, each: &mut impl FnMut(&str)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_seq(ArrayVisitor(each))?;
    deserializer.end()
}

struct ObjectVisitor<'a, S>(&'a mut S);

impl<'de, S: FieldSink> Visitor<'de> for ObjectVisitor<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(slot) = map.next_key_seed(SlotSeed(self.0))? {
            match slot {
                Some(slot) => {
                    let raw: &RawValue = map.next_value()?;
                    self.0.value(slot, raw.get());
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Looks the name of a field up where it stands, without copying it.
struct SlotSeed<'a, S>(&'a mut S);

impl<'de, S: FieldSink> DeserializeSeed<'de> for SlotSeed<'_, S> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<S: FieldSink> Visitor<'_> for SlotSeed<'_, S> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.slot(name))
    }
}

struct ArrayVisitor<'a, F>(&'a mut F);

impl<'de, F: FnMut(&str)> Visitor<'de> for ArrayVisitor<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            (self.0)(raw.get());
        }
        Ok(())
    }
}

/// The text of a JSON string whose raw form is `raw`; what no Unicode text can hold stays escaped as it was.
pub(crate) fn unquote(raw: &str) -> std::borrow::Cow<'_, str> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw);
    if !inner.as_bytes().contains(&b'\\') {
        return inner.into();
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => text.into(),
        // A lone surrogate such as \ud800.
        Err(_) => inner.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Collect(Vec<String>, String);

    impl FieldSink for Collect {
        fn slot(&mut self, name: &str) -> Option<usize> {
            self.1 = name.to_owned();
            (name != "skipped").then_some(self.0.len())
        }
        fn value(&mut self, _slot: usize, raw: &str) {
            self.0.push(format!("{}={raw}", self.1));
        }
    }

    fn fields(text: &str) -> Result<Vec<String>, serde_json::Error> {
        let mut sink = Collect::default();
        walk_object(text.as_bytes(), &mut sink).map(|()| sink.0)
    }

    #[test]
    fn values_come_out_as_they_were_written() {
        let got =
            fields(r#" {"a": 1.10, "skipped": [1, {"x": 2}], "é\n": {"b": null}, "a": "again"} "#).unwrap();
        assert_eq!(got, ["a=1.10", "é\n={\"b\": null}", "a=\"again\""]);
    }

    #[test]
    fn what_is_not_exactly_one_object_is_refused() {
        for text in [
            "",
            "null",
            "[1]",
            "1",
            "{",
            "{\"a\":1}}",
            "{} {}",
            "{\"a\":}",
            "{\"a\":1,}",
            "\u{feff}{}",
        ] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        let deep = format!("{}1{}", "{\"a\":".repeat(1_000_000), "}".repeat(1_000_000));
        assert_eq!(fields(&deep).unwrap().len(), 1);
    }

    #[test]
    fn strings_lose_quotes_and_escapes() {
        assert_eq!(unquote(r#""plain""#), "plain");
        assert_eq!(unquote(r#""a\"b\u00e9""#), "a\"bé");
        assert_eq!(unquote(r#""\ud800""#), r"\ud800");
    }
}
