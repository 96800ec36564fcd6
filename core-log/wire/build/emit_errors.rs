//! The error codes inside answers, found wherever an answer carries them.

use crate::emit_struct::StructDef;
use crate::schema::{Api, Field, Kind};
use crate::source::Source;

/// `visit_error_codes` of one struct of a response, if it or a struct inside it has an error code.
pub(crate) fn emit(out: &mut Source, def: &StructDef<'_>) {
    if !has_errors(def.fields) {
        return;
    }
    out.line("");
    out.open(&format!("impl {} {{", def.name));
    out.line("/// Calls `visit` with every error code in here, 0 (none) included.");
    out.open("pub fn visit_error_codes(&self, visit: &mut dyn FnMut(i16)) {");
    for (field, _) in def.live_fields() {
        let name = &field.name;
        if is_error(field) {
            out.line(&format!("visit(self.{name});"));
        } else if has_errors(&field.children) {
            // An optional struct, an optional array and an array all iterate; an optional array does so twice.
            let one = match (field.is_array, field.nullable.is_some()) {
                (true, true) => format!("for part in self.{name}.iter().flatten() {{"),
                (true, false) | (false, true) => format!("for part in &self.{name} {{"),
                (false, false) => {
                    out.line(&format!("self.{name}.visit_error_codes(visit);"));
                    continue;
                }
            };
            out.open(&one);
            out.line("part.visit_error_codes(visit);");
            out.close("}");
        }
    }
    out.close("}");
    out.close("}");
}

/// `ResponseBody::visit_error_codes`.
pub(crate) fn emit_body(out: &mut Source, apis: &[Api]) {
    out.line("");
    out.open("impl ResponseBody {");
    out.line("/// Calls `visit` with every error code of the answer, 0 (none) included.");
    out.open("pub fn visit_error_codes(&self, visit: &mut dyn FnMut(i16)) {");
    out.open("match self {");
    for api in apis {
        match has_errors(&api.response.fields) {
            true => out.line(&format!(
                "ResponseBody::{}(body) => body.visit_error_codes(visit),",
                api.name
            )),
            false => out.line(&format!("ResponseBody::{}(_) => {{}}", api.name)),
        }
    }
    out.close("}");
    out.close("}");
    out.close("}");
}

fn is_error(field: &Field) -> bool {
    field.name == "error_code" && field.kind == Kind::Int16 && !field.is_array && field.nullable.is_none()
}

fn has_errors(fields: &[Field]) -> bool {
    fields
        .iter()
        .any(|field| is_error(field) || has_errors(&field.children))
}
