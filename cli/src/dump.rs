//! `highwater dump`: what the files of a log, a data directory or the metadata hold.
//!
//! The crates that own the formats read them; this prints. A damaged file is a line that says so and the exit code 1,
//! never the end of the dump.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use highwater_broker::{METADATA_FILES, inspect_metadata};
use highwater_coordinator::inspect::describe;
use highwater_storage::inspect::{Field, FileType, InspectOptions, Row, files, inspect};
use highwater_storage::{Disk, StdDisk};
use serde_json::{Map, Value, json};

use crate::output::{Output, line};

/// Show what the files of a data directory hold.
#[derive(Debug, Args)]
#[command(after_help = "\
Give it a segment (.log), an index (.index, .timeindex, .txnindex), a producer snapshot (.snapshot), a checkpoint,
partition.metadata, meta.properties, a partition's folder or a whole data directory. Nothing is changed, and the node
may be running; the newest batches of a running node may be in the log and not yet in the index.

  highwater dump data/prices-0 --print-data
  highwater dump data/prices-0/00000000000000000000.log --deep
  highwater dump data/__consumer_offsets-17 --offsets-decoder
  highwater dump data --cluster-metadata

The exit code is 1 when something is damaged.")]
pub(crate) struct DumpArgs {
    /// Files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// List the records of each batch.
    #[arg(long)]
    records: bool,
    /// List the records with their keys, values and headers.
    #[arg(long)]
    print_data: bool,
    /// Decode every record, to see that it can be.
    #[arg(long)]
    deep: bool,
    /// Do not compare indexes with their segments.
    #[arg(long)]
    skip_index_check: bool,
    /// Read the records of __consumer_offsets: groups, their members and their commits.
    #[arg(long)]
    offsets_decoder: bool,
    /// Read the metadata of the data directory: topics, configs, brokers, as they were changed.
    #[arg(long)]
    cluster_metadata: bool,
}

/// Prints everything; the code says whether all of it was sound.
pub(crate) fn run(args: &DumpArgs, output: &Output) -> Result<ExitCode> {
    let mut dump = Dump {
        args,
        output,
        problems: 0,
    };
    for path in &args.paths {
        if args.cluster_metadata {
            dump.metadata(path)?;
        } else {
            dump.path(path)?;
        }
    }
    if dump.problems == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{} problems", dump.problems);
    Ok(ExitCode::FAILURE)
}

struct Dump<'a> {
    args: &'a DumpArgs,
    output: &'a Output,
    problems: usize,
}

impl Dump<'_> {
    fn path(&mut self, path: &Path) -> Result<()> {
        let disk = StdDisk::shared();
        let found = files(&*disk, path)?;
        if found.is_empty() {
            self.problem(path, "no file of a log or a data directory is here")?;
        }
        for file in found {
            self.file(&*disk, &file)?;
        }
        Ok(())
    }

    fn file(&mut self, disk: &dyn Disk, path: &Path) -> Result<()> {
        let options = InspectOptions {
            records: self.args.records || self.args.print_data || self.args.offsets_decoder,
            deep: self.args.deep,
            verify_index: !self.args.skip_index_check,
        };
        if !self.output.is_json() {
            let noun = FileType::of(path).map_or("unknown file", FileType::noun);
            line(&format!("{} ({noun})", path.display()))?;
        }
        let mut printed = Ok(());
        let read = inspect(disk, path, options, &mut |row| {
            if printed.is_ok() {
                printed = self.row(path, row);
            }
        });
        printed?;
        match read {
            Ok(()) => Ok(()),
            Err(error) => self.problem(path, &error.to_string()),
        }
    }

    fn row(&mut self, path: &Path, row: Row) -> Result<()> {
        self.problems += usize::from(row.is_problem());
        if row.kind == "record" && self.args.offsets_decoder {
            return self.group_record(path, &row);
        }
        if row.kind == "batch" && self.args.offsets_decoder {
            return Ok(());
        }
        let is_data = |field: &Field| matches!(field, Field::Bytes(_));
        let shown = row
            .fields
            .into_iter()
            .map(|(name, field)| match field {
                // Without --print-data the sizes are enough.
                field if is_data(&field) && !self.args.print_data => (name, size_of(&field)),
                field => (name, value_of(field)),
            })
            .collect();
        self.print(path, row.kind, shown)
    }

    fn group_record(&mut self, path: &Path, row: &Row) -> Result<()> {
        let bytes = |name| match row.get(name) {
            Some(Field::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let offset = row.get("offset").cloned().map_or(Value::Null, value_of);
        let key = bytes("key").unwrap_or_else(Bytes::new);
        for described in describe(&key, bytes("value").as_ref()) {
            let mut fields = vec![("at_offset", offset.clone())];
            fields.extend(
                described
                    .fields
                    .into_iter()
                    .map(|(name, value)| (name, Value::String(value))),
            );
            self.print(path, described.kind, fields)?;
        }
        Ok(())
    }

    fn metadata(&mut self, path: &Path) -> Result<()> {
        let dir = match path.join("metadata").is_dir() {
            true => path.join("metadata"),
            false => path.to_owned(),
        };
        for name in METADATA_FILES {
            let file = dir.join(name);
            if !self.output.is_json() {
                line(&format!("{} (metadata)", file.display()))?;
            }
            match inspect_metadata(StdDisk::shared(), &dir, name) {
                Ok((frames, rest)) => {
                    for (position, value) in frames {
                        self.print(
                            &file,
                            "frame",
                            vec![("position", json!(position)), ("content", value)],
                        )?;
                    }
                    if rest > 0 {
                        self.print(&file, "interrupted_append", vec![("bytes", json!(rest))])?;
                    }
                }
                Err(error) => self.problem(&file, &error.to_string())?,
            }
        }
        Ok(())
    }

    fn problem(&mut self, path: &Path, message: &str) -> Result<()> {
        self.problems += 1;
        self.print(path, "problem", vec![("message", json!(message))])
    }

    fn print(&self, path: &Path, kind: &str, fields: Vec<(&'static str, Value)>) -> Result<()> {
        if self.output.is_json() {
            let mut object = Map::new();
            object.insert("file".to_owned(), json!(path.display().to_string()));
            object.insert("kind".to_owned(), json!(kind));
            let mut headers = Vec::new();
            for (name, value) in fields {
                match name {
                    "header" => headers.push(json!({ "key": value })),
                    "header_value" => {
                        if let Some(Value::Object(last)) = headers.last_mut() {
                            last.insert("value".to_owned(), value);
                        }
                    }
                    _ => drop(object.insert(name.to_owned(), value)),
                }
            }
            if !headers.is_empty() {
                object.insert("headers".to_owned(), Value::Array(headers));
            }
            return line(&Value::Object(object).to_string());
        }
        let words: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", word(value)))
            .collect();
        line(&format!("  {kind} {}", words.join(" ")))
    }
}

fn value_of(field: Field) -> Value {
    match field {
        Field::Number(number) => json!(number),
        Field::Text(text) => json!(text),
        Field::Flag(flag) => json!(flag),
        Field::Nothing => Value::Null,
        Field::Bytes(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": hex(&bytes) }),
        },
    }
}

fn size_of(field: &Field) -> Value {
    match field {
        Field::Bytes(bytes) => json!(format!("{} bytes", bytes.len())),
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One word of a text line: bare where that is clear, quoted where it would not be.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text)
            if !text.is_empty()
                && text
                    .chars()
                    .all(|letter| letter.is_ascii_graphic() && letter != '"') =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_apart_whatever_a_client_wrote() {
        assert_eq!(word(&json!("plain")), "plain");
        assert_eq!(word(&json!("two words")), "\"two words\"");
        assert_eq!(
            word(&json!("line\nbreak \u{1b}[31m")),
            "\"line\\nbreak \\u001b[31m\""
        );
        assert_eq!(
            word(&value_of(Field::Bytes(Bytes::from_static(&[0xff, 0])))),
            "{\"hex\":\"ff00\"}"
        );
        assert_eq!(word(&Value::Null), "none");
    }
}
