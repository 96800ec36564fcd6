//! Random values for the crate's own tests: fields of the version filled, the others left at their defaults.

use crate::emit_struct::StructDef;
use crate::schema::{Field, Kind, Versions};
use crate::source::Source;

/// `Sample` for one struct, compiled in tests only.
pub(crate) fn emit(out: &mut Source, def: &StructDef<'_>) {
    out.line("");
    out.line("#[cfg(test)]");
    out.open(&format!("impl Sample for {} {{", def.name));
    out.open("fn sample(s: &mut Sampler, version: i16) -> Self {");
    out.line("let mut value = Self::default();");
    for (field, versions) in def.live_fields() {
        let mut conditions: Vec<String> = versions.condition_within(def.versions).into_iter().collect();
        if field.tag.is_some() {
            // Half of the time a tagged field keeps its default and is not on the wire.
            conditions.push("s.bool()".to_string());
        }
        let condition = (!conditions.is_empty()).then(|| conditions.join(" && "));
        out.when(condition.as_deref(), |out| emit_field(out, field, versions));
    }
    out.line("value");
    out.close("}");
    out.close("}");
}

fn emit_field(out: &mut Source, field: &Field, versions: Versions) {
    let element = match &field.kind {
        Kind::Bool => "s.bool()".to_string(),
        Kind::Int8 => "s.bits() as i8".to_string(),
        Kind::Int16 => "s.bits() as i16".to_string(),
        Kind::Uint16 => "s.bits() as u16".to_string(),
        Kind::Int32 => "s.bits() as i32".to_string(),
        Kind::Int64 => "s.bits() as i64".to_string(),
        Kind::Float64 => "s.bits() as f64".to_string(),
        Kind::String => "s.string()".to_string(),
        Kind::Bytes | Kind::Records => "s.bytes()".to_string(),
        Kind::Uuid => "s.uuid()".to_string(),
        Kind::Struct(name) => format!("{name}::sample(s, version)"),
    };
    let bare = if field.is_array {
        format!("s.vec(|s| {element})")
    } else {
        element
    };
    let full = match field.nullable {
        None => bare,
        Some(nullable) => match nullable.intersect(versions) {
            None => format!("Some({bare})"),
            Some(nullable) => {
                let allowed = nullable
                    .condition_within(versions)
                    .unwrap_or_else(|| "true".to_string());
                format!("s.option({allowed}, |s| {bare})")
            }
        },
    };
    out.line(&format!("value.{} = {full};", field.name));
}
