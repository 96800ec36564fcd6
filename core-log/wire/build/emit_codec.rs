//! `Message` for every struct: the version rules of the table become straight-line code.
//!
//! Tagged fields equal to their default are not written; unknown tags are skipped by the runtime and never stored.

use crate::emit_struct::{StructDef, default_value};
use crate::schema::{Field, Kind, Versions};
use crate::source::Source;

/// The codec of one struct.
pub(crate) fn emit(out: &mut Source, def: &StructDef<'_>) {
    out.line("");
    out.open(&format!("impl Message for {} {{", def.name));
    emit_encode(out, def);
    out.line("");
    emit_decode(out, def);
    out.close("}");
}

fn emit_encode(out: &mut Source, def: &StructDef<'_>) {
    out.open("fn encode(&self, w: &mut FrameWriter, version: i16) {");
    emit_form(out, def);
    for (field, versions) in def.live_fields().filter(|(field, _)| field.tag.is_none()) {
        let condition = versions.condition_within(def.versions);
        out.when(condition.as_deref(), |out| {
            out.line(&format!("{};", put(field, versions)))
        });
    }
    if let Some(flexible) = flexible_versions(def) {
        let tagged: Vec<_> = def
            .live_fields()
            .filter(|(field, _)| field.tag.is_some())
            .collect();
        let condition = flexible
            .condition_within(def.versions)
            .map(|_| "form.is_compact()");
        out.when(condition, |out| {
            if tagged.is_empty() {
                out.line("w.put_no_tags();");
                return;
            }
            out.line("let mut tags = TagWriter::new();");
            for (field, versions) in &tagged {
                emit_put_tag(out, field, *versions, flexible);
            }
            out.line("w.put_tags(tags);");
        });
    }
    out.close("}");
}

fn emit_put_tag(out: &mut Source, field: &Field, versions: Versions, flexible: Versions) {
    let mut condition = differs_from_default(field);
    if let Some(in_versions) = versions.condition_within(flexible) {
        condition = format!("{in_versions} && {condition}");
    }
    let tag = field.tag.unwrap_or_default();
    out.open(&format!("if {condition} {{"));
    out.line(&format!("tags.put({tag}, |w| {});", put(field, versions)));
    out.close("}");
}

fn emit_decode(out: &mut Source, def: &StructDef<'_>) {
    out.open("fn decode(r: &mut FrameReader, version: i16) -> Result<Self, DecodeError> {");
    if def.is_message {
        let Versions { first, last } = def.versions;
        out.line(&format!(
            "r.check_version(\"{}\", version, {first}..={last})?;",
            def.name
        ));
    }
    emit_form(out, def);
    out.line("let mut value = Self::default();");
    for (field, versions) in def.live_fields().filter(|(field, _)| field.tag.is_none()) {
        let condition = versions.condition_within(def.versions);
        out.when(condition.as_deref(), |out| emit_get(out, def, field, versions));
    }
    if let Some(flexible) = flexible_versions(def) {
        let tagged: Vec<_> = def
            .live_fields()
            .filter(|(field, _)| field.tag.is_some())
            .collect();
        let condition = flexible
            .condition_within(def.versions)
            .map(|_| "form.is_compact()");
        out.when(condition, |out| {
            if tagged.is_empty() {
                out.line(&format!("r.skip_tags().in_field(\"{} tags\")?;", def.name));
                return;
            }
            out.open("r.tags(|r, tag| {");
            out.open("match tag {");
            for (field, versions) in &tagged {
                let guard = versions
                    .condition_within(flexible)
                    .map(|guard| format!(" if {guard}"))
                    .unwrap_or_default();
                out.open(&format!("{}{guard} => {{", field.tag.unwrap_or_default()));
                emit_get(out, def, field, *versions);
                out.close("}");
            }
            out.line("_ => return Ok(Tag::Unknown),");
            out.close("}");
            out.line("Ok(Tag::Known)");
            out.close(&format!("}}).in_field(\"{} tags\")?;", def.name));
        });
    }
    out.line("Ok(value)");
    out.close("}");
}

fn emit_get(out: &mut Source, def: &StructDef<'_>, field: &Field, versions: Versions) {
    let (name, owner) = (&field.name, def.name);
    out.line(&format!(
        "value.{name} = {}.in_field(\"{owner}.{name}\")?;",
        get(def, field, versions)
    ));
}

/// `let form`: how lengths are written in this version.
fn emit_form(out: &mut Source, def: &StructDef<'_>) {
    let form = match flexible_versions(def) {
        None => "Form::Classic".to_string(),
        Some(flexible) => match flexible.condition_within(def.versions) {
            None => "Form::Compact".to_string(),
            Some(condition) => format!("if {condition} {{ Form::Compact }} else {{ Form::Classic }}"),
        },
    };
    out.line(&format!("let form = {form};"));
}

fn flexible_versions(def: &StructDef<'_>) -> Option<Versions> {
    let first = def.first_flexible?;
    Versions {
        first,
        last: i16::MAX,
    }
    .intersect(def.versions)
}

/// `Null::...` argument, or `None` when the field is never null in `versions`.
fn null(field: &Field, versions: Versions) -> Option<String> {
    let nullable = field.nullable?;
    Some(match nullable.intersect(versions) {
        None => "Null::Refused".to_string(),
        Some(nullable) => match nullable.condition_within(versions) {
            None => "Null::Allowed".to_string(),
            Some(condition) => format!("Null::allowed_if({condition})"),
        },
    })
}

/// Statement that writes the field.
fn put(field: &Field, versions: Versions) -> String {
    let place = format!("self.{}", field.name);
    let noun = noun(&field.kind);
    if field.is_array {
        let element = match &field.kind {
            Kind::Struct(_) => "item.encode(w, version)".to_string(),
            kind if kind.is_scalar() => format!("w.put_{noun}(*item)"),
            _ => format!("w.put_{noun}(item, form)"),
        };
        return match null(field, versions) {
            None => format!("w.put_array(&{place}, form, |w, item| {element})"),
            Some(null) => {
                format!("w.put_nullable_array({place}.as_deref(), {null}, form, |w, item| {element})")
            }
        };
    }
    match (&field.kind, null(field, versions)) {
        (Kind::Struct(_), None) => format!("{place}.encode(w, version)"),
        (Kind::Struct(_), Some(null)) => {
            format!("w.put_nullable_struct({place}.as_ref(), {null}, version)")
        }
        (kind, _) if kind.is_scalar() => format!("w.put_{noun}({place})"),
        (_, None) => format!("w.put_{noun}(&{place}, form)"),
        (_, Some(null)) => format!("w.put_nullable_{noun}({place}.as_ref(), {null}, form)"),
    }
}

/// Expression that reads the field, a `Result`.
fn get(def: &StructDef<'_>, field: &Field, versions: Versions) -> String {
    let noun = noun(&field.kind);
    if field.is_array {
        let element = match &field.kind {
            Kind::Struct(name) => format!("{name}::decode(r, version)"),
            kind if kind.is_scalar() => format!("r.{noun}()"),
            _ => format!("r.{noun}(form)"),
        };
        let least = least_bytes_of_element(def, field, versions);
        return match null(field, versions) {
            None => format!("r.array({least}, form, |r| {element})"),
            Some(null) => format!("r.nullable_array({least}, {null}, form, |r| {element})"),
        };
    }
    match (&field.kind, null(field, versions)) {
        (Kind::Struct(name), None) => format!("{name}::decode(r, version)"),
        (Kind::Struct(name), Some(null)) => {
            format!("r.nullable_struct({null}, |r| {name}::decode(r, version))")
        }
        (kind, _) if kind.is_scalar() => format!("r.{noun}()"),
        (_, None) => format!("r.{noun}(form)"),
        (_, Some(null)) => format!("r.nullable_{noun}({null}, form)"),
    }
}

/// The word in the runtime's method names.
fn noun(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int8 => "i8",
        Kind::Int16 => "i16",
        Kind::Uint16 => "u16",
        Kind::Int32 => "i32",
        Kind::Int64 => "i64",
        Kind::Float64 => "f64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Records => "records",
        Kind::Uuid => "uuid",
        Kind::Struct(_) => "struct",
    }
}

fn differs_from_default(field: &Field) -> String {
    let place = format!("self.{}", field.name);
    match &field.kind {
        _ if field.nullable.is_some() => match field.default.as_deref() {
            Some("null") => format!("{place}.is_some()"),
            _ => format!("{place} != {}", default_value(field)),
        },
        _ if field.is_array => format!("!{place}.is_empty()"),
        Kind::String | Kind::Bytes | Kind::Records => format!("!{place}.is_empty()"),
        Kind::Uuid => format!("!{place}.is_nil()"),
        Kind::Bool if field.default.is_none() => place,
        Kind::Bool => format!("!{place}"),
        Kind::Struct(name) => format!("{place} != {name}::default()"),
        Kind::Int8 | Kind::Int16 | Kind::Uint16 | Kind::Int32 | Kind::Int64 | Kind::Float64 => {
            format!("{place} != {}", default_value(field))
        }
    }
}

/// Fewest bytes one element of an array can take in any version: what a count is checked against before reserving.
fn least_bytes_of_element(def: &StructDef<'_>, field: &Field, versions: Versions) -> usize {
    (versions.first..=versions.last)
        .map(|version| element_bytes(def, &field.kind, &field.children, version))
        .min()
        .unwrap_or(1)
        .max(1)
}

fn element_bytes(def: &StructDef<'_>, kind: &Kind, children: &[Field], version: i16) -> usize {
    let length = |classic: usize| if def.is_flexible(version) { 1 } else { classic };
    match kind {
        Kind::Bool | Kind::Int8 => 1,
        Kind::Int16 | Kind::Uint16 => 2,
        Kind::Int32 => 4,
        Kind::Int64 | Kind::Float64 => 8,
        Kind::Uuid => 16,
        Kind::String => length(2),
        Kind::Bytes | Kind::Records => length(4),
        Kind::Struct(_) => {
            let plain = children
                .iter()
                .filter(|child| child.tag.is_none() && child.versions.contains(version));
            let fields: usize = plain
                .map(|child| match (child.is_array, &child.kind) {
                    (true, _) => length(4),
                    (false, Kind::Struct(_)) if child.nullable.is_some() => 1,
                    (false, _) => element_bytes(def, &child.kind, &child.children, version),
                })
                .sum();
            fields + usize::from(def.is_flexible(version))
        }
    }
}
