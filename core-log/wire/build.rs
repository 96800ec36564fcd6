//! Generates the Kafka message structs and codecs from the schema table in `schema/`.
//!
//! Reads every `schema/*.schema` file in name order and writes `messages.rs` into the build folder. Uses std only,
//! touches nothing outside those two places, and fails the build with file and line when the table is wrong.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a build script reads its schema files and cargo's environment; the crate itself stays pure"
)]

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/schema.rs"]
mod schema;

#[path = "build/parse.rs"]
mod parse;

#[path = "build/source.rs"]
mod source;

#[path = "build/emit_struct.rs"]
mod emit_struct;

#[path = "build/emit_codec.rs"]
mod emit_codec;

#[path = "build/emit_sample.rs"]
mod emit_sample;

#[path = "build/emit_errors.rs"]
mod emit_errors;

#[path = "build/emit_api.rs"]
mod emit_api;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=schema");

    let documents = match read_schemas(&root.join("schema")) {
        Ok(documents) => documents,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(1);
        }
    };
    let text = generate(&documents);
    fs::write(out.join("messages.rs"), text).expect("the build folder is writable");
}

/// Parses every schema file, or says which file and line is wrong.
fn read_schemas(folder: &Path) -> Result<schema::Table, String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "schema"))
        .collect();
    paths.sort();
    let mut table = schema::Table::default();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        parse::parse(&text, &mut table).map_err(|error| format!("{}:{error}", path.display()))?;
    }
    table.apis.sort_by_key(|api| api.key);
    table.check()?;
    Ok(table)
}

/// The whole generated file.
fn generate(table: &schema::Table) -> String {
    let mut out = source::Source::new();
    for message in table.messages() {
        let module = source::snake(&message.name);
        out.line(&format!("/// `{}`, versions {}.", message.name, message.versions));
        out.open(&format!("pub mod {module} {{"));
        out.line("use super::prelude::*;");
        for nested in emit_struct::structs_of(message) {
            emit_struct::emit(&mut out, &nested);
            emit_codec::emit(&mut out, &nested);
            emit_sample::emit(&mut out, &nested);
            if message.name.ends_with("Response") {
                emit_errors::emit(&mut out, &nested);
            }
        }
        out.close("}");
        out.line("");
    }
    emit_api::emit(&mut out, table);
    emit_errors::emit_body(&mut out, &table.apis);
    out.finish()
}
