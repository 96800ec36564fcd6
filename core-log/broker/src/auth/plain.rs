//! The message of PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`.
//!
//! Refuses: any other number of NULs, an empty user or password, text that is no UTF-8, and an authorization id that is
//! not the user's own name (CVE-2017-12610).

use std::fmt;

use super::failures::Refusal;

/// Who claims to be whom.
pub(crate) struct PlainLogin<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
}

impl fmt::Debug for PlainLogin<'_> {
    /// People type passwords into the field of the user, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainLogin").finish_non_exhaustive()
    }
}

/// Takes the message apart.
pub(crate) fn parse(token: &[u8]) -> Result<PlainLogin<'_>, Refusal> {
    let text = std::str::from_utf8(token).map_err(|_| Refusal::Malformed)?;
    let mut parts = text.split('\0');
    let (Some(authorization_id), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(Refusal::Malformed);
    }
    if !authorization_id.is_empty() && authorization_id != user {
        return Err(Refusal::OtherIdentity);
    }
    Ok(PlainLogin { user, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_password_may_hold_anything_but_nul() {
        let login = parse("\0tim:ü\0a=b,c d".as_bytes()).unwrap();
        assert_eq!((login.user, login.password), ("tim:ü", "a=b,c d"));
        assert_eq!(parse(b"tim\0tim\0secret").unwrap().user, "tim");
        assert!(!format!("{:?}", parse(b"\0tim\0secret").unwrap()).contains("tim"));
    }

    #[test]
    fn hostile_90_extra_nuls_missing_parts_and_other_identities_are_refused() {
        for bad in [
            &b""[..],
            b"\0",
            b"\0\0",
            b"tim\0secret",
            b"\0tim\0",
            b"\0\0secret",
            b"\0tim\0secret\0",
            b"\0tim\0sec\0ret",
            b"\0\0tim\0secret",
            b"\0tim\0\xff\xfe",
        ] {
            assert_eq!(parse(bad).unwrap_err(), Refusal::Malformed, "{bad:?}");
        }
        for foreign in [
            &b"root\0tim\0secret"[..],
            b"TIM\0tim\0secret",
            b"tim \0tim\0secret",
        ] {
            assert_eq!(parse(foreign).unwrap_err(), Refusal::OtherIdentity);
        }
    }
}
