//! What the settings of a properties file mean for a client. Names are Kafka's; those of librdkafka for the same
//! things (`ssl.ca.location` and so on) are understood too, because kcat's files are as common.
//!
//! # Invariants
//! - A setting of security that this client does not have is an error: who sets one relies on it. Others, such as
//!   a producer's or a consumer's, are passed over and named to the caller.
//! - Credentials without a protocol that uses them are an error, too: the connection would go without.

use std::{collections::BTreeSet, path::PathBuf, str::FromStr, time::Duration};

use super::{Properties, PropertiesError, jaas::Jaas};
use crate::{
    ClientConfig,
    security::{ClientIdentity, Login, Pem, SaslConfig, ScramHash, Secret, SecurityConfig, TlsConfig, Token},
};

impl ClientConfig {
    /// Takes what `properties` sets and leaves the rest; gives the names of settings that are not a client's, such as
    /// `group.id`.
    ///
    /// # Errors
    /// [`PropertiesError::Setting`].
    pub fn apply(&mut self, properties: &Properties) -> Result<Vec<String>, PropertiesError> {
        let mut settings = Settings {
            properties,
            seen: BTreeSet::new(),
        };
        if let Some(servers) = settings.text("bootstrap.servers") {
            let servers = servers
                .split(',')
                .map(str::trim)
                .filter(|server| !server.is_empty());
            self.bootstrap = servers.map(str::to_owned).collect();
        }
        if let Some(id) = settings.text("client.id") {
            self.client_id = id.into();
        }
        if let Some(allowed) = settings.parsed("allow.auto.create.topics", "true or false")? {
            self.allow_auto_create_topics = allowed;
        }
        for (name, place) in [
            ("request.timeout.ms", &mut self.request_timeout),
            ("socket.connection.setup.timeout.ms", &mut self.connect_timeout),
            ("reconnect.backoff.ms", &mut self.reconnect_backoff),
            ("reconnect.backoff.max.ms", &mut self.reconnect_backoff_max),
            ("retry.backoff.ms", &mut self.retry_backoff),
            ("retry.backoff.max.ms", &mut self.retry_backoff_max),
            ("default.api.timeout.ms", &mut self.api_timeout),
            ("metadata.max.age.ms", &mut self.metadata_max_age),
        ] {
            if let Some(ms) = settings.parsed(name, "a number of milliseconds")? {
                *place = Duration::from_millis(ms);
            }
        }
        if let Some(security) = settings.security()? {
            self.security = security;
        }
        settings.rest()
    }
}

fn wrong(name: &str, problem: impl Into<String>) -> PropertiesError {
    PropertiesError::Setting {
        name: name.to_owned(),
        problem: problem.into(),
    }
}

/// Settings that mean nothing to this client and weaken nothing when passed over.
const PASSED_OVER: &[&str] = &[
    "sasl.login.",
    "sasl.oauthbearer.",
    "sasl.client.callback.handler.class",
    "security.providers",
];

struct Settings<'a> {
    properties: &'a Properties,
    seen: BTreeSet<&'static str>,
}

impl<'a> Settings<'a> {
    fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.seen.insert(name);
        self.properties.get(name).map(str::trim)
    }

    /// Passwords and the like keep their blanks.
    fn secret(&mut self, name: &'static str) -> Option<Secret> {
        self.seen.insert(name);
        self.properties.get(name).map(Secret::new)
    }

    fn path(&mut self, names: &[&'static str]) -> Option<(&'static str, PathBuf)> {
        names
            .iter()
            .filter_map(|name| Some((*name, self.text(name)?)))
            .find(|(_, path)| !path.is_empty())
            .map(|(name, path)| (name, path.into()))
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, form: &str) -> Result<Option<T>, PropertiesError> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| wrong(name, format!("`{text}` is not {form}")))
            })
            .transpose()
    }

    /// `None` when nothing is said about security.
    fn security(&mut self) -> Result<Option<SecurityConfig>, PropertiesError> {
        const PROTOCOL: &str = "security.protocol";
        let protocol = self.text(PROTOCOL);
        let (with_tls, with_sasl) = match protocol.map(str::to_uppercase).as_deref() {
            None | Some("PLAINTEXT") => (false, false),
            Some("SSL") => (true, false),
            Some("SASL_PLAINTEXT") => (false, true),
            Some("SASL_SSL") => (true, true),
            Some(_) => {
                let protocol = protocol.unwrap_or_default();
                let problem = format!("`{protocol}` is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
                return Err(wrong(PROTOCOL, problem));
            }
        };
        self.refuse_unused(with_tls, with_sasl)?;
        let tls = if with_tls { Some(self.tls()?) } else { None };
        let sasl = if with_sasl { Some(self.sasl()?) } else { None };
        Ok(protocol.map(|_| SecurityConfig { tls, sasl }))
    }

    fn refuse_unused(&self, with_tls: bool, with_sasl: bool) -> Result<(), PropertiesError> {
        const OF_TLS: &[&str] = &[
            "ssl.truststore.location",
            "ssl.truststore.certificates",
            "ssl.ca.location",
            "ssl.keystore.location",
            "ssl.keystore.key",
            "ssl.key.location",
        ];
        const OF_SASL: &[&str] = &[
            "sasl.jaas.config",
            "sasl.username",
            "sasl.password",
            "sasl.oauthbearer.token",
        ];
        let unused = |used: bool, names: &'static [&'static str]| {
            names
                .iter()
                .find(|name| !used && self.properties.get(name).is_some())
        };
        match (unused(with_tls, OF_TLS), unused(with_sasl, OF_SASL)) {
            (Some(name), _) => Err(wrong(
                name,
                "nothing is encrypted; set security.protocol=SSL or SASL_SSL, or remove this",
            )),
            (_, Some(name)) => Err(wrong(
                name,
                "nobody is authenticated; set security.protocol=SASL_SSL or SASL_PLAINTEXT, or remove this",
            )),
            (None, None) => Ok(()),
        }
    }

    fn tls(&mut self) -> Result<TlsConfig, PropertiesError> {
        for name in ["ssl.truststore.type", "ssl.keystore.type"] {
            let kind = self.text(name).unwrap_or("PEM");
            if !kind.eq_ignore_ascii_case("PEM") {
                let how = "export what it holds: `keytool -exportcert -rfc` for certificates, `openssl pkcs12 -nodes` for a key";
                return Err(wrong(name, format!("this client reads PEM, not {kind}; {how}")));
            }
        }
        // Files in PEM form have none; they are often left over from a store of Java's.
        self.text("ssl.truststore.password");
        self.text("ssl.keystore.password");
        let truststore = match self.secret("ssl.truststore.certificates") {
            Some(certificates) => Some(Pem::Text(certificates)),
            None => self
                .path(&["ssl.truststore.location", "ssl.ca.location"])
                .map(|(_, path)| Pem::File(path)),
        };
        Ok(TlsConfig {
            truststore,
            identity: self.identity()?,
            verify_hostname: self.verify_hostname()?,
        })
    }

    fn verify_hostname(&mut self) -> Result<bool, PropertiesError> {
        const NAME: &str = "ssl.endpoint.identification.algorithm";
        match self.text(NAME) {
            None => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("https") => Ok(true),
            Some("" | "none") => Ok(false),
            Some(other) => Err(wrong(
                NAME,
                format!("`{other}` is not https (names are checked) or empty (they are not)"),
            )),
        }
    }

    fn identity(&mut self) -> Result<Option<ClientIdentity>, PropertiesError> {
        const KEY_PASSWORD: &str = "ssl.key.password";
        if self
            .text(KEY_PASSWORD)
            .is_some_and(|password| !password.is_empty())
        {
            return Err(wrong(
                KEY_PASSWORD,
                "encrypted keys cannot be used; decrypt it with `openssl pkcs8 -in KEY -out PLAINKEY` and protect the file",
            ));
        }
        let chain = match self.secret("ssl.keystore.certificate.chain") {
            Some(chain) => Some(Pem::Text(chain)),
            None => self
                .path(&["ssl.certificate.location"])
                .map(|(_, path)| Pem::File(path)),
        };
        let key = match self.secret("ssl.keystore.key") {
            Some(key) => Some(Pem::Text(key)),
            None => self.path(&["ssl.key.location"]).map(|(_, path)| Pem::File(path)),
        };
        let both = self.path(&["ssl.keystore.location"]);
        match (chain, key, both) {
            (Some(certificate_chain), Some(key), None) => Ok(Some(ClientIdentity {
                certificate_chain,
                key,
            })),
            (None, None, Some((_, path))) => Ok(Some(ClientIdentity {
                certificate_chain: Pem::File(path.clone()),
                key: Pem::File(path),
            })),
            (None, None, None) => Ok(None),
            (_, _, Some((name, _))) => Err(wrong(name, "the certificate is given twice; remove one")),
            (Some(_), None, None) => Err(wrong(
                "ssl.keystore.key",
                "a certificate is given without its key; give the key here, or its file in ssl.key.location",
            )),
            (None, Some(_), None) => Err(wrong(
                "ssl.keystore.certificate.chain",
                "a key is given without its certificate; give it here, or its file in ssl.certificate.location",
            )),
        }
    }

    fn sasl(&mut self) -> Result<SaslConfig, PropertiesError> {
        const NAME: &str = "sasl.mechanism";
        let mechanism = self.text(NAME);
        let mechanism = mechanism.or_else(|| self.text("sasl.mechanisms"));
        match mechanism {
            Some("PLAIN") => Ok(SaslConfig::Plain(self.login("PlainLoginModule")?)),
            Some("SCRAM-SHA-256") => Ok(SaslConfig::Scram(
                ScramHash::Sha256,
                self.login("ScramLoginModule")?,
            )),
            Some("SCRAM-SHA-512") => Ok(SaslConfig::Scram(
                ScramHash::Sha512,
                self.login("ScramLoginModule")?,
            )),
            Some("OAUTHBEARER") => Ok(SaslConfig::OAuthBearer(self.token()?)),
            None => Err(wrong(
                NAME,
                "set PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
            )),
            Some(other) => Err(wrong(
                NAME,
                format!("`{other}` is not PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"),
            )),
        }
    }

    fn login(&mut self, module: &str) -> Result<Login, PropertiesError> {
        const JAAS: &str = "sasl.jaas.config";
        let username = self.secret("sasl.username");
        let password = self.secret("sasl.password");
        if let (Some(username), Some(password)) = (&username, password) {
            return Ok(Login {
                username: username.reveal().to_owned(),
                password,
            });
        }
        let Some(text) = self.text(JAAS) else {
            return Err(wrong(
                if username.is_some() {
                    "sasl.password"
                } else {
                    "sasl.username"
                },
                "who this client is has to be said: set sasl.username and sasl.password, or sasl.jaas.config",
            ));
        };
        let mut jaas = Jaas::parse(text).map_err(|problem| wrong(JAAS, problem))?;
        if jaas.module != module {
            return Err(wrong(
                JAAS,
                format!(
                    "the login module {} does not go with sasl.mechanism; take {module}",
                    jaas.module
                ),
            ));
        }
        match (jaas.options.remove("username"), jaas.options.remove("password")) {
            (Some(username), Some(password)) => Ok(Login {
                username,
                password: Secret::new(password),
            }),
            _ => Err(wrong(JAAS, "it needs username=\"...\" and password=\"...\"")),
        }
    }

    fn token(&mut self) -> Result<Token, PropertiesError> {
        const URL: &str = "sasl.oauthbearer.token.endpoint.url";
        // Kafka's login module has no options that this client needs.
        self.text("sasl.jaas.config");
        if let Some(token) = self.secret("sasl.oauthbearer.token") {
            return Ok(Token::Static(token));
        }
        let path = match self.text(URL) {
            None => {
                return Err(wrong(
                    URL,
                    "a token has to come from somewhere: set file:///path/of/the/token, or sasl.oauthbearer.token",
                ));
            }
            Some(url) => url
                .strip_prefix("file:")
                .map(|path| path.strip_prefix("//").unwrap_or(path)),
        };
        match path {
            Some(path) if path.starts_with('/') => Ok(Token::File(path.into())),
            _ => Err(wrong(
                URL,
                "this client reads tokens from files (file:///path); let what fetches them write one",
            )),
        }
    }

    /// Names that no question was asked about.
    fn rest(self) -> Result<Vec<String>, PropertiesError> {
        let Self { properties, seen } = self;
        let mut passed_over = Vec::new();
        for name in properties
            .entries
            .keys()
            .filter(|name| !seen.contains(name.as_str()))
        {
            // A protocol without TLS or SASL has asked about none of their settings; what matters of them was refused.
            let of_security = ["ssl.", "sasl.", "security."]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            let harmless = PASSED_OVER.iter().any(|prefix| name.starts_with(prefix)) || is_known(name);
            if of_security && !harmless {
                return Err(wrong(
                    name,
                    "this client has no such setting of security; remove it",
                ));
            }
            passed_over.push(name.clone());
        }
        Ok(passed_over)
    }
}

/// Settings that are asked about only under another protocol or mechanism.
fn is_known(name: &str) -> bool {
    const KNOWN: &[&str] = &[
        "sasl.jaas.config",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.keystore.certificate.chain",
        "ssl.keystore.key",
        "ssl.keystore.location",
        "ssl.keystore.password",
        "ssl.keystore.type",
        "ssl.truststore.certificates",
        "ssl.truststore.location",
        "ssl.truststore.password",
        "ssl.truststore.type",
    ];
    KNOWN.contains(&name)
}

#[cfg(test)]
mod tests;
