//! `highwater user`: users who log in with SCRAM.
//!
//! Passwords come from standard input, a file or the environment and never from the command line, which every user of
//! the machine can read and shells remember.

use std::io::{IsTerminal, Read};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use highwater_client::Client;
use highwater_client::admin::{DEFAULT_ITERATIONS, UserScramAlteration};
use highwater_client::security::{ScramHash, Secret};
use highwater_types::ByteString;
use serde_json::json;

use crate::output::Output;

/// Nobody types more than that; a file of this size is not the one that was meant.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// What to do with users.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// List users and the mechanisms they can log in with.
    List,
    /// Give a user a password, or another one than before.
    #[command(after_help = "\
Examples:
  read -rs PASSWORD && printf %s \"$PASSWORD\" | highwater user set alice
  highwater user set alice --password-file /run/secrets/alice
  highwater user set alice --password-env ALICE_PASSWORD --mechanism scram-sha-256 --mechanism scram-sha-512

The password is not sent: the cluster gets what it checks logins with. Whoever is logged in stays so. What the user may
do is up to `highwater acl`.")]
    Set(SetArgs),
    /// Take passwords away. Who is logged in stays so until the connection ends.
    Remove {
        /// Name of the user.
        name: String,
        /// Only for this mechanism; all that the user has if left out. May be given several times.
        #[arg(long, value_enum)]
        mechanism: Vec<Mechanism>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Name of the user.
    name: String,
    /// The mechanism to log in with; may be given several times.
    #[arg(long, value_enum, default_value = "scram-sha-512")]
    mechanism: Vec<Mechanism>,
    /// Rounds of hashing. With another number than this one, strangers can tell that the user exists.
    #[arg(long, default_value_t = DEFAULT_ITERATIONS)]
    iterations: NonZeroU32,
    /// The file that holds the password, and nothing but a line break behind it.
    #[arg(long, value_name = "FILE", conflicts_with = "password_env")]
    password_file: Option<PathBuf>,
    /// The environment variable that holds the password. Without this and --password-file it is read from standard input.
    #[arg(long, value_name = "NAME")]
    password_env: Option<String>,
}

/// Mechanisms with passwords that the cluster keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mechanism {
    /// SCRAM-SHA-256.
    #[value(name = "scram-sha-256", alias = "SCRAM-SHA-256")]
    Sha256,
    /// SCRAM-SHA-512.
    #[value(name = "scram-sha-512", alias = "SCRAM-SHA-512")]
    Sha512,
}

impl Mechanism {
    fn hash(self) -> ScramHash {
        match self {
            Mechanism::Sha256 => ScramHash::Sha256,
            Mechanism::Sha512 => ScramHash::Sha512,
        }
    }
}

pub(crate) async fn run(command: UserCommand, client: &Client, output: &Output) -> Result<()> {
    match command {
        UserCommand::List => list(client, output).await,
        UserCommand::Set(args) => set(args, client, output).await,
        UserCommand::Remove { name, mechanism } => {
            let hashes = mechanism.into_iter().map(Mechanism::hash).collect();
            remove(&name.into(), hashes, client, output).await
        }
    }
}

async fn list(client: &Client, output: &Output) -> Result<()> {
    let mut rows = Vec::new();
    for (user, answer) in client.admin().describe_user_scram_credentials([]).await? {
        for credential in answer? {
            let mechanism = credential.hash.map(ScramHash::mechanism);
            rows.push(vec![
                json!(&*user),
                json!(mechanism),
                json!(credential.iterations),
            ]);
        }
    }
    output.rows(&["user", "mechanism", "iterations"], rows)
}

async fn set(args: SetArgs, client: &Client, output: &Output) -> Result<()> {
    let password = password(args.password_file.as_deref(), args.password_env.as_deref())?;
    let user = ByteString::from(args.name);
    let mut hashes: Vec<ScramHash> = args.mechanism.into_iter().map(Mechanism::hash).collect();
    hashes.dedup();
    for hash in hashes {
        let change = UserScramAlteration::Set {
            user: user.clone(),
            hash,
            iterations: args.iterations,
            password: password.clone(),
        };
        alter(change, client).await?;
        let mechanism = hash.mechanism();
        output.done(
            &format!("{user} logs in with {mechanism} and this password from now on"),
            json!({ "user": &*user, "mechanism": mechanism, "set": true }),
        )?;
    }
    Ok(())
}

async fn remove(
    user: &ByteString,
    mut hashes: Vec<ScramHash>,
    client: &Client,
    output: &Output,
) -> Result<()> {
    if hashes.is_empty() {
        let admin = client.admin();
        let answer = admin
            .describe_user_scram_credentials([user.clone()])
            .await?
            .remove(user);
        let credentials = match answer {
            Some(answer) => answer?,
            None => bail!("the cluster does not answer about {user}"),
        };
        hashes = credentials
            .iter()
            .filter_map(|credential| credential.hash)
            .collect();
    }
    hashes.dedup();
    for hash in hashes {
        let change = UserScramAlteration::Remove {
            user: user.clone(),
            hash,
        };
        alter(change, client).await?;
        let mechanism = hash.mechanism();
        output.done(
            &format!("{user} does not log in with {mechanism} any more"),
            json!({ "user": &**user, "mechanism": mechanism, "removed": true }),
        )?;
    }
    Ok(())
}

/// One change at a time: the cluster takes only one for each user in a request.
async fn alter(change: UserScramAlteration, client: &Client) -> Result<()> {
    let answers = client.admin().alter_user_scram_credentials([change]).await?;
    for (_, answer) in answers {
        answer?;
    }
    Ok(())
}

/// Reads a password from where it was said to be; one line break at its end does not belong to it.
fn password(file: Option<&Path>, variable: Option<&str>) -> Result<Secret> {
    let text = match (file, variable) {
        (Some(file), _) => {
            let opened = std::fs::File::open(file);
            let opened = opened.with_context(|| format!("--password-file {}", file.display()))?;
            read(opened).with_context(|| format!("--password-file {}", file.display()))?
        }
        (None, Some(name)) => match std::env::var(name) {
            Ok(text) => text,
            Err(_) => bail!("--password-env {name}: there is no such variable, or it is not UTF-8"),
        },
        (None, None) if std::io::stdin().is_terminal() => bail!(
            "the password is read from standard input, and this is a terminal, which would show it; \
             `highwater user set --help` shows how to hand it over"
        ),
        (None, None) => read(std::io::stdin().lock()).context("standard input")?,
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        bail!("the password is empty");
    }
    if text.contains(['\n', '\r', '\0']) {
        bail!("the password has several lines; it has to be one line of text");
    }
    Ok(Secret::new(text))
}

fn read(source: impl Read) -> Result<String> {
    let mut text = String::new();
    source
        .take(MAX_PASSWORD_BYTES + 1)
        .read_to_string(&mut text)
        .context("cannot read the password")?;
    if text.len() as u64 > MAX_PASSWORD_BYTES {
        bail!("it holds more than {MAX_PASSWORD_BYTES} bytes, which is no password");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(bytes: &[u8]) -> Result<Secret> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("password");
        std::fs::write(&path, bytes)?;
        password(Some(&path), None)
    }

    #[test]
    fn a_password_is_one_line_without_its_end_and_no_error_shows_it() {
        for text in ["pencil", "pencil\n", "pencil\r\n"] {
            assert!(
                from_file(text.as_bytes()).unwrap() == Secret::new("pencil"),
                "{text:?}"
            );
        }
        assert!(from_file(b" pencil ").unwrap() == Secret::new(" pencil "));
        let long = [b'p'; 5000];
        for bytes in [&b""[..], b"\n", b"pencil\nsharp\n", b"pen\xff", &long] {
            let error = from_file(bytes).unwrap_err();
            let told = crate::output::words_of(&error);
            assert!(!told.contains("pencil") && !told.contains("ppp"), "{told}");
        }
    }
}
