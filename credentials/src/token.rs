use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt, str::FromStr};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// What tokens made here begin with, so that people and scanners recognise one that lies about.
const PREFIX: &str = "sinfonia_";
/// Of chance in a token, bytes.
const ENTROPY: usize = 32;
/// The longest token, bytes: that of others may hold claims.
const LONGEST: usize = 4096;

/// A token, which is never shown but by [`BearerToken::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Zeroizing<String>);

/// A text is no token. It is not repeated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Nothing.
    #[error("it is empty")]
    Empty,
    /// Too much.
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    /// No header can hold it.
    #[error("a token is one word of letters, digits and -._~+/=")]
    NotOneWord,
}

impl BearerToken {
    /// A new token that nobody can guess.
    #[must_use]
    pub fn random() -> Self {
        let mut chance: [u8; ENTROPY] = rand::random();
        let token = [PREFIX, &URL_SAFE_NO_PAD.encode(chance)].concat();
        chance.zeroize();
        Self(token.into())
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The value of an `Authorization` header.
    #[must_use]
    pub fn authorization(&self) -> Zeroizing<String> {
        Zeroizing::new(["Bearer ", &self.0].concat())
    }
}

impl FromStr for BearerToken {
    type Err = TokenError;

    /// White space around it does not count.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        match text.len() {
            0 => Err(TokenError::Empty),
            length if length > LONGEST => Err(TokenError::TooLong),
            _ if !text.bytes().all(is_part) => Err(TokenError::NotOneWord),
            _ => Ok(Self(text.to_owned().into())),
        }
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// The token in the value of an `Authorization` header, if it holds one.
#[must_use]
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_recognisable_different_and_not_shown() {
        let [one, other] = [(); 2].map(|()| BearerToken::random());
        assert!(one.expose().starts_with("sinfonia_") && one.expose().len() == PREFIX.len() + 43);
        assert_ne!(one, other);
        assert_eq!(one.expose().parse(), Ok(one.clone()));
        assert_eq!(format!("{one:?}"), "BearerToken");
        assert_eq!(bearer(&one.authorization()), Some(one.expose()));
    }

    #[test]
    fn what_no_header_can_hold_is_no_token() {
        let parse = |text: &str| text.parse::<BearerToken>();
        assert_eq!(parse(" \n"), Err(TokenError::Empty));
        assert_eq!(parse("two words"), Err(TokenError::NotOneWord));
        assert_eq!(parse("a\r\nX-Other: b"), Err(TokenError::NotOneWord));
        assert_eq!(parse(&"x".repeat(LONGEST + 1)), Err(TokenError::TooLong));
        assert_eq!(parse(" eyJh.b-_~+/== \n").unwrap().expose(), "eyJh.b-_~+/==");
    }

    #[test]
    fn only_the_bearer_scheme_holds_a_token() {
        assert_eq!(bearer("bearer  a "), Some("a"));
        for other in ["", "Bearer", "Bearer ", "Basic a", "a", "Bearera"] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
