//! The private half of a WireGuard key pair.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sinfonia_wire::PublicKey;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// A WireGuard private key. It cannot be printed or serialised by accident, and is wiped when dropped.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    /// A new random key from the operating system's generator.
    #[must_use]
    pub fn generate() -> Self {
        Self(StaticSecret::random())
    }

    /// The public key that belongs to this private key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Padded standard base64, for a file only its owner can read. The text is wiped when dropped.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_bytes()))
    }

    pub(crate) fn secret(&self) -> StaticSecret {
        self.0.clone()
    }
}

/// The text is not 32 bytes of base64. It is deliberately not repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard private key is 32 bytes in base64 (44 characters)")]
pub struct PrivateKeyError;

impl FromStr for PrivateKey {
    type Err = PrivateKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let decoded = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| PrivateKeyError)?);
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(decoded.as_slice().try_into().map_err(|_| PrivateKeyError)?);
        Ok(Self(StaticSecret::from(*bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_form() {
        let key = PrivateKey::generate();
        let again: PrivateKey = key.to_base64().parse().unwrap();
        assert_eq!(key.public_key(), again.public_key());
    }

    #[test]
    fn public_key_of_rfc7748_section_6_1() {
        let key: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        assert_eq!(key.public_key().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn wrong_length_and_wrong_alphabet_are_refused() {
        for text in ["", "abc", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LA==", "!"] {
            assert_eq!(text.parse::<PrivateKey>().err(), Some(PrivateKeyError), "{text}");
        }
    }
}
