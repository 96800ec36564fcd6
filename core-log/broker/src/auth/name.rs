//! Distinguished names of certificates as text (RFC 2253), as Java and therefore Kafka's ACLs write them:
//! `CN=alice,OU=Data,O=Example,C=AT`.
//!
//! Invariant: two names that differ give texts that differ, since everything that has a meaning in the text is escaped.

use std::fmt::Write;

/// The longest name; those of people and machines have a few hundred bytes.
const MAX_NAME_BYTES: usize = 4096;

/// A subject that is empty or no name at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate's subject is no name")]
pub(crate) struct NoName;

/// Attribute types that have a word in RFC 2253; the others are written as numbers.
const WORDS: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The text of a subject, given the inside of its DER sequence.
pub(crate) fn text(subject: &[u8]) -> Result<String, NoName> {
    if subject.is_empty() || subject.len() > MAX_NAME_BYTES {
        return Err(NoName);
    }
    let mut parts = Vec::new();
    let mut rest = subject;
    while !rest.is_empty() {
        let set;
        (set, rest) = element(rest, SET)?;
        parts.push(part(set)?);
    }
    // The most general part comes first in a certificate, and last in the text.
    parts.reverse();
    Ok(parts.join(","))
}

/// `type=value`, several of them joined by `+`.
fn part(set: &[u8]) -> Result<String, NoName> {
    let mut text = String::new();
    let mut rest = set;
    while !rest.is_empty() {
        let attribute;
        (attribute, rest) = element(rest, SEQUENCE)?;
        let (id, value) = element(attribute, OBJECT_IDENTIFIER)?;
        let (tag, content, after) = any_element(value)?;
        if !after.is_empty() {
            return Err(NoName);
        }
        if !text.is_empty() {
            text.push('+');
        }
        let word = WORDS
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, word)| *word);
        match (word, string(tag, content)) {
            (Some(word), Some(string)) => {
                text.push_str(word);
                text.push('=');
                escape(&string, &mut text);
            }
            (word, _) => {
                match word {
                    Some(word) => text.push_str(word),
                    None => dotted(id, &mut text)?,
                }
                text.push_str("=#");
                for byte in value {
                    // Writing to a string cannot fail, here and below.
                    let _ = write!(text, "{byte:02x}");
                }
            }
        }
    }
    if text.is_empty() { Err(NoName) } else { Ok(text) }
}

/// A value of one of the string types.
fn string(tag: u8, content: &[u8]) -> Option<String> {
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const T61: u8 = 0x14;
    const IA5: u8 = 0x16;
    const BMP: u8 = 0x1e;
    match tag {
        UTF8 => std::str::from_utf8(content).ok().map(str::to_owned),
        PRINTABLE | IA5 => content
            .is_ascii()
            .then(|| content.iter().map(|byte| char::from(*byte)).collect()),
        T61 => Some(content.iter().map(|byte| char::from(*byte)).collect()),
        BMP => {
            let (units, odd) = content.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            odd.is_empty().then(|| String::from_utf16(&units).ok())?
        }
        _ => None,
    }
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, char) in value.chars().enumerate() {
        match char {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => {
                text.push('\\');
                text.push(char);
            }
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            // Whoever is named by a line break is not to write into logs.
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            other => text.push(other),
        }
    }
}

/// An object identifier in figures.
fn dotted(id: &[u8], text: &mut String) -> Result<(), NoName> {
    let mut arc: u64 = 0;
    let mut is_first = true;
    for byte in id {
        if arc > u64::MAX >> 7 {
            return Err(NoName);
        }
        arc = arc << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let root = (arc / 40).min(2);
            let _ = write!(text, "{root}.{}", arc - root * 40);
            is_first = false;
        } else {
            let _ = write!(text, ".{arc}");
        }
        arc = 0;
    }
    let is_whole = id.last().is_some_and(|byte| byte & 0x80 == 0);
    if is_whole { Ok(()) } else { Err(NoName) }
}

/// The content of the element of this type that `bytes` begin with, and what follows it.
fn element(bytes: &[u8], expected: u8) -> Result<(&[u8], &[u8]), NoName> {
    let (tag, content, rest) = any_element(bytes)?;
    if tag == expected {
        Ok((content, rest))
    } else {
        Err(NoName)
    }
}

fn any_element(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), NoName> {
    let (&[tag, first], rest) = bytes.split_first_chunk::<2>().ok_or(NoName)?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (len, rest) = rest.split_first().ok_or(NoName)?;
            (usize::from(*len), rest)
        }
        0x82 => {
            let (len, rest) = rest.split_first_chunk::<2>().ok_or(NoName)?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        // Longer ones do not fit the largest name.
        _ => return Err(NoName),
    };
    let (content, rest) = rest.split_at_checked(len).ok_or(NoName)?;
    Ok((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match u8::try_from(content.len()) {
            Ok(len @ 0..0x80) => bytes.push(len),
            Ok(len) => bytes.extend([0x81, len]),
            Err(_) => bytes.extend([&[0x82][..], &(content.len() as u16).to_be_bytes()].concat()),
        }
        bytes.extend_from_slice(content);
        bytes
    }

    fn attribute(id: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        der(SEQUENCE, &[der(OBJECT_IDENTIFIER, id), der(tag, value)].concat())
    }

    const CN: &[u8] = &[0x55, 4, 3];
    const C: &[u8] = &[0x55, 4, 6];
    const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

    #[test]
    fn parts_are_reversed_and_types_without_a_word_are_numbers_as_java_writes_them() {
        let name = [
            der(SET, &attribute(C, 0x13, b"AT")),
            der(
                SET,
                &[
                    attribute(CN, 0x0c, "Zo\u{eb}".as_bytes()),
                    attribute(EMAIL, 0x16, b"z@b"),
                ]
                .concat(),
            ),
        ]
        .concat();
        assert_eq!(
            text(&name).unwrap(),
            "CN=Zo\u{eb}+1.2.840.113549.1.9.1=#16037a4062,C=AT"
        );
        let wide = der(SET, &attribute(CN, 0x1e, &[0, b'h', 0, b'i']));
        assert_eq!(text(&wide).unwrap(), "CN=hi");
    }

    #[test]
    fn values_cannot_pretend_to_be_further_parts() {
        let of = |value: &[u8]| text(&der(SET, &attribute(CN, 0x0c, value))).unwrap();
        assert_eq!(of(b"a,O=b"), "CN=a\\,O\\=b");
        assert_eq!(of(b" #a+b\\ "), "CN=\\ \\#a\\+b\\\\\\ ");
        assert_eq!(of(b"a\nb\0"), "CN=a\\0ab\\00");
    }

    #[test]
    fn hostile_92_names_that_are_none_are_refused_wherever_they_break() {
        let name = der(SET, &attribute(CN, 0x0c, b"alice"));
        for cut in 0..name.len() {
            assert_eq!(text(&name[..cut]), Err(NoName), "{cut}");
        }
        assert_eq!(text(&[]), Err(NoName));
        assert_eq!(text(&der(SET, &[])), Err(NoName));
        assert_eq!(text(&der(SET, &attribute(&[0x80], 0x0c, b"x"))), Err(NoName));
        assert_eq!(text(&der(SET, &attribute(&[0xff; 12], 0x0c, b"x"))), Err(NoName));
        let long = der(SET, &attribute(CN, 0x0c, &[b'a'; MAX_NAME_BYTES]));
        assert_eq!(text(&long), Err(NoName));
    }
}
