//! `check`: every problem of every file at once, with file, line, key and a way out.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::interpolate::Environment;
use super::toml_file::TomlFile;
use super::{ConnectorConfig, Document};
use crate::plugins::Plugins;

/// Largest connector file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// One thing that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where known.
    pub line: Option<usize>,
    /// The dotted key, or an empty text when the file as a whole is meant.
    pub key: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "`{}` ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A file that is a connector.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorFile {
    /// Where it stands.
    pub path: PathBuf,
    /// What it says, placeholders unresolved: what [`crate::Worker::apply`] takes.
    pub document: Document,
    /// What it means here and now.
    pub config: ConnectorConfig,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The files without problems.
    pub connectors: Vec<ConnectorFile>,
    /// Everything that is wrong, by file and line.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn complain(&mut self, file: &Path, line: Option<usize>, key: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            file: file.to_owned(),
            line,
            key: key.to_owned(),
            message: message.into(),
        });
    }
}

/// Reads and checks connector files; a directory means the `*.toml` files in it. Nothing is contacted.
pub fn check(paths: &[PathBuf], plugins: &Plugins, environment: &Environment) -> Report {
    let mut report = Report::default();
    let mut files = Vec::new();
    for path in paths {
        match files_of(path) {
            Ok(found) if found.is_empty() => {
                report.complain(path, None, "", "holds no .toml file");
            }
            Ok(found) => files.extend(found),
            Err(error) => report.complain(path, None, "", format!("cannot be read: {error}")),
        }
    }
    let mut names: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in files {
        check_file(&path, plugins, environment, &mut names, &mut report);
    }
    report
}

fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    let size_bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size_bytes > MAX_FILE_BYTES {
        return Err(format!("it has {size_bytes} bytes, more than {MAX_FILE_BYTES}"));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn check_file(
    path: &Path,
    plugins: &Plugins,
    environment: &Environment,
    names: &mut BTreeMap<String, PathBuf>,
    report: &mut Report,
) {
    let text = match read(path) {
        Ok(text) => text,
        Err(reason) => return report.complain(path, None, "", format!("cannot be read: {reason}")),
    };
    let mut file = match TomlFile::parse(&text) {
        Ok(file) => file,
        Err(error) => return report.complain(path, error.line, "", format!("is no TOML: {}", error.message)),
    };
    if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
        let name = file.document.0.entry("name");
        name.or_insert_with(|| stem.into());
    }
    let resolved = ConnectorConfig::resolve(&file.document, plugins, environment);
    if let Err(error) = &resolved {
        for problem in &error.problems {
            report.complain(path, file.line(&problem.key), &problem.key, &problem.message);
        }
    }
    let name = file.document.name().to_owned();
    if let Some(other) = names.insert(name.clone(), path.to_owned()) {
        let message = format!("`{name}` is also the name in {}", other.display());
        return report.complain(path, file.line("name"), "name", message);
    }
    if let Ok(config) = resolved {
        report.connectors.push(ConnectorFile {
            path: path.to_owned(),
            document: file.document,
            config,
        });
    }
}
