//! The message of OAUTHBEARER (RFC 7628): `n,[a=authzid],^Aauth=Bearer token^A[key=value^A...]^A`.
//!
//! Refuses: channel binding, a scheme other than Bearer, no token or two of them, and text behind the end.

use std::fmt;

use super::failures::Refusal;

/// The longest token. Those of providers have one or two kilobytes.
const MAX_TOKEN_BYTES: usize = 32 * 1024;

const SEPARATOR: char = '\x01';

/// A token, and as whom its bearer wants to act.
pub(crate) struct BearerLogin<'a> {
    pub(crate) authorization_id: Option<&'a str>,
    pub(crate) token: &'a str,
}

impl fmt::Debug for BearerLogin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerLogin").finish_non_exhaustive()
    }
}

/// Takes the message apart.
pub(crate) fn parse(message: &[u8]) -> Result<BearerLogin<'_>, Refusal> {
    let text = std::str::from_utf8(message).map_err(|_| Refusal::Malformed)?;
    let (header, rest) = text.split_once(SEPARATOR).ok_or(Refusal::Malformed)?;
    let authorization_id = authorization_id(header)?;
    // Every pair ends with a separator, and so does the message.
    let pairs = rest.strip_suffix(SEPARATOR).ok_or(Refusal::Malformed)?;
    let pairs = pairs.strip_suffix(SEPARATOR).ok_or(Refusal::Malformed)?;
    let mut token = None;
    for pair in pairs.split(SEPARATOR) {
        let (key, value) = pair.split_once('=').ok_or(Refusal::Malformed)?;
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err(Refusal::Malformed);
        }
        if key == "auth" && token.replace(bearer(value)?).is_some() {
            return Err(Refusal::Malformed);
        }
    }
    Ok(BearerLogin {
        authorization_id,
        token: token.ok_or(Refusal::Malformed)?,
    })
}

fn authorization_id(header: &str) -> Result<Option<&str>, Refusal> {
    if header.starts_with("p=") {
        return Err(Refusal::ChannelBinding);
    }
    let rest = header.strip_prefix("n,").or_else(|| header.strip_prefix("y,"));
    let id = rest
        .and_then(|rest| rest.strip_suffix(','))
        .ok_or(Refusal::Malformed)?;
    match id.strip_prefix("a=") {
        Some(id) if !id.is_empty() && !id.contains(',') => Ok(Some(id)),
        None if id.is_empty() => Ok(None),
        Some(_) | None => Err(Refusal::Malformed),
    }
}

fn bearer(value: &str) -> Result<&str, Refusal> {
    let (scheme, token) = value.split_once(' ').ok_or(Refusal::Malformed)?;
    let token = token.trim_start_matches(' ');
    let is_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let is_fine = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.chars().all(is_token);
    if is_fine && token.len() <= MAX_TOKEN_BYTES {
        Ok(token)
    } else {
        Err(Refusal::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_with_or_without_an_identity_and_extensions() {
        let login = parse(b"n,,\x01auth=Bearer a.b-c_d\x01\x01").unwrap();
        assert_eq!((login.authorization_id, login.token), (None, "a.b-c_d"));
        let login = parse(b"n,a=tim,\x01host=b\x01auth=bearer  a.b=\x01logicalCluster=x=y\x01\x01").unwrap();
        assert_eq!((login.authorization_id, login.token), (Some("tim"), "a.b="));
    }

    #[test]
    fn hostile_91_messages_that_are_none_are_refused() {
        for bad in [
            "",
            "\x01",
            "n,,",
            "n,,\x01",
            "n,,\x01\x01",
            "n,\x01auth=Bearer a\x01\x01",
            "x,,\x01auth=Bearer a\x01\x01",
            "n,a=,\x01auth=Bearer a\x01\x01",
            "n,a=x,y,\x01auth=Bearer a\x01\x01",
            "n,,\x01auth=Bearer a\x01",
            "n,,\x01auth=Bearer a\x01\x01x",
            "n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
            "n,,\x01auth=Basic a\x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Bearer a b\x01\x01",
            "n,,\x01auth=Bearer a\n\x01\x01",
            "n,,\x01=x\x01auth=Bearer a\x01\x01",
            "n,,\x01host=b\x01\x01",
        ] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err(), Refusal::Malformed, "{bad:?}");
        }
        let bound = parse(b"p=tls-exporter,,\x01auth=Bearer a\x01\x01").unwrap_err();
        assert_eq!(bound, Refusal::ChannelBinding);
        let huge = format!("n,,\x01auth=Bearer {}\x01\x01", "a".repeat(MAX_TOKEN_BYTES + 1));
        assert_eq!(parse(huge.as_bytes()).unwrap_err(), Refusal::Malformed);
    }
}
