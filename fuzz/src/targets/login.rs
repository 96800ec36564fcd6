//! What strangers send to log in.

use highwater_broker::testing;

/// The public key of RFC 8037's example.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// The first byte says what the rest is.
pub(super) fn messages(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match kind {
        0 => {
            if let Some((user, password)) = testing::plain(rest) {
                assert!(!user.is_empty() && !password.is_empty());
                let said = format!("{user}\0{password}");
                assert!(rest.ends_with(said.as_bytes()), "what was read was said");
            }
        }
        1 => {
            if let Some(token) = testing::bearer(rest) {
                assert!(token.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
        2 => {
            let mut messages = rest.splitn(2, |byte| *byte == b'\n');
            let (first, last) = (messages.next(), messages.next());
            let is_in = testing::scram(first.unwrap_or_default(), "def", last.unwrap_or_default());
            assert!(!is_in, "nobody guesses a proof");
        }
        3 => {
            let token = String::from_utf8_lossy(rest);
            let user = testing::token(KEYS.as_bytes(), &token, 1_000);
            assert!(user.is_none(), "nobody guesses a signature");
        }
        4 => {
            let user = testing::token(
                rest,
                "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ0aW0iLCJleHAiOjJ9.AAAA",
                1_000,
            );
            assert!(user.is_none(), "nobody guesses a signature");
        }
        _ => {
            if let Some(name) = testing::subject(rest) {
                assert!(name.contains('=') && !name.contains(char::is_control), "{name:?}");
            }
        }
    }
}
