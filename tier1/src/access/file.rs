//! Tokens in a file, such as a mounted secret: a YAML (or JSON) list of what each is good for, with its hash.

use super::{Grant, Scope, Tokens};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sinfonia_credentials::{TokenHash, stamp};
use sinfonia_wire::{ApplicationId, CloudletId};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Whose hash is an identity is ours.
const NAMESPACE: Uuid = Uuid::from_bytes(*b"sinfonia-tokens\0");

/// A file of tokens cannot be used.
#[derive(Debug, Error)]
pub enum TokensFileError {
    /// It is not there, may not be read, or may not be written.
    #[error("tokens file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no list of tokens.
    #[error("tokens file {}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Field, place, and what was wrong.
        reason: String,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Also tells whose the token is: two of the same name may replace each other.
    name: String,
    #[serde(with = "as_text")]
    hash: TokenHash,
    scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cloudlet: Option<CloudletId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipes: Option<Vec<ApplicationId>>,
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    expires: Option<OffsetDateTime>,
}

mod as_text {
    use super::*;

    pub(super) fn serialize<S: Serializer>(hash: &TokenHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(text: D) -> Result<TokenHash, D::Error> {
        String::deserialize(text)?.parse().map_err(D::Error::custom)
    }
}

impl From<Entry> for Grant {
    fn from(entry: Entry) -> Self {
        let Entry { name, hash, scopes, cloudlet, recipes, expires } = entry;
        let unnamed = Uuid::nil();
        let grant =
            Self { id: unnamed, principal: unnamed, name, hash, scopes, cloudlet, recipes, expires, is_revoked: false };
        identified(grant)
    }
}

/// A token with the identities that it has in a file, which holds none.
pub(crate) fn identified(grant: Grant) -> Grant {
    let principal = Uuid::new_v5(&NAMESPACE, grant.name.as_bytes());
    let id = Uuid::new_v5(&principal, grant.hash.as_bytes());
    Grant { id, principal, ..grant }
}

/// The tokens in a file.
///
/// # Errors
/// Names the file and what is wrong with it; tokens are not repeated.
pub(crate) fn read(path: &Path) -> Result<Vec<Grant>, TokensFileError> {
    let text = fs::read_to_string(path).map_err(|source| TokensFileError::File { path: path.to_owned(), source })?;
    parse(&text).map_err(|reason| TokensFileError::Invalid { path: path.to_owned(), reason })
}

/// Whether this text would be a good content of a file.
///
/// # Errors
/// As [`read`].
pub(crate) fn check(path: &Path, text: &str) -> Result<(), TokensFileError> {
    parse(text).map(drop).map_err(|reason| TokensFileError::Invalid { path: path.to_owned(), reason })
}

fn parse(text: &str) -> Result<Vec<Grant>, String> {
    let entries: Option<Vec<Entry>> =
        serde_saphyr::from_str(text).map_err(|error| error.without_snippet().to_string())?;
    let entries = entries.unwrap_or_default();
    match entries.iter().find(|entry| entry.scopes.is_empty()) {
        Some(entry) => Err(format!("token {:?}: scopes is empty; choose from report, deploy, admin", entry.name)),
        None => Ok(entries.into_iter().map(Grant::from).collect()),
    }
}

/// The entry of a token, to be added to a file.
///
/// # Errors
/// If it cannot be written as YAML.
pub(crate) fn entry(grant: &Grant) -> Result<String, serde_saphyr::ser::Error> {
    let Grant { name, hash, scopes, cloudlet, recipes, expires, .. } = grant.clone();
    serde_saphyr::to_string(&[Entry { name, hash, scopes, cloudlet, recipes, expires }])
}

/// Reads the file again whenever it has changed, for good. While it is of no use the former tokens stay.
pub(crate) async fn follow(path: PathBuf, tokens: Arc<Tokens>) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Before the first look, in case that it has changed since it was read.
    let mut seen = None;
    loop {
        ticks.tick().await;
        let stamp = stamp(&path);
        if seen == Some(stamp) {
            continue;
        }
        let is_first = seen.replace(stamp).is_none();
        match read(&path) {
            Ok(grants) => {
                if !is_first {
                    info!(tokens = grants.len(), "the tokens file has changed and is read again");
                }
                tokens.replace_file(grants);
            }
            Err(error) => warn!(%error, "the tokens file has changed and is of no use: the former tokens stay"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::grant::tests::grant;

    #[test]
    fn what_is_written_is_read() {
        let token = Grant {
            name: "laptop: \"north\"".to_owned(),
            cloudlet: Some(CloudletId::random()),
            recipes: Some(vec![ApplicationId::HELLOWORLD]),
            expires: Some(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()),
            ..grant("hush", &[Scope::Report, Scope::Deploy])
        };
        let text = [entry(&token).unwrap(), entry(&grant("other", &[Scope::Admin])).unwrap()].concat();
        let read = parse(&text).unwrap();
        let [first, second] = &read[..] else { panic!("{text}") };
        assert_eq!((&first.name, first.hash, &first.scopes), (&token.name, token.hash, &token.scopes));
        assert_eq!((first.cloudlet, &first.recipes), (token.cloudlet, &token.recipes));
        assert_eq!((first.expires, second.expires), (token.expires, None));
        assert!(!text.contains("hush"), "{text}");
        assert_eq!(parse("").unwrap().len() + parse("[]").unwrap().len(), 0);
    }

    #[test]
    fn a_new_token_of_the_same_name_is_the_same_principals() {
        let [old, new] = ["old", "new"].map(|token| {
            let text = entry(&grant(token, &[Scope::Deploy])).unwrap();
            parse(&text).unwrap().remove(0)
        });
        assert!(old.principal == new.principal && old.id != new.id);
    }

    #[test]
    fn mistakes_are_named_and_tokens_not_repeated() {
        let hash = TokenHash::of("x");
        for (text, reason) in [
            ("- name: a\n  hash: sinfonia_hush\n  scopes: [admin]\n".to_owned(), "hash of a token"),
            (format!("- name: a\n  hash: {hash}\n  scopes: [root]\n"), "report"),
            (format!("- name: a\n  hash: {hash}\n  scopes: []\n"), "scopes is empty"),
            (format!("- name: a\n  hash: {hash}\n  scopes: [admin]\n  cloudlets: x\n"), "cloudlets"),
            (format!("- hash: {hash}\n  scopes: [admin]\n"), "name"),
            ("sinfonia_hush".to_owned(), ""),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(reason) && !error.contains("hush"), "{text}: {error}");
        }
    }
}
