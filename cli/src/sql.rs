//! `highwater sql`: one statement, or a prompt.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use futures::StreamExt;
use highwater_sql::{Engine, EngineConfig, Session, print};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::output::{Format, line, words_of};
use crate::{Global, cluster, shutdown};

const PROMPT_HELP: &str = "\
End a statement with a semicolon; it may take several lines.
  \\d          list the tables: every topic is one
  \\d TABLE    describe the columns of a table
  \\?          this help
  \\q          leave (or Ctrl-D)
Columns of every table: the fields of its JSON values, then _key, _partition, _offset, _timestamp, _headers.";

/// Ask questions in SQL.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  highwater sql 'SHOW TABLES'
  highwater sql 'SELECT symbol, max(price) FROM btc_prices GROUP BY symbol'
  highwater sql --format csv 'SELECT * FROM candles ORDER BY _offset DESC LIMIT 10'
A query reads the topics as they are when it starts, and ends.")]
pub(crate) struct SqlArgs {
    /// The statement; without one, a prompt.
    statement: Option<String>,
    /// How rows are printed; -o json means a JSON array.
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
    /// Memory for one query, in MiB.
    #[arg(long, default_value_t = 512)]
    memory_mib: usize,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RowFormat {
    /// A table with borders.
    Table,
    /// A JSON array.
    Json,
    /// One JSON object per line, as rows come.
    Jsonl,
    /// Comma-separated values with a heading, as rows come.
    Csv,
}

pub(crate) async fn run(args: SqlArgs, global: &Global) -> Result<()> {
    let format = args.format.unwrap_or(match global.output {
        Format::Table => RowFormat::Table,
        Format::Json => RowFormat::Json,
    });
    let config = EngineConfig {
        memory_limit_bytes: args.memory_mib << 20,
        ..EngineConfig::default()
    };
    let engine = Engine::new(cluster::connect(global).await?, config).await?;
    let session = engine.session();
    match args.statement {
        Some(statement) => tokio::select! {
            outcome = answer(&session, &statement, format) => outcome,
            stop = shutdown::requested() => stop.and_then(|()| anyhow::bail!("interrupted")),
        },
        None => prompt(&engine, &session, format).await,
    }
}

async fn answer(session: &Session, statement: &str, format: RowFormat) -> Result<()> {
    let mut result = session.query(statement).await?;
    if let Some(command) = result.command() {
        return line(command);
    }
    match format {
        RowFormat::Table => {
            let rows = result.collect_rows().await?;
            line(&print::table(result.schema(), &rows)?)?;
        }
        RowFormat::Json => {
            let mut objects: Vec<serde_json::Value> = Vec::new();
            for batch in result.collect_rows().await? {
                let mut text = Vec::new();
                print::json_lines(&batch, &mut text)?;
                for object in text
                    .split(|byte| *byte == b'\n')
                    .filter(|object| !object.is_empty())
                {
                    objects.push(serde_json::from_slice(object)?);
                }
            }
            line(&serde_json::to_string_pretty(&objects)?)?;
        }
        RowFormat::Jsonl | RowFormat::Csv => {
            let mut text = Vec::new();
            if format == RowFormat::Csv {
                print::csv_header(result.schema(), &mut text)?;
            }
            while let Some(batch) = result.next().await {
                match format {
                    RowFormat::Csv => print::csv(&batch?, &mut text)?,
                    _ => print::json_lines(&batch?, &mut text)?,
                }
                print_bytes(&mut text)?;
            }
            print_bytes(&mut text)?;
        }
    }
    for warning in result.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

fn print_bytes(text: &mut Vec<u8>) -> Result<()> {
    if !text.is_empty() {
        line(String::from_utf8_lossy(text).trim_end_matches('\n'))?;
        text.clear();
    }
    Ok(())
}

async fn prompt(engine: &Engine, session: &Session, format: RowFormat) -> Result<()> {
    let history = history_file();
    let mut editor = DefaultEditor::new().context("cannot read from the terminal")?;
    if let Some(history) = &history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    line("highwater SQL: \\? for help, \\q to leave")?;
    let mut statement = String::new();
    loop {
        let prompt = if statement.is_empty() {
            "highwater> "
        } else {
            "        -> "
        };
        let input = match tokio::task::block_in_place(|| editor.readline(prompt)) {
            Ok(input) => input,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let trimmed = input.trim();
        if statement.is_empty() && trimmed.starts_with('\\') {
            if trimmed == "\\q" {
                break;
            }
            report(meta_command(engine, session, trimmed, format).await);
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        statement.push_str(&input);
        statement.push('\n');
        if trimmed.ends_with(';') {
            let whole = std::mem::take(&mut statement);
            let _ = editor.add_history_entry(whole.trim());
            report(answer(session, whole.trim().trim_end_matches(';'), format).await);
        }
    }
    if let Some(history) = &history {
        if let Some(folder) = history.parent() {
            std::fs::create_dir_all(folder)?;
        }
        editor
            .save_history(history)
            .with_context(|| format!("cannot write {}", history.display()))?;
    }
    Ok(())
}

async fn meta_command(engine: &Engine, session: &Session, command: &str, format: RowFormat) -> Result<()> {
    match command.split_once(char::is_whitespace).unwrap_or((command, "")) {
        ("\\d", "") => {
            for table in engine.tables().await? {
                line(&table)?;
            }
            Ok(())
        }
        ("\\d", table) => answer(session, &format!("DESCRIBE {}", table.trim()), format).await,
        ("\\?", _) => line(PROMPT_HELP),
        (unknown, _) => line(&format!("{unknown} is no command here; \\? lists them")),
    }
}

/// An error at the prompt is an answer, not an end.
fn report(outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("error: {}", words_of(&error));
    }
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("highwater/sql_history"))
}
