//! The examples of the RFCs, and what clients must not get away with.

use std::num::NonZeroU32;

use super::*;

const PASSWORD: &str = "pencil";
const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
/// RFC 7677, section 3.
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn stored(mechanism: ScramMechanism) -> ScramCredential {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    credential(mechanism, PASSWORD, salt, NonZeroU32::new(4096).unwrap())
}

fn challenge_of(first: &[u8], is_known: bool) -> Challenge {
    let verifier = Verifier {
        credential: stored(ScramMechanism::Sha256),
        is_known,
    };
    let first = ClientFirst::parse(first).unwrap();
    Challenge::new(ScramMechanism::Sha256, first, verifier, SERVER_NONCE)
}

fn finish(token: &str) -> Result<(String, String), Refusal> {
    challenge_of(CLIENT_FIRST, true).finish(token.as_bytes())
}

/// What an honest client answers, whatever was said before.
fn proven(challenge: &Challenge, without_proof: &str) -> String {
    let Hashes { hmac, .. } = hashes(challenge.mechanism);
    let iterations = NonZeroU32::new(challenge.credential.iterations).unwrap();
    let mut salted = vec![0; challenge.mechanism.hash_bytes()];
    let algorithm = match challenge.mechanism {
        ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let salt = &challenge.credential.salt;
    pbkdf2::derive(algorithm, iterations, salt, PASSWORD.as_bytes(), &mut salted);
    let client_key = hmac::sign(&hmac::Key::new(hmac, &salted), b"Client Key");
    let signed = format!("{},{},{without_proof}", challenge.first.bare, challenge.message);
    let stored = hmac::Key::new(hmac, &challenge.credential.stored_key);
    let signature = hmac::sign(&stored, signed.as_bytes());
    let proof: Vec<u8> = client_key
        .as_ref()
        .iter()
        .zip(signature.as_ref())
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{without_proof},p={}", BASE64.encode(proof))
}

#[test]
fn the_exchange_of_rfc_7677_is_as_the_rfc_has_it() {
    let challenge = challenge_of(CLIENT_FIRST, true);
    assert_eq!(
        std::str::from_utf8(challenge.message()).unwrap(),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (user, server_final) = challenge.finish(CLIENT_FINAL.as_bytes()).unwrap();
    assert_eq!(user, "user");
    assert_eq!(server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn sha_512_works_with_extensions_names_that_are_escaped_and_ones_own_authorization_id() {
    let first = ClientFirst::parse(b"y,a=a=2Cb=3D,n=a=2Cb=3D,r=abc,x=1").unwrap();
    assert_eq!(first.user(), "a,b=");
    let verifier = Verifier {
        credential: stored(ScramMechanism::Sha512),
        is_known: true,
    };
    let challenge = Challenge::new(ScramMechanism::Sha512, first, verifier, "def");
    let header = BASE64.encode("y,a=a=2Cb=3D,");
    let token = proven(&challenge, &format!("c={header},r=abcdef,x=1"));
    assert_eq!(challenge.finish(token.as_bytes()).unwrap().0, "a,b=");
}

#[test]
fn hostile_89_first_messages_that_bind_channels_or_play_with_attributes_are_refused() {
    let refusal = |text: &str| ClientFirst::parse(text.as_bytes()).unwrap_err();
    assert_eq!(
        refusal("p=tls-server-end-point,,n=user,r=abc"),
        Refusal::ChannelBinding
    );
    assert_eq!(refusal("n,a=root,n=user,r=abc"), Refusal::OtherIdentity);
    assert_eq!(
        refusal("n,,n=user,r=abc,tokenauth=true"),
        Refusal::DelegationToken
    );
    for bad in [
        "",
        "n",
        "n,",
        "n,,",
        "x,,n=user,r=abc",
        "n,,r=abc,n=user",
        "n,,n=user",
        "n,,n=,r=abc",
        "n,,n=user,r=",
        "n,,n=user,r=abc,",
        "n,,n=user,r=abc,r=abc",
        "n,,n=user,r=abc,n=root",
        "n,,m=x,n=user,r=abc",
        "n,,n=user,r=abc,m=x",
        "n,,n=user,r=abc,x=1,x=2",
        "n,b=user,n=user,r=abc",
        "n,,n=us=er,r=abc",
        "n,,n=user=2,r=abc",
        "n,,n=us\0er,r=abc",
        "n,,n=user,r=a\nbc",
    ] {
        assert_eq!(refusal(bad), Refusal::Malformed, "{bad:?}");
    }
    let long = format!("n,,n=user,r={}", "a".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(refusal(&long), Refusal::Malformed);
}

#[test]
fn hostile_89_final_messages_with_another_nonce_header_order_or_without_proof_are_refused() {
    let nonce = format!("rOprNGfwEbeRWgbNEkqO{SERVER_NONCE}");
    let other_exchange = |without_proof: &str| {
        let challenge = challenge_of(CLIENT_FIRST, true);
        let token = proven(&challenge, without_proof);
        assert_eq!(
            challenge.finish(token.as_bytes()).unwrap_err(),
            Refusal::OtherExchange,
            "{without_proof}"
        );
    };
    // Each of these carries the proof that belongs to it.
    other_exchange("c=biws,r=rOprNGfwEbeRWgbNEkqO");
    other_exchange(&format!("c=biws,r={SERVER_NONCE}"));
    other_exchange(&format!("c=biws,r={nonce}x"));
    other_exchange("c=biws,r=");
    other_exchange(&format!("c=eSws,r={nonce}"));
    other_exchange(&format!("c=biwx,r={nonce}"));
    other_exchange(&format!("c=,r={nonce}"));
    let malformed = |without_proof: String| {
        let challenge = challenge_of(CLIENT_FIRST, true);
        let token = proven(&challenge, &without_proof);
        assert_eq!(
            challenge.finish(token.as_bytes()).unwrap_err(),
            Refusal::Malformed,
            "{without_proof}"
        );
    };
    malformed(format!("r={nonce},c=biws"));
    malformed(format!("c=biws,c=biws,r={nonce}"));
    malformed(format!("c=biws,r={nonce},r={nonce}"));
    malformed(format!("c=biws,r={nonce},m=x"));
    malformed(format!("r={nonce}"));
    malformed("c=biws".to_owned());
    for bad in [
        String::new(),
        format!("c=biws,r={nonce}"),
        format!("c=biws,r={nonce},p=***"),
        format!("{CLIENT_FINAL},x=1"),
        format!("p=AAAA,c=biws,r={nonce}"),
    ] {
        assert_eq!(finish(&bad).unwrap_err(), Refusal::Malformed, "{bad}");
    }
    for wrong in ["", "AAAA", "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR="] {
        let token = format!("c=biws,r={nonce},p={wrong}");
        assert!(finish(&token).is_err(), "{wrong}");
    }
}

#[test]
fn hostile_93_who_does_not_exist_fails_at_the_end_as_a_wrong_password_does() {
    let unknown = challenge_of(CLIENT_FIRST, false);
    let known = challenge_of(CLIENT_FIRST, true);
    assert_eq!(unknown.message(), known.message());
    // Not even the right proof helps, and the refusal is that of a wrong password.
    assert_eq!(
        unknown.finish(CLIENT_FINAL.as_bytes()).unwrap_err(),
        Refusal::Credentials
    );
    let wrong = CLIENT_FINAL.replace("p=dHz", "p=eHz");
    assert_eq!(known.finish(wrong.as_bytes()).unwrap_err(), Refusal::Credentials);
}
