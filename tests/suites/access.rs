//! Users and access rules by the commands, on a node that asks for both.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};

use crate::secured::Secured;
use crate::support::{program, run_to_end};

/// A command as a user of the node; alice may do everything.
fn command(node: &Secured, folder: &Path, (user, password): (&str, &str), words: &[&str]) -> Result<Command> {
    let config = folder.join(format!("{user}.properties"));
    std::fs::write(
        &config,
        format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.username={user}\n\
             sasl.password={password}\n"
        ),
    )?;
    let mut command = program("highwater")?;
    command
        .args(words)
        .env("HIGHWATER_BOOTSTRAP", node.address("SASL_PLAINTEXT")?)
        .env("HIGHWATER_COMMAND_CONFIG", config);
    Ok(command)
}

/// What a command that fails says.
fn refused(mut command: Command) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output()?;
    let words = String::from_utf8_lossy(&stderr).into_owned();
    ensure!(
        status.code() == Some(1),
        "{command:?}: {status}, {}",
        String::from_utf8_lossy(&stdout)
    );
    Ok(words)
}

#[test]
fn users_and_rules_are_made_listed_and_removed_by_commands_and_hold_at_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Secured::start(folder.path())?;
    let run = |words: &[&str]| -> Result<String> {
        run_to_end(&mut command(
            &node,
            folder.path(),
            ("alice", "alice-secret"),
            words,
        )?)
    };
    let bob = |words: &[&str]| command(&node, folder.path(), ("bob", "b0b's word"), words);
    let read = [
        "consume",
        "prices",
        "--from-beginning",
        "-m",
        "1",
        "-g",
        "dashboards",
    ];
    run(&["topic", "create", "prices", "secret"])?;
    let records = folder.path().join("records");
    std::fs::write(&records, "67000\n")?;
    let mut produce = command(
        &node,
        folder.path(),
        ("alice", "alice-secret"),
        &["produce", "prices"],
    )?;
    ensure!(produce.stdin(std::fs::File::open(records)?).status()?.success());

    let password = folder.path().join("password");
    std::fs::write(&password, "b0b's word\n")?;
    let file = password.display().to_string();
    run(&["user", "set", "bob", "--password-file", &file])?;
    let listed = run(&["user", "list", "-o", "json"])?;
    ensure!(
        listed.contains("\"user\": \"bob\"") && !listed.contains("b0b"),
        "{listed}"
    );

    let words = refused(bob(&read)?)?;
    ensure!(
        words.contains("is not for this client") && words.contains("highwater acl add"),
        "{words}"
    );
    let added = run(&[
        "acl",
        "add",
        "--principal",
        "bob",
        "--allow",
        "read",
        "--topic",
        "prices",
        "--group",
        "dashboards",
    ])?;
    ensure!(
        added.contains("added User:bob from *: allow read on topic prices"),
        "{added}"
    );
    ensure!(run_to_end(&mut bob(&read)?)?.contains("67000"));
    let words = refused(bob(&["consume", "secret", "-g", "dashboards"])?)?;
    ensure!(words.contains("topic secret is not for this client"), "{words}");
    let listed = run(&["acl", "list", "--topic", "prices"])?;
    ensure!(
        listed.contains("User:bob") && !listed.contains("dashboards"),
        "{listed}"
    );

    let removed = run(&["acl", "remove", "--principal", "bob", "-o", "json"])?;
    ensure!(
        removed.lines().count() == 2 && removed.contains("\"removed\":true"),
        "{removed}"
    );
    refused(bob(&read)?)?;
    run(&["user", "remove", "bob"])?;
    let words = refused(bob(&["topic", "list"])?)?;
    ensure!(words.contains("does not authenticate"), "{words}");
    node.stop()
}
