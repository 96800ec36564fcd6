//! What a machine must have before the project builds and tests: system packages, and the registries'
//! packages of other languages.
//!
//! Everything is checked first and installed only when missing, and what is installed is printed. What
//! cannot be had (no package manager, no registry) does not stop the rest: the suites that need it are
//! reported as skipped by name.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{is_installed, project_root, run_quietly, target_dir};

/// A Debian package and the file or program that shows that it is there.
struct SystemPackage {
    name: &'static str,
    why: &'static str,
    present: fn() -> bool,
}

const TO_BUILD: &[SystemPackage] = &[
    SystemPackage {
        name: "g++",
        why: "compiles RocksDB",
        present: || is_installed("g++"),
    },
    SystemPackage {
        name: "make",
        why: "builds C libraries",
        present: || is_installed("make"),
    },
    SystemPackage {
        name: "libclang-dev",
        why: "bindgen reads RocksDB's headers with it",
        present: has_libclang,
    },
];

const TO_TEST: &[SystemPackage] = &[
    SystemPackage {
        name: "kcat",
        why: "one of the clients under test",
        present: || is_installed("kcat"),
    },
    SystemPackage {
        name: "python3-venv",
        why: "the Python clients under test live in a virtual environment",
        present: || python_with_venv().is_some(),
    },
    SystemPackage {
        name: "nodejs",
        why: "runs KafkaJS",
        present: || is_installed("node"),
    },
    SystemPackage {
        name: "npm",
        why: "installs KafkaJS",
        present: || is_installed("npm"),
    },
    SystemPackage {
        name: "postgresql",
        why: "the database sink is tested against a real server",
        present: || postgres_bin().is_some(),
    },
    SystemPackage {
        name: "prometheus",
        why: "evaluates the dashboard and the alert rules",
        present: || prometheus_bin().is_some(),
    },
];

/// What the test suites of other languages can use; `Err` says why a part is missing.
pub(crate) struct TestEnvironment {
    pub(crate) python: Result<PathBuf, String>,
    pub(crate) node_modules: Result<PathBuf, String>,
    pub(crate) go_programs: Result<PathBuf, String>,
    pub(crate) postgres_bin: Result<PathBuf, String>,
    pub(crate) prometheus_bin: Result<PathBuf, String>,
    pub(crate) kcat: Result<(), String>,
    pub(crate) kafka_libs: Result<PathBuf, String>,
    pub(crate) java_classes: Result<PathBuf, String>,
}

/// Installs what building needs.
pub(crate) fn for_building() -> Result<()> {
    install(TO_BUILD)?;
    if !has_libclang() {
        bail!("libclang is missing: install it (on Debian: apt-get install libclang-dev) and run this again");
    }
    Ok(())
}

/// Installs what the tests need; a part that cannot be had is reported, not fatal.
pub(crate) fn for_tests() -> Result<TestEnvironment> {
    for_building()?;
    if let Err(error) = install(TO_TEST) {
        println!("    note: {error:#}");
    }
    let cache = target_dir().join("clients");
    std::fs::create_dir_all(&cache)?;
    let kafka_libs = kafka_libraries(&cache);
    let java_classes = kafka_libs.as_ref().map_err(Clone::clone);
    let java_classes = java_classes.and_then(|libraries| java_classes_with(libraries, &cache));
    Ok(TestEnvironment {
        python: python_environment(&cache),
        node_modules: node_environment(&cache),
        go_programs: go_programs(&cache),
        prometheus_bin: prometheus_bin()
            .ok_or_else(|| "prometheus and promtool are not installed".to_owned()),
        postgres_bin: postgres_bin().ok_or_else(|| "no PostgreSQL server is installed".to_owned()),
        kcat: if is_installed("kcat") {
            Ok(())
        } else {
            Err("kcat is not installed".to_owned())
        },
        kafka_libs,
        java_classes,
    })
}

fn install(wanted: &[SystemPackage]) -> Result<()> {
    let missing: Vec<&SystemPackage> = wanted.iter().filter(|package| !(package.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !is_installed("apt-get") {
        bail!(
            "these are missing, and there is no apt-get to install them: {}",
            names.join(", ")
        );
    }
    if !is_root() && !is_installed("sudo") {
        bail!(
            "these are missing, and only root or sudo can install them: {}",
            names.join(", ")
        );
    }
    for package in &missing {
        println!("    installing {} ({})", package.name, package.why);
    }
    run_quietly(as_root("apt-get").args(["update", "-q"]))?;
    run_quietly(
        as_root("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&names),
    )?;
    Ok(())
}

fn as_root(program: &str) -> Command {
    let is_root = run_quietly(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let mut command = if is_root {
        Command::new("env")
    } else {
        Command::new("sudo")
    };
    if is_root {
        command.arg("DEBIAN_FRONTEND=noninteractive");
    } else {
        command.args(["-n", "DEBIAN_FRONTEND=noninteractive"]);
    }
    command.arg(program);
    command
}

fn is_root() -> bool {
    run_quietly(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let folders = |root: &str| {
        std::fs::read_dir(root)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let llvm = folders("/usr/lib")
        .into_iter()
        .filter(|path| name_of(path).starts_with("llvm"));
    let candidates = llvm.map(|path| path.join("lib")).chain(
        [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib64",
        ]
        .map(PathBuf::from),
    );
    candidates
        .flat_map(|folder| folders(&folder.to_string_lossy()))
        .any(|path| name_of(&path).starts_with("libclang") && name_of(&path).contains(".so"))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The folder with `prometheus` and `promtool`.
fn prometheus_bin() -> Option<PathBuf> {
    let folders = std::env::split_paths(&std::env::var_os("PATH")?).collect::<Vec<_>>();
    folders
        .into_iter()
        .find(|folder| folder.join("prometheus").is_file() && folder.join("promtool").is_file())
}

fn postgres_bin() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file() && bin.join("postgres").is_file())
        .collect();
    versions.sort();
    versions.pop()
}

fn python_with_venv() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| run_quietly(Command::new(python).args(["-c", "import venv, ensurepip"])).is_ok())
}

/// A virtual environment with the Python clients, made once for each content of the requirements file.
fn python_environment(cache: &Path) -> Result<PathBuf, String> {
    let python = python_with_venv().ok_or("no Python with venv is installed")?;
    let requirements = project_root().join("tests/clients/python/requirements.txt");
    let environment = cache.join("python");
    let interpreter = environment.join("bin/python");
    ready_for(&environment, &requirements, || {
        println!("    installing the Python clients of {}", requirements.display());
        run_quietly(
            Command::new(python)
                .args(["-m", "venv", "--clear"])
                .arg(&environment),
        )?;
        run_quietly(
            Command::new(&interpreter)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(&requirements),
        )?;
        Ok(())
    })?;
    Ok(interpreter)
}

/// A `node_modules` folder with the JavaScript clients.
fn node_environment(cache: &Path) -> Result<PathBuf, String> {
    if !is_installed("npm") || !is_installed("node") {
        return Err("Node.js and npm are not installed".to_owned());
    }
    let programs = project_root().join("tests/clients/node");
    let lock = programs.join("package-lock.json");
    let environment = cache.join("node");
    ready_for(&environment, &lock, || {
        println!("    installing the JavaScript clients of {}", lock.display());
        std::fs::create_dir_all(&environment)?;
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(programs.join(name), environment.join(name))?;
        }
        run_quietly(Command::new("npm").current_dir(&environment).args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]))?;
        Ok(())
    })?;
    Ok(environment.join("node_modules"))
}

/// The folder of the built programs of the Go clients. Go itself knows what is up to date.
fn go_programs(cache: &Path) -> Result<PathBuf, String> {
    if !is_installed("go") {
        return Err("Go is not installed".to_owned());
    }
    let programs = cache.join("go");
    println!("    building the Go clients");
    run_quietly(
        Command::new("go")
            .current_dir(project_root().join("tests/clients/go"))
            .args(["build", "-mod=readonly", "-trimpath", "-o"])
            .arg(format!("{}/", programs.display()))
            .args(["./franz", "./sarama"]),
    )
    .map_err(|error| reason(&format!("{error:#}")))?;
    Ok(programs)
}

/// The jars of Apache Kafka, for the comparison with it.
pub(crate) fn kafka_for_bench() -> Result<PathBuf, String> {
    kafka_libraries(&target_dir().join("clients"))
}

/// The jars of Apache Kafka, which the client library is tested against.
fn kafka_libraries(cache: &Path) -> Result<PathBuf, String> {
    if !is_installed("java") || !is_installed("mvn") {
        return Err("Java and Maven are not installed".to_owned());
    }
    let manifest = project_root().join("tests/kafka/pom.xml");
    let libraries = cache.join("kafka");
    ready_for(&libraries, &manifest, || {
        println!("    fetching Apache Kafka as {} names it", manifest.display());
        // Jars of another version must not stay on the class path.
        let _ = std::fs::remove_dir_all(&libraries);
        std::fs::create_dir_all(&libraries)?;
        run_quietly(
            Command::new("mvn")
                .args(["-q", "-B", "-f"])
                .arg(&manifest)
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", libraries.display())),
        )?;
        // What tests/kafka/run-kafka.sh looks for before it fetches by itself.
        std::fs::write(libraries.join(".complete"), "")?;
        Ok(())
    })?;
    Ok(libraries)
}

/// The compiled programs of the Java client and of Kafka's tools.
fn java_classes_with(libraries: &Path, cache: &Path) -> Result<PathBuf, String> {
    if !is_installed("javac") {
        return Err("no Java compiler is installed".to_owned());
    }
    let sources = project_root().join("tests/clients/java");
    let classes = cache.join("java");
    let compile = || -> Result<()> {
        let mut javac = Command::new("javac");
        javac.arg("-d").arg(&classes);
        javac.arg("-cp").arg(format!("{}/*", libraries.display()));
        for entry in std::fs::read_dir(&sources)? {
            javac.arg(entry?.path());
        }
        println!("    compiling the Java programs of {}", sources.display());
        run_quietly(&mut javac).map(drop)
    };
    compile().map_err(|error| reason(&format!("{error:#}")))?;
    Ok(classes)
}

/// Runs `install` unless it already succeeded for the present content of `manifest`.
fn ready_for(folder: &Path, manifest: &Path, install: impl FnOnce() -> Result<()>) -> Result<(), String> {
    let wanted =
        std::fs::read_to_string(manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let marker = folder.with_extension("installed");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    install().map_err(|error| reason(&format!("{error:#}")))?;
    std::fs::write(&marker, wanted).map_err(|error| format!("{}: {error}", marker.display()))
}

/// What a reader of the skipped tests' names can act on: the command, and what it said last.
fn reason(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let command = lines.next().unwrap_or("unknown failure");
    lines.next_back().map_or_else(
        || command.to_owned(),
        |last| format!("{command}: {}", last.trim()),
    )
}
