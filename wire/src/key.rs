//! WireGuard public keys.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE_NO_PAD};

use crate::text::serde_as_text;

const LEN: usize = 32;
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A WireGuard public key. Reads base64 in either alphabet, padded or not, and 64 hexadecimal digits; writes padded
/// standard base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; LEN]);

/// Why a text is no public key. The text is not repeated: it might be the private key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Wrong number of characters.
    #[error(
        "a public key is 43 or 44 characters of base64, or 64 hexadecimal digits; this has {characters} characters"
    )]
    Length {
        /// How many there were.
        characters: usize,
    },
    /// Right length, but neither base64 nor hexadecimal.
    #[error("the public key is not valid {expected}")]
    Encoding {
        /// What a text of this length should have been.
        expected: &'static str,
    },
}

impl PublicKey {
    /// The 32 bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// URL-safe base64 without padding, as in request paths and Kubernetes labels.
    #[must_use]
    pub fn url_safe(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl From<[u8; LEN]> for PublicKey {
    fn from(bytes: [u8; LEN]) -> Self {
        Self(bytes)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let (key, expected) = match text.len() {
            43 | 44 => (from_base64(text), "base64 of 32 bytes"),
            64 => (from_hex(text), "hexadecimal"),
            _ => {
                return Err(PublicKeyError::Length { characters: text.chars().count() });
            }
        };
        key.map(Self).ok_or(PublicKeyError::Encoding { expected })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

serde_as_text!(PublicKey);

fn from_base64(text: &str) -> Option<[u8; LEN]> {
    let engine = if text.contains(['-', '_']) { ANY_URL_SAFE } else { ANY_STANDARD };
    engine.decode(text).ok()?.try_into().ok()
}

fn from_hex(text: &str) -> Option<[u8; LEN]> {
    let mut key = [0; LEN];
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}
