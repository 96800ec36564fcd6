//! Text of a schema file -> model. The format is described in `schema/README.md`.
//!
//! Refuses anything it does not understand, with the line number; nothing is guessed.

use std::collections::BTreeMap;

use super::schema::{Api, Field, Kind, Message, OPEN_END, Table, Versions};

/// One meaningful line: its number in the file, its indentation in steps of two spaces, its text.
struct Line<'a> {
    number: usize,
    depth: usize,
    text: &'a str,
}

/// Adds what `text` defines to `table`. The error starts with the line number.
pub(crate) fn parse(text: &str, table: &mut Table) -> Result<(), String> {
    let lines = significant_lines(text)?;
    let mut rest = lines.as_slice();
    while let Some((head, tail)) = rest.split_first() {
        let words: Vec<&str> = head.text.split_whitespace().collect();
        rest = match words.as_slice() {
            ["api", key, name, "versions", versions, "flexible", flexible] => {
                let key = key.parse().map_err(|_| at(head, "the api key is not a number"))?;
                let versions = closed_versions(versions).map_err(|error| at(head, &error))?;
                let flexible = first_flexible(flexible).map_err(|error| at(head, &error))?;
                let shape = (versions, flexible);
                let (request, tail) = half(head, tail, "request", &format!("{name}Request"), shape)?;
                let (response, tail) = half(head, tail, "response", &format!("{name}Response"), shape)?;
                table.apis.push(Api {
                    key,
                    name: name.to_string(),
                    request,
                    response,
                });
                tail
            }
            ["data", name, "versions", versions, "flexible", flexible] => {
                let versions = closed_versions(versions).map_err(|error| at(head, &error))?;
                let first_flexible = first_flexible(flexible).map_err(|error| at(head, &error))?;
                let (mut fields, tail) = fields(tail, 1, versions)?;
                repeat_structs(&mut fields, versions, &mut BTreeMap::new());
                table.data.push(Message {
                    name: name.to_string(),
                    versions,
                    first_flexible,
                    fields,
                });
                tail
            }
            _ => return Err(at(head, "expected `api` or `data` with versions and flexible")),
        };
    }
    Ok(())
}

fn significant_lines(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let content = raw.split('#').next().unwrap_or_default().trim_end();
        let text = content.trim_start_matches(' ');
        if text.is_empty() {
            continue;
        }
        let indent = content.len() - text.len();
        let line = Line {
            number: index + 1,
            depth: indent / 2,
            text,
        };
        if indent % 2 != 0 || text.starts_with('\t') {
            return Err(at(&line, "indent with two spaces per level"));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// The `request` or `response` half of an API.
fn half<'a, 'b>(
    head: &Line<'_>,
    lines: &'b [Line<'a>],
    keyword: &str,
    name: &str,
    (versions, first_flexible): (Versions, Option<i16>),
) -> Result<(Message, &'b [Line<'a>]), String> {
    let Some((first, tail)) = lines.split_first() else {
        return Err(at(head, &format!("the api has no `{keyword}`")));
    };
    if first.text != keyword || first.depth != 0 {
        return Err(at(first, &format!("expected `{keyword}`")));
    }
    let (mut fields, tail) = fields(tail, 1, versions)?;
    repeat_structs(&mut fields, versions, &mut BTreeMap::new());
    Ok((
        Message {
            name: name.to_string(),
            versions,
            first_flexible,
            fields,
        },
        tail,
    ))
}

/// Fields at `depth`, each with its children, up to the first line that is less deep.
fn fields<'a, 'b>(
    mut lines: &'b [Line<'a>],
    depth: usize,
    covered: Versions,
) -> Result<(Vec<Field>, &'b [Line<'a>]), String> {
    let mut found = Vec::new();
    while let Some((line, tail)) = lines.split_first() {
        if line.depth < depth {
            break;
        }
        if line.depth > depth {
            return Err(at(line, "too deep: the line above has no struct type"));
        }
        let mut field = field(line.text).map_err(|error| at(line, &error))?;
        let Some(versions) = field.versions.intersect(covered) else {
            return Err(at(line, "the field is in no version that the codec covers"));
        };
        lines = tail;
        if matches!(field.kind, Kind::Struct(_)) {
            (field.children, lines) = fields(tail, depth + 1, versions)?;
        }
        found.push(field);
    }
    Ok((found, lines))
}

/// Gives a struct field without fields of its own those of the struct of that name further up in the message. A struct
/// that would reach into more versions than its definition stays without, and the check of the table refuses it.
fn repeat_structs(
    fields: &mut [Field],
    covered: Versions,
    known: &mut BTreeMap<String, (Versions, Vec<Field>)>,
) {
    for field in fields {
        let (Kind::Struct(name), Some(versions)) = (&field.kind, field.versions.intersect(covered)) else {
            continue;
        };
        if !field.children.is_empty() {
            repeat_structs(&mut field.children, versions, known);
            known.insert(name.clone(), (versions, field.children.clone()));
        } else if let Some((defined, children)) = known.get(name)
            && versions.intersect(*defined) == Some(versions)
        {
            field.children = children.clone();
            field.is_repeated = true;
        }
    }
}

/// `name: type versions [nullable versions] [tag number] [secret] [= default]`
fn field(text: &str) -> Result<Field, String> {
    let (name, rest) = text.split_once(':').ok_or("expected `name: type versions`")?;
    let mut words = rest.split_whitespace();
    let type_name = words.next().ok_or("the type is missing")?;
    let (type_name, is_array) = match type_name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
    {
        Some(element) => (element, true),
        None => (type_name, false),
    };
    let kind = kind(type_name)?;
    let versions = self::versions(words.next().ok_or("the versions are missing")?)?;
    let mut field = Field {
        name: name.to_string(),
        kind,
        is_array,
        versions,
        nullable: None,
        tag: None,
        default: None,
        is_secret: false,
        children: Vec::new(),
        is_repeated: false,
    };
    while let Some(word) = words.next() {
        if word == "secret" {
            field.is_secret = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{word}` lacks its value"))?;
        match word {
            "nullable" => field.nullable = Some(self::versions(value)?),
            "tag" => field.tag = Some(value.parse().map_err(|_| "the tag is not a number")?),
            "=" => field.default = Some(value.to_string()),
            other => {
                return Err(format!(
                    "`{other}` is unknown; use `nullable`, `tag`, `secret` or `=`"
                ));
            }
        }
    }
    check_field(&field)?;
    Ok(field)
}

fn check_field(field: &Field) -> Result<(), String> {
    if field.nullable.is_some() && !field.is_array && field.kind.is_scalar() {
        return Err("only strings, bytes, records, structs and arrays can be null".to_string());
    }
    if field.kind == Kind::Records && (field.is_array || field.nullable.is_none()) {
        return Err("records are one nullable field".to_string());
    }
    let Some(default) = field.default.as_deref() else {
        return Ok(());
    };
    let is_right = match field.kind {
        _ if default == "null" => field.nullable.is_some(),
        _ if field.is_array => false,
        Kind::Bool => default == "true",
        Kind::Int8 => default.parse::<i8>().is_ok(),
        Kind::Int16 => default.parse::<i16>().is_ok(),
        Kind::Uint16 => default.parse::<u16>().is_ok(),
        Kind::Int32 => default.parse::<i32>().is_ok(),
        Kind::Int64 => default.parse::<i64>().is_ok(),
        Kind::Float64 | Kind::String | Kind::Bytes | Kind::Records | Kind::Uuid | Kind::Struct(_) => false,
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("`{default}` is no default for this type"))
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    Ok(match name {
        "bool" => Kind::Bool,
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "uint16" => Kind::Uint16,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float64" => Kind::Float64,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "records" => Kind::Records,
        "uuid" => Kind::Uuid,
        other if other.starts_with(|first: char| first.is_ascii_uppercase()) => {
            Kind::Struct(other.to_string())
        }
        other => {
            return Err(format!(
                "type `{other}` is unknown; struct names start with a capital letter"
            ));
        }
    })
}

/// `3`, `3-7` or `3+`.
fn versions(text: &str) -> Result<Versions, String> {
    let number = |text: &str| text.parse::<i16>().ok().filter(|version| *version >= 0);
    let parsed = if let Some(first) = text.strip_suffix('+') {
        number(first).map(|first| Versions {
            first,
            last: OPEN_END,
        })
    } else if let Some((first, last)) = text.split_once('-') {
        number(first)
            .zip(number(last))
            .map(|(first, last)| Versions { first, last })
    } else {
        number(text).map(|version| Versions {
            first: version,
            last: version,
        })
    };
    parsed
        .filter(|versions| versions.first <= versions.last)
        .ok_or_else(|| format!("`{text}` is no version range; write `3`, `3-7` or `3+`"))
}

fn closed_versions(text: &str) -> Result<Versions, String> {
    let versions = versions(text)?;
    if versions.last == OPEN_END {
        Err("a message needs a last version".to_string())
    } else {
        Ok(versions)
    }
}

fn first_flexible(text: &str) -> Result<Option<i16>, String> {
    match text {
        "none" => Ok(None),
        text => match versions(text)? {
            Versions {
                first,
                last: OPEN_END,
            } => Ok(Some(first)),
            _ => Err("flexible is `none` or `3+`".to_string()),
        },
    }
}

fn at(line: &Line<'_>, message: &str) -> String {
    format!("{}: {message}: {}", line.number, line.text)
}
