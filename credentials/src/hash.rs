use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

const ALGORITHM: &str = "sha256:";

/// The SHA-256 of a token, by which it is recognised. That is enough for what nobody can guess, and cannot be undone.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

/// A text is no hash. It is not repeated: it may be a token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected sha256: and 64 hex digits, the hash of a token and not the token itself")]
pub struct HashError;

impl TokenHash {
    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The hash's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A number by which a few hashes among many are found; equal ones have the same.
    #[must_use]
    pub const fn short(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Takes the same time wherever they differ.
impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl From<[u8; 32]> for TokenHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

impl FromStr for TokenHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(HashError)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HashError);
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * index..2 * index + 2).ok_or(HashError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| HashError)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_and_read() {
        // FIPS 180-2, example of "abc".
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = TokenHash::of("abc");
        assert_eq!(hash.to_string(), text);
        assert_eq!((text.parse(), hash.short()), (Ok(hash), 0xba78_16bf_8f01_cfea));
        assert_ne!(hash, TokenHash::of("abd"));
    }

    #[test]
    fn anything_else_is_refused_and_not_repeated() {
        for text in ["sinfonia_hush", "sha256:hush", "sha256:", &format!("sha256:{}", "é".repeat(32))] {
            assert_eq!(text.parse::<TokenHash>(), Err(HashError));
        }
        assert!(!HashError.to_string().contains("hush"));
    }
}
