//! The handshake against a server in the test, with authorities made for it.

use highwater_wire::{
    ApiKey, RequestBody, encode_response,
    messages::{HeartbeatRequest, HeartbeatResponse},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    ClientConfig, Transport as _,
    security::{ClientIdentity, Secret, SecurityConfig},
    transport::tcp::TcpTransport,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    fn pem(&self) -> Pem {
        Pem::Text(Secret::new(self.0.pem()))
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        Issued {
            certificate: params.signed_by(&key, &self.0).expect("signed").pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Serves one connection at a time: each request is answered with an empty Heartbeat. Gives the address.
async fn serve(issued: &Issued, clients: Option<&Authority>) -> String {
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("usable");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("roots"))
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).expect("fits")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            while let Ok(length) = stream.read_i32().await {
                let mut frame = vec![0; usize::try_from(length).expect("positive")];
                stream.read_exact(&mut frame).await.expect("a frame");
                let correlation_id = i32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
                let body = HeartbeatResponse::default().into();
                let answer = encode_response(ApiKey::Heartbeat, 3, correlation_id, &body).into_bytes();
                stream.write_all(&answer).await.expect("written");
                stream.flush().await.expect("sent");
            }
        }
    });
    format!("localhost:{port}")
}

async fn ask(address: &str, tls: TlsConfig) -> Result<(), TransportError> {
    let config = ClientConfig {
        security: SecurityConfig {
            tls: Some(tls),
            sasl: None,
        },
        ..ClientConfig::new([address])
    };
    let connection = TcpTransport::new(&config)
        .expect("good settings")
        .connect(address)
        .await?;
    let request = RequestBody::Heartbeat(HeartbeatRequest::default());
    connection.call(3, request).await.map(drop)
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig {
        truststore: Some(authority.pem()),
        ..TlsConfig::default()
    }
}

/// Says why, and whether another attempt is thought to help.
async fn refusal(address: &str, tls: TlsConfig) -> (String, bool) {
    let error = ask(address, tls).await.expect_err("refused");
    (error.to_string(), error.is_retriable())
}

#[tokio::test]
async fn requests_and_answers_travel_through_tls() {
    let authority = Authority::new();
    let address = serve(&authority.issue("localhost"), None).await;
    ask(&address, trusting(&authority)).await.expect("answered");
}

#[tokio::test]
async fn a_broker_of_a_strange_authority_is_refused_for_good() {
    let address = serve(&Authority::new().issue("localhost"), None).await;
    let (why, retriable) = refusal(&address, trusting(&Authority::new())).await;
    assert!(
        why.contains("ssl.truststore.location") && why.contains(&address),
        "{why}"
    );
    assert!(!retriable);
}

#[tokio::test]
async fn a_broker_with_another_name_is_refused_unless_names_are_not_checked() {
    let authority = Authority::new();
    let address = serve(&authority.issue("elsewhere.example"), None).await;
    let (why, retriable) = refusal(&address, trusting(&authority)).await;
    assert!(
        why.contains("ssl.endpoint.identification.algorithm") && !retriable,
        "{why}"
    );

    let any_name = |authority: &Authority| TlsConfig {
        verify_hostname: false,
        ..trusting(authority)
    };
    ask(&address, any_name(&authority)).await.expect("answered");
    let (why, _) = refusal(&address, any_name(&Authority::new())).await;
    assert!(
        why.contains("ssl.truststore.location"),
        "only the name goes unchecked: {why}"
    );
}

#[tokio::test]
async fn a_broker_that_wants_to_know_its_clients_gets_a_certificate_or_the_reason_is_told() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let address = serve(&authority.issue("localhost"), Some(&clients)).await;
    let with = |issued: &Issued| TlsConfig {
        identity: Some(ClientIdentity {
            certificate_chain: Pem::Text(Secret::new(&issued.certificate)),
            key: Pem::Text(Secret::new(&issued.key)),
        }),
        ..trusting(&authority)
    };
    ask(&address, with(&clients.issue("client")))
        .await
        .expect("answered");
    for tls in [trusting(&authority), with(&Authority::new().issue("client"))] {
        let (why, retriable) = refusal(&address, tls).await;
        assert!(why.contains("ssl.keystore") && !retriable, "{why}");
    }
}

#[tokio::test]
async fn a_listener_without_tls_is_told_from_one_with_another_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepts");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
        let (stream, _) = listener.accept().await.expect("accepts");
        drop(stream);
    });
    let (why, retriable) = refusal(&address, trusting(&Authority::new())).await;
    assert!(why.contains("does not answer in TLS") && !retriable, "{why}");
    // A broker that hangs up may only be starting.
    let (why, retriable) = refusal(&address, trusting(&Authority::new())).await;
    assert!(why.contains("SSL or SASL_SSL listener?") && retriable, "{why}");
}

#[test]
fn what_is_not_pem_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let problem = |content: &[u8]| {
        let path = folder.path().join("store");
        std::fs::write(&path, content).expect("written");
        let config = TlsConfig {
            truststore: Some(Pem::File(path)),
            ..TlsConfig::default()
        };
        Tls::new(&config).expect_err("refused").to_string()
    };
    assert!(problem(&[0xfe, 0xed, 0xfe, 0xed, 0, 0]).contains("keytool"));
    assert!(problem(&[0x30, 0x82, 1, 1]).contains("openssl"));
    assert!(problem(b"nothing of the kind").contains("holds no certificate"));
    let missing = TlsConfig {
        truststore: Some(Pem::File(folder.path().join("missing"))),
        ..TlsConfig::default()
    };
    let error = Tls::new(&missing).expect_err("refused").to_string();
    assert!(
        error.contains("ssl.truststore.location") && error.contains("missing"),
        "{error}"
    );
}

#[test]
fn an_encrypted_key_is_refused_with_the_way_to_decrypt_it() {
    let authority = Authority::new();
    let issued = authority.issue("client");
    let key = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let config = TlsConfig {
        identity: Some(ClientIdentity {
            certificate_chain: Pem::Text(Secret::new(issued.certificate)),
            key: Pem::Text(Secret::new(key)),
        }),
        ..trusting(&authority)
    };
    let error = Tls::new(&config).expect_err("refused").to_string();
    assert!(
        error.contains("openssl pkcs8") && !error.contains("AAAA"),
        "{error}"
    );
}

#[test]
fn the_name_to_check_is_the_host_without_port_and_brackets() {
    for (address, host) in [
        ("kafka.example.org:9092", "kafka.example.org"),
        ("127.0.0.1:9092", "127.0.0.1"),
        ("[::1]:9092", "::1"),
    ] {
        let expected = ServerName::try_from(host).expect("a name");
        assert_eq!(server_name(address).expect("a name"), expected);
    }
}
