//! Files as people have them, and what becomes of them.

use super::*;

fn apply(text: &str) -> Result<(ClientConfig, Vec<String>), PropertiesError> {
    let mut config = ClientConfig::default();
    let passed_over = config.apply(&Properties::parse(text, &|_| None)?)?;
    Ok((config, passed_over))
}

fn security(text: &str) -> SecurityConfig {
    apply(text).expect(text).0.security
}

fn problem(text: &str) -> String {
    apply(text).expect_err(text).to_string()
}

fn login(sasl: Option<SaslConfig>) -> (&'static str, String, String) {
    let sasl = sasl.expect("SASL");
    let mechanism = sasl.mechanism();
    match sasl {
        SaslConfig::Plain(login) | SaslConfig::Scram(_, login) => {
            (mechanism, login.username, login.password.reveal().to_owned())
        }
        SaslConfig::OAuthBearer(Token::Static(token)) => {
            (mechanism, String::new(), token.reveal().to_owned())
        }
        SaslConfig::OAuthBearer(Token::File(path)) => (mechanism, String::new(), path.display().to_string()),
    }
}

#[test]
fn a_file_of_kafkas_tools_says_who_we_are() {
    let (config, passed_over) = apply(
        "bootstrap.servers=a:9092, b:9092\nclient.id=tool\nrequest.timeout.ms=1500\ngroup.id=readers\n\
         security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n  username=\"alice\" \\\n  password=\"alice secret \";\n\
         ssl.truststore.type=PEM\nssl.truststore.location=/etc/ca.pem\nssl.endpoint.identification.algorithm=\n",
    )
    .expect("reads");
    assert_eq!(config.bootstrap, ["a:9092", "b:9092"]);
    assert_eq!(config.client_id, "tool");
    assert_eq!(config.request_timeout, Duration::from_millis(1500));
    assert_eq!(passed_over, ["group.id"]);
    let tls = config.security.tls.expect("TLS");
    assert!(!tls.verify_hostname);
    assert!(matches!(tls.truststore, Some(Pem::File(path)) if path.as_os_str() == "/etc/ca.pem"));
    let expected = ("SCRAM-SHA-256", "alice".to_owned(), "alice secret ".to_owned());
    assert_eq!(login(config.security.sasl), expected);
}

#[test]
fn a_file_of_kcat_says_the_same() {
    let security = security(
        "security.protocol=sasl_ssl\nsasl.mechanisms=PLAIN\nsasl.username=bob\nsasl.password=bob-secret\n\
         ssl.ca.location=/etc/ca.pem\nssl.certificate.location=/c.pem\nssl.key.location=/k.pem\n",
    );
    let identity = security.tls.expect("TLS").identity.expect("a certificate");
    assert!(matches!(identity.key, Pem::File(path) if path.as_os_str() == "/k.pem"));
    assert_eq!(
        login(security.sasl),
        ("PLAIN", "bob".to_owned(), "bob-secret".to_owned())
    );
}

#[test]
fn names_are_checked_and_the_systems_authorities_trusted_unless_said_otherwise() {
    let tls = security("security.protocol=SSL\n").tls.expect("TLS");
    assert!(tls.verify_hostname && tls.truststore.is_none() && tls.identity.is_none());
}

#[test]
fn a_token_comes_from_a_file_or_from_the_settings() {
    const START: &str = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n";
    let from_file = format!(
        "{START}sasl.oauthbearer.token.endpoint.url=file:///run/token\n\
         sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n\
         sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;\n"
    );
    let expected = ("OAUTHBEARER", String::new(), "/run/token".to_owned());
    assert_eq!(login(security(&from_file).sasl), expected);
    let given = security(&format!("{START}sasl.oauthbearer.token=abc\n"));
    assert_eq!(login(given.sasl).2, "abc");
    // Lesson of CVE-2025-27817: no setting makes this client fetch from where it says.
    let fetched = problem(&format!(
        "{START}sasl.oauthbearer.token.endpoint.url=http://169.254.169.254/\n"
    ));
    assert!(fetched.contains("reads tokens from files"), "{fetched}");
}

#[test]
fn every_mistake_is_named_with_what_to_do_and_no_secret() {
    const SASL: &str = "security.protocol=SASL_PLAINTEXT\n";
    const PLAIN: &str = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n";
    const TLS: &str = "security.protocol=SSL\n";
    for (text, expected) in [
        (
            "security.protocol=TLS".to_owned(),
            "security.protocol: `TLS` is not PLAINTEXT, SSL",
        ),
        (SASL.to_owned(), "sasl.mechanism: set PLAIN"),
        (
            format!("{SASL}sasl.mechanism=GSSAPI"),
            "sasl.mechanism: `GSSAPI` is not PLAIN",
        ),
        (PLAIN.to_owned(), "sasl.username: who this client is"),
        (
            format!("{PLAIN}sasl.username=a"),
            "sasl.password: who this client is",
        ),
        (
            format!(
                "{PLAIN}sasl.jaas.config=x.ScramLoginModule required username=\"a\" password=\"hunter2\";"
            ),
            "sasl.jaas.config: the login module ScramLoginModule does not go with",
        ),
        (
            format!("{PLAIN}sasl.jaas.config=x.PlainLoginModule required password=\"hunter2\";"),
            "sasl.jaas.config: it needs username",
        ),
        (
            "sasl.password=hunter2".to_owned(),
            "sasl.password: nobody is authenticated",
        ),
        (
            "ssl.ca.location=/ca.pem".to_owned(),
            "ssl.ca.location: nothing is encrypted",
        ),
        (
            format!("{TLS}ssl.truststore.type=JKS"),
            "ssl.truststore.type: this client reads PEM",
        ),
        (
            format!("{TLS}ssl.key.password=hunter2"),
            "ssl.key.password: encrypted keys",
        ),
        (
            format!("{TLS}ssl.certificate.location=/c"),
            "ssl.keystore.key: a certificate is given without",
        ),
        (
            format!("{TLS}ssl.cipher.suites=x"),
            "ssl.cipher.suites: this client has no such setting",
        ),
        (
            "request.timeout.ms=soon".to_owned(),
            "request.timeout.ms: `soon` is not a number",
        ),
    ] {
        let problem = problem(&text);
        assert!(problem.starts_with(expected), "{text}\n{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}
