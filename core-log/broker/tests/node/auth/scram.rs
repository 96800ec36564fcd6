//! SCRAM over the wire, with the users of the file and those of the metadata.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use highwater_broker::{Node, NodeConfig, SecurityProtocol};
use highwater_wire::ErrorCode;
use ring::{digest, hmac, pbkdf2};

use super::client::{PASSWORD, USER, start};
use crate::support::Wire;

/// The client's side of SCRAM-SHA-512: what it proves itself with, and what it expects of the server.
fn proof(password: &str, first_bare: &str, server_first: &str) -> (String, String) {
    let mut parts = server_first.split(',');
    let mut part = || parts.next().unwrap().split_once('=').unwrap().1;
    let (nonce, salt, iterations) = (part(), part(), part());
    let salt = BASE64.decode(salt).unwrap();
    let rounds = iterations.parse().unwrap();
    let mut salted = [0; 64];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA512,
        rounds,
        &salt,
        password.as_bytes(),
        &mut salted,
    );
    let salted = hmac::Key::new(hmac::HMAC_SHA512, &salted);
    let client_key = hmac::sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA512, client_key.as_ref());
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{first_bare},{server_first},{without_proof}");
    let signature = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA512, stored.as_ref()),
        signed.as_bytes(),
    );
    let proof: Vec<u8> = client_key
        .as_ref()
        .iter()
        .zip(signature.as_ref())
        .map(|(a, b)| a ^ b)
        .collect();
    let server_key = hmac::sign(&salted, b"Server Key");
    let server = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA512, server_key.as_ref()),
        signed.as_bytes(),
    );
    (
        format!("{without_proof},p={}", BASE64.encode(proof)),
        format!("v={}", BASE64.encode(server)),
    )
}

/// Logs in; gives the first message of the server, and what the last one was or the error was.
async fn log_in(wire: &mut Wire, user: &str, password: &str) -> (String, Result<(), String>) {
    assert_eq!(wire.handshake("SCRAM-SHA-512").await.error_code, 0);
    let bare = format!("n={user},r=clientnonce");
    let asked = wire.token(format!("n,,{bare}")).await;
    assert_eq!((asked.error_code, asked.session_lifetime_ms), (0, 0));
    let server_first = String::from_utf8(asked.auth_bytes.to_vec()).unwrap();
    let (token, expected) = proof(password, &bare, &server_first);
    let answer = wire.token(token).await;
    let outcome = match answer.error_code {
        0 => {
            assert_eq!(answer.auth_bytes, expected.as_bytes());
            Ok(())
        }
        code => {
            assert_eq!(code, ErrorCode::SaslAuthenticationFailed.code());
            Err(answer.error_message.unwrap().to_string())
        }
    };
    (server_first, outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_file_log_in_before_the_metadata_knows_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SecurityProtocol::SaslPlaintext, &[]).await;
    let mut wire = Wire::connect(address).await;
    log_in(&mut wire, USER, PASSWORD).await.1.unwrap();
    wire.create("t", 1, &[]).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_93_no_salt_changes_with_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut salts = Vec::new();
    for _ in 0..2 {
        let (node, address) = start(dir.path(), SecurityProtocol::SaslPlaintext, &[]).await;
        for user in ["nobody", USER] {
            let mut wire = Wire::connect(address).await;
            let (server_first, _) = log_in(&mut wire, user, "wrong").await;
            salts.push(server_first.split_once(",s=").unwrap().1.to_owned());
        }
        node.shutdown().await.unwrap();
    }
    assert_eq!(salts[..2], salts[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_secret_is_damaged_says_so_and_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = start(dir.path(), SecurityProtocol::SaslPlaintext, &[]).await;
    node.shutdown().await.unwrap();
    let data = dir.path().join("data");
    std::fs::write(data.join("node.secret"), "garbage").unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let config = NodeConfig::new(&data).property("sasl.enabled.mechanisms", "SCRAM-SHA-512");
    let with_logins = config
        .clone()
        .listen_with(SecurityProtocol::SaslPlaintext, address);
    let error = Node::start(with_logins).await.unwrap_err().to_string();
    assert!(error.contains("node.secret is not a valid secret"), "{error}");
    // Who needs none is not kept from starting.
    let without = config.listen("PLAINTEXT", address);
    Node::start(without).await.unwrap().shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_89_93_an_unknown_user_is_asked_with_a_stable_salt_and_told_what_a_wrong_password_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path(), SecurityProtocol::SaslPlaintext, &[]).await;
    let mut salts = Vec::new();
    let mut nonces = Vec::new();
    let mut told = Vec::new();
    for (user, password) in [("nobody", "x"), ("nobody", "y"), (USER, "x"), (USER, "y")] {
        let mut wire = Wire::connect(address).await;
        let (server_first, outcome) = log_in(&mut wire, user, password).await;
        let (nonce, salt) = server_first.split_once(",s=").unwrap();
        nonces.push(nonce.to_owned());
        salts.push(salt.to_owned());
        told.push(outcome.unwrap_err());
        assert!(wire.is_closed_by_node().await);
    }
    assert_eq!((&salts[0], &salts[2]), (&salts[1], &salts[3]));
    assert_ne!(salts[0], salts[2]);
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 4);
    told.dedup();
    assert_eq!(told.len(), 1);
    // A final message without a first one, and one for another exchange.
    let mut wire = Wire::connect(address).await;
    wire.handshake("SCRAM-SHA-512").await;
    let answer = wire.token("c=biws,r=clientnonce,p=AAAA").await;
    assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
    let mut wire = Wire::connect(address).await;
    wire.handshake("SCRAM-SHA-512").await;
    wire.token("n,,n=tim,r=clientnonce").await;
    let answer = wire.token("c=biws,r=clientnonceother,p=AAAA").await;
    assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
    node.shutdown().await.unwrap();
}
