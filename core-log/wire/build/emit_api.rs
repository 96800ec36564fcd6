//! What spans the messages: re-exports, `ApiKey`, the body enums, and the list the tests run over.

use crate::emit_struct::structs_of;
use crate::schema::{Api, Table};
use crate::source::{Source, snake};

pub(crate) fn emit(out: &mut Source, table: &Table) {
    for message in table.messages() {
        out.line(&format!("pub use {}::{};", snake(&message.name), message.name));
    }
    emit_api_key(out, &table.apis);
    emit_body(out, &table.apis, Half::Request);
    emit_body(out, &table.apis, Half::Response);
    for api in &table.apis {
        let name = &api.name;
        out.line("");
        out.open(&format!("impl Request for {name}Request {{"));
        out.line(&format!("const KEY: ApiKey = ApiKey::{name};"));
        out.line(&format!("type Response = {name}Response;"));
        out.close("}");
    }
    emit_test_lists(out, table);
}

fn emit_api_key(out: &mut Source, apis: &[Api]) {
    out.line("");
    out.line("/// The API keys this codec knows.");
    out.line("#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]");
    out.line("#[repr(i16)]");
    out.open("pub enum ApiKey {");
    for api in apis {
        out.line(&format!("/// Requests of versions {}.", api.request.versions));
        out.line(&format!("{} = {},", api.name, api.key));
    }
    out.close("}");
    out.line("");
    out.open("impl ApiKey {");
    out.line("/// Every key, ascending.");
    let names: Vec<String> = apis.iter().map(|api| format!("ApiKey::{}", api.name)).collect();
    out.open(&format!("pub const ALL: [ApiKey; {}] = [", apis.len()));
    for name in names {
        out.line(&format!("{name},"));
    }
    out.close("];");
    out.line("");
    out.line("/// Kafka's name of the API, such as `ListOffsets`.");
    emit_table_fn(out, "pub const fn name(self) -> &'static str", apis, |api| {
        format!("\"{}\"", api.name)
    });
    out.line("");
    out.line("/// Versions that the codec covers; what a broker offers is the broker's decision.");
    emit_table_fn(
        out,
        "pub const fn codec_versions(self) -> RangeInclusive<i16>",
        apis,
        |api| format!("{}..={}", api.request.versions.first, api.request.versions.last),
    );
    out.line("");
    out.line("/// First version with compact lengths and tagged fields, if the API has one.");
    emit_table_fn(
        out,
        "pub const fn first_flexible_version(self) -> Option<i16>",
        apis,
        |api| format!("{:?}", api.request.first_flexible),
    );
    out.close("}");
}

fn emit_table_fn(out: &mut Source, signature: &str, apis: &[Api], value: impl Fn(&Api) -> String) {
    out.open(&format!("{signature} {{"));
    out.open("match self {");
    for api in apis {
        out.line(&format!("ApiKey::{} => {},", api.name, value(api)));
    }
    out.close("}");
    out.close("}");
}

#[derive(Clone, Copy)]
enum Half {
    Request,
    Response,
}

fn emit_body(out: &mut Source, apis: &[Api], half: Half) {
    let noun = match half {
        Half::Request => "Request",
        Half::Response => "Response",
    };
    out.line("");
    out.line(&format!("/// A {} of any API.", noun.to_lowercase()));
    out.line("#[derive(Debug, Clone, PartialEq)]");
    out.open(&format!("pub enum {noun}Body {{"));
    for api in apis {
        out.line(&format!("/// `{}{noun}`.", api.name));
        out.line(&format!("{0}({0}{noun}),", api.name));
    }
    out.close("}");
    out.line("");
    out.open(&format!("impl {noun}Body {{"));
    out.line("/// The API this body belongs to.");
    out.open("pub const fn api_key(&self) -> ApiKey {");
    out.open("match self {");
    for api in apis {
        out.line(&format!("{noun}Body::{0}(_) => ApiKey::{0},", api.name));
    }
    out.close("}");
    out.close("}");
    out.line("");
    out.line("/// Writes the body in `version`; see [`Message::encode`].");
    out.open("pub fn encode(&self, w: &mut FrameWriter, version: i16) {");
    out.open("match self {");
    for api in apis {
        out.line(&format!(
            "{noun}Body::{}(body) => body.encode(w, version),",
            api.name
        ));
    }
    out.close("}");
    out.close("}");
    out.line("");
    out.line("/// Reads the body of `key` in `version`; see [`Message::decode`].");
    out.open("pub fn decode(key: ApiKey, version: i16, r: &mut FrameReader) -> Result<Self, DecodeError> {");
    out.open("Ok(match key {");
    for api in apis {
        out.line(&format!(
            "ApiKey::{0} => {noun}Body::{0}({0}{noun}::decode(r, version)?),",
            api.name
        ));
    }
    out.close("})");
    out.close("}");
    if matches!(half, Half::Response) {
        emit_throttle_time(out, apis);
    }
    out.close("}");
    for api in apis {
        emit_conversions(out, &api.name, noun);
    }
}

/// Access to the field that nearly every response has.
fn emit_throttle_time(out: &mut Source, apis: &[Api]) {
    let has_field = |api: &&Api| {
        api.response
            .fields
            .iter()
            .any(|field| field.name == "throttle_time_ms")
    };
    let (with, without): (Vec<_>, Vec<_>) = apis.iter().partition(has_field);
    let pattern = |apis: &[&Api], inner: &str| {
        let variants: Vec<String> = apis
            .iter()
            .map(|api| format!("ResponseBody::{}({inner})", api.name))
            .collect();
        variants.join(" | ")
    };
    out.line("");
    out.line(
        "/// How long the client is asked to be silent (KIP-219); `None` for a response that cannot say so.",
    );
    out.open("pub fn throttle_time_ms(&self) -> Option<i32> {");
    out.open("match self {");
    for api in &with {
        out.line(&format!(
            "ResponseBody::{}(body) => Some(body.throttle_time_ms),",
            api.name
        ));
    }
    out.line(&format!("{} => None,", pattern(&without, "_")));
    out.close("}");
    out.close("}");
    out.line("");
    out.line("/// Asks the client to be silent; does nothing to a response that cannot say so.");
    out.open("pub fn set_throttle_time_ms(&mut self, throttle_time_ms: i32) {");
    out.open("match self {");
    for api in &with {
        out.line(&format!(
            "ResponseBody::{}(body) => body.throttle_time_ms = throttle_time_ms,",
            api.name
        ));
    }
    out.line(&format!("{} => {{}}", pattern(&without, "_")));
    out.close("}");
    out.close("}");
}

fn emit_conversions(out: &mut Source, name: &str, noun: &str) {
    let (body, message) = (format!("{noun}Body"), format!("{name}{noun}"));
    out.line("");
    out.open(&format!("impl From<{message}> for {body} {{"));
    out.open(&format!("fn from(message: {message}) -> Self {{"));
    out.line(&format!("{body}::{name}(message)"));
    out.close("}");
    out.close("}");
    out.line("");
    out.open(&format!("impl TryFrom<{body}> for {message} {{"));
    out.line("type Error = UnexpectedBody;");
    out.line("");
    out.open(&format!(
        "fn try_from(body: {body}) -> Result<Self, UnexpectedBody> {{"
    ));
    out.open("match body {");
    out.line(&format!("{body}::{name}(message) => Ok(message),"));
    out.line(&format!(
        "other => Err(UnexpectedBody {{ expected: ApiKey::{name}, actual: other.api_key() }}),"
    ));
    out.close("}");
    out.close("}");
    out.close("}");
}

/// `for_each_message!(m)` calls `m! { (module, Name, first..=last) ... }`; `for_each_struct!(m)` calls
/// `m! { (module, Name) ... }` with the structs inside messages too.
fn emit_test_lists(out: &mut Source, table: &Table) {
    let messages = table.messages().map(|message| {
        let versions = message.versions;
        format!(
            "({}, {}, {}..={})",
            snake(&message.name),
            message.name,
            versions.first,
            versions.last
        )
    });
    emit_test_list(out, "for_each_message", messages);
    let structs = table.messages().flat_map(|message| {
        let module = snake(&message.name);
        structs_of(message)
            .into_iter()
            .map(move |def| format!("({module}, {})", def.name))
    });
    emit_test_list(out, "for_each_struct", structs);
}

fn emit_test_list(out: &mut Source, name: &str, entries: impl Iterator<Item = String>) {
    out.line("");
    out.line("#[cfg(test)]");
    out.open(&format!("macro_rules! {name} {{"));
    out.open("($callback:ident) => {");
    out.open("$callback! {");
    for entry in entries {
        out.line(&entry);
    }
    out.close("}");
    out.close("};");
    out.close("}");
    out.line("#[cfg(test)]");
    out.line(&format!("pub(crate) use {name};"));
}
