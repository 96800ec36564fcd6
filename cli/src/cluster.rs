//! The cluster that the options name, and the way to it.

use std::time::Duration;

use anyhow::{Context, Result};
use highwater_client::{Client, ClientConfig, Properties};

use crate::Global;

/// Where a cluster is sought that nothing names.
const DEFAULT_BOOTSTRAP: &str = "localhost:9092";

/// A client of the cluster that the options name. It never creates a topic by asking for one.
pub(crate) async fn connect(global: &Global) -> Result<Client> {
    connect_with(config(global)?).await
}

/// What the options say; --bootstrap goes before the `bootstrap.servers` of the file.
pub(crate) fn config(global: &Global) -> Result<ClientConfig> {
    let mut config = ClientConfig {
        client_id: "highwater-cli".into(),
        api_timeout: Duration::from_secs(10),
        allow_auto_create_topics: false,
        ..ClientConfig::new([DEFAULT_BOOTSTRAP])
    };
    if let Some(file) = &global.command_config {
        let read = Properties::read(file).and_then(|properties| config.apply(&properties));
        let passed_over =
            read.with_context(|| format!("{} (--command-config) does not work", file.display()))?;
        if !passed_over.is_empty() {
            tracing::info!(file = %file.display(), ?passed_over, "settings that these commands have no use for");
        }
    }
    if let Some(bootstrap) = &global.bootstrap {
        config.bootstrap = bootstrap
            .split(',')
            .map(|server| server.trim().to_owned())
            .collect();
    }
    Ok(config)
}

pub(crate) async fn connect_with(config: ClientConfig) -> Result<Client> {
    let bootstrap = config.bootstrap.join(",");
    Client::connect(config).await.map_err(|error| {
        let may_come = error.is_retriable();
        let error = anyhow::Error::from(error);
        if may_come {
            error.context(format!(
                "cannot reach {bootstrap}; is a node running? `highwater dev` starts one"
            ))
        } else {
            error
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Format, words_of};

    fn global(bootstrap: Option<&str>, text: Option<&str>) -> (Global, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.properties");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let global = Global {
            bootstrap: bootstrap.map(str::to_owned),
            command_config: text.map(|_| file),
            output: Format::Table,
            log: None,
        };
        (global, folder)
    }

    #[test]
    fn the_option_goes_before_the_file_and_the_file_before_the_default() {
        const FILE: &str = "bootstrap.servers=file:1\nsecurity.protocol=SSL\ngroup.id=g\n";
        for (option, file, expected) in [
            (Some("a:1, b:2"), Some(FILE), &["a:1", "b:2"][..]),
            (None, Some(FILE), &["file:1"]),
            (None, None, &[DEFAULT_BOOTSTRAP]),
        ] {
            let (global, _folder) = global(option, file);
            let config = config(&global).unwrap();
            assert_eq!(config.bootstrap, expected);
            assert_eq!(config.security.tls.is_some(), file.is_some());
        }
    }

    #[test]
    fn a_file_that_does_not_work_is_named() {
        let (global, _folder) = global(None, Some("security.protocol=TLS"));
        let words = words_of(&config(&global).unwrap_err());
        assert!(words.contains("client.properties (--command-config)"), "{words}");
        assert!(words.contains("`TLS` is not PLAINTEXT"), "{words}");
    }
}
