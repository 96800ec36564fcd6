//! A node whose clients must say who they are, for the client programs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::pki::Pki;
use crate::support::{Watched, program};

/// The listeners; `SSL` wants a client's certificate.
const PROTOCOLS: [&str; 3] = ["SASL_PLAINTEXT", "SASL_SSL", "SSL"];

pub(crate) struct Secured {
    pub(crate) pki: Pki,
    /// By protocol.
    addresses: Vec<(&'static str, String)>,
    process: Watched,
}

impl Secured {
    /// Starts a node that knows alice by password, token and certificate, and lets her do everything.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let pki = Pki::create(&folder.join("tls"))?;
        let users = folder.join("users.toml");
        std::fs::write(
            &users,
            "[[user]]\nname = \"alice\"\npassword = \"alice-secret\"\n",
        )?;
        let file = |name: &str| pki.file(name).display().to_string();
        let listeners = PROTOCOLS
            .map(|protocol| format!("\"{protocol}://127.0.0.1:0\""))
            .join(", ");
        let properties = [
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            ),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            ("highwater.sasl.users.file", users.display().to_string()),
            (
                "sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
            ),
            (
                "sasl.oauthbearer.jwks.endpoint.url",
                format!("file://{}", file("jwks.json")),
            ),
            ("ssl.client.auth", "required".to_owned()),
            ("ssl.keystore.location", file("broker.pem")),
            ("ssl.truststore.location", file("ca.pem")),
            ("super.users", "User:alice;User:CN=alice".to_owned()),
        ]
        .map(|(name, value)| format!("\"{name}\" = \"{value}\"\n"))
        .concat();
        let config = folder.join("highwater.toml");
        let any = "127.0.0.1:0";
        std::fs::write(
            &config,
            format!(
                "[node]\ndata_dir = \"{}\"\n[listeners]\nkafka = [{listeners}]\nhttp = \"{any}\"\nconnect = \"{any}\"\n\
                 sql = \"{any}\"\n[properties]\n{properties}",
                folder.join("secured").display()
            ),
        )?;
        let mut process = Watched::start(
            program("highwater")?
                .args(["server", "-c"])
                .arg(&config)
                .env("HIGHWATER_LOG", "warn"),
        )?;
        let ready = process.wait_for("line that says ready", Duration::from_secs(60), |line| {
            line.contains("ready")
        })?;
        let listening = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("kafka="))
            .with_context(|| format!("`{ready}` names no kafka"))?;
        let addresses: Vec<(&'static str, String)> = listening
            .split(',')
            .filter_map(|listener| {
                let (name, address) = listener.split_once("://")?;
                let protocol = PROTOCOLS.iter().find(|protocol| **protocol == name)?;
                Some((*protocol, address.to_owned()))
            })
            .collect();
        ensure!(
            addresses.len() == PROTOCOLS.len(),
            "`{listening}` lacks listeners"
        );
        Ok(Self {
            pki,
            addresses,
            process,
        })
    }

    /// Where the listener of a protocol is.
    pub(crate) fn address(&self, protocol: &str) -> Result<&str> {
        let found = self.addresses.iter().find(|(name, _)| *name == protocol);
        Ok(&found.with_context(|| format!("no listener {protocol}"))?.1)
    }

    /// Tells a client program where the listeners and the files are.
    pub(crate) fn told_to(&self, program: &mut Command) {
        program.env("HIGHWATER_TEST_TLS", self.pki.folder());
        for (protocol, address) in &self.addresses {
            program.env(format!("HIGHWATER_TEST_{protocol}"), address);
        }
    }

    /// SIGTERM, and the exit code must be 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal("TERM")?;
        let code = self.process.wait(Duration::from_secs(30))?;
        ensure!(code == 0, "SIGTERM ended the secured node with {code}");
        Ok(())
    }
}
