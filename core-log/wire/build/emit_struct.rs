//! Structs and their defaults.

use crate::schema::{Field, Kind, Message, Versions};
use crate::source::Source;

/// One struct to generate: a message itself or a struct inside it.
pub(crate) struct StructDef<'a> {
    pub(crate) name: &'a str,
    /// Versions in which a value of this struct can be on the wire.
    pub(crate) versions: Versions,
    pub(crate) first_flexible: Option<i16>,
    pub(crate) fields: &'a [Field],
    pub(crate) is_message: bool,
}

impl StructDef<'_> {
    /// Fields that exist in some covered version, in wire order, with those versions.
    pub(crate) fn live_fields(&self) -> impl Iterator<Item = (&Field, Versions)> {
        self.fields
            .iter()
            .filter_map(|field| Some((field, field.versions.intersect(self.versions)?)))
    }

    /// Whether `version` uses compact lengths and tagged sections.
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.first_flexible.is_some_and(|first| version >= first)
    }
}

/// The structs of a message, outermost first.
pub(crate) fn structs_of(message: &Message) -> Vec<StructDef<'_>> {
    let mut found = vec![StructDef {
        name: &message.name,
        versions: message.versions,
        first_flexible: message.first_flexible,
        fields: &message.fields,
        is_message: true,
    }];
    collect(
        &message.fields,
        message.versions,
        message.first_flexible,
        &mut found,
    );
    found
}

fn collect<'a>(
    fields: &'a [Field],
    known: Versions,
    first_flexible: Option<i16>,
    found: &mut Vec<StructDef<'a>>,
) {
    for field in fields {
        let (Kind::Struct(name), Some(versions)) = (&field.kind, field.versions.intersect(known)) else {
            continue;
        };
        if field.is_repeated {
            continue;
        }
        found.push(StructDef {
            name,
            versions,
            first_flexible,
            fields: &field.children,
            is_message: false,
        });
        collect(&field.children, versions, first_flexible, found);
    }
}

/// The struct and its `Default`.
pub(crate) fn emit(out: &mut Source, def: &StructDef<'_>) {
    let is_plain = def.live_fields().all(|(field, _)| is_rust_default(field));
    out.line("");
    match def.is_message {
        true => out.line(&format!(
            "/// The top-level struct of this message, versions {}.",
            def.versions
        )),
        false => out.line(&format!("/// Part of the message, in versions {}.", def.versions)),
    }
    let has_own_debug = def
        .live_fields()
        .any(|(field, _)| field.is_secret || field.kind == Kind::Records);
    let debug = if has_own_debug { "" } else { "Debug, " };
    let default = if is_plain { ", Default" } else { "" };
    out.line(&format!("#[derive({debug}Clone, PartialEq{default})]"));
    out.open(&format!("pub struct {} {{", def.name));
    for (field, versions) in def.live_fields() {
        out.line(&format!("/// {}", describe(field, versions)));
        out.line(&format!("pub {}: {},", field.name, rust_type(field)));
    }
    out.close("}");
    if !is_plain {
        emit_default(out, def);
    }
    if has_own_debug {
        emit_debug(out, def);
    }
}

fn emit_default(out: &mut Source, def: &StructDef<'_>) {
    out.line("");
    out.open(&format!("impl Default for {} {{", def.name));
    out.open("fn default() -> Self {");
    out.open("Self {");
    for (field, _) in def.live_fields() {
        out.line(&format!("{}: {},", field.name, default_value(field)));
    }
    out.close("}");
    out.close("}");
    out.close("}");
}

/// `Debug` that says nothing about secret fields and only the size of record sets.
fn emit_debug(out: &mut Source, def: &StructDef<'_>) {
    out.line("");
    out.open(&format!("impl std::fmt::Debug for {} {{", def.name));
    out.open("fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {");
    out.line(&format!("f.debug_struct(\"{}\")", def.name));
    for (field, _) in def.live_fields() {
        let name = &field.name;
        let shown = match field.kind {
            _ if field.is_secret => "&format_args!(\"hidden\")".to_string(),
            Kind::Records => format!("&RecordsSummary(&self.{name})"),
            _ => format!("&self.{name}"),
        };
        out.line(&format!("    .field(\"{name}\", {shown})"));
    }
    out.line("    .finish()");
    out.close("}");
    out.close("}");
}

fn describe(field: &Field, versions: Versions) -> String {
    let mut text = format!("Versions {versions}");
    if let Some(tag) = field.tag {
        text.push_str(&format!(", tag {tag}"));
    }
    if let Some(nullable) = field.nullable.and_then(|nullable| nullable.intersect(versions)) {
        text.push_str(&format!(", null in {nullable}"));
    }
    if let Some(default) = &field.default {
        text.push_str(&format!(", default {default}"));
    }
    if field.is_secret {
        text.push_str(", not shown by `Debug`");
    }
    text.push('.');
    text
}

/// Rust type of one value, without array and null.
pub(crate) fn element_type(kind: &Kind) -> &str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int8 => "i8",
        Kind::Int16 => "i16",
        Kind::Uint16 => "u16",
        Kind::Int32 => "i32",
        Kind::Int64 => "i64",
        Kind::Float64 => "f64",
        Kind::String => "ByteString",
        Kind::Bytes | Kind::Records => "Bytes",
        Kind::Uuid => "Uuid",
        Kind::Struct(name) => name,
    }
}

fn rust_type(field: &Field) -> String {
    let element = element_type(&field.kind);
    let bare = if field.is_array {
        format!("Vec<{element}>")
    } else {
        element.to_string()
    };
    if field.nullable.is_some() {
        format!("Option<{bare}>")
    } else {
        bare
    }
}

/// Whether the field's default is what `Default` of its Rust type gives.
fn is_rust_default(field: &Field) -> bool {
    match (&field.nullable, field.default.as_deref()) {
        (Some(_), default) => default == Some("null"),
        (None, default) => default.is_none(),
    }
}

/// Expression of the field's default.
pub(crate) fn default_value(field: &Field) -> String {
    match (&field.nullable, field.default.as_deref()) {
        (Some(_), Some("null")) => "None".to_string(),
        (Some(_), _) => "Some(Default::default())".to_string(),
        (None, Some(value)) => value.to_string(),
        (None, None) => match field.kind {
            _ if field.is_array => "Vec::new()".to_string(),
            Kind::Bool => "false".to_string(),
            Kind::Int8 | Kind::Int16 | Kind::Uint16 | Kind::Int32 | Kind::Int64 => "0".to_string(),
            Kind::Float64 => "0.0".to_string(),
            Kind::Uuid => "Uuid::nil()".to_string(),
            Kind::String | Kind::Bytes | Kind::Records | Kind::Struct(_) => "Default::default()".to_string(),
        },
    }
}
