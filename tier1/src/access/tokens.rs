use super::Grant;
use arc_swap::ArcSwap;
use sinfonia_credentials::TokenHash;
use std::{collections::HashMap, sync::Arc};
use time::OffsetDateTime;

/// All tokens that are known, in memory.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    file: ArcSwap<Set>,
    database: ArcSwap<Set>,
}

/// Tokens by a part of their hash: the rest is compared in constant time.
#[derive(Debug, Default)]
struct Set(HashMap<u64, Vec<Arc<Grant>>>);

impl Tokens {
    /// What a token that was presented is good for, if it is valid.
    pub(crate) fn find(&self, token: &str, now: OffsetDateTime) -> Option<Arc<Grant>> {
        let hash = TokenHash::of(token);
        [&self.file, &self.database].into_iter().find_map(|set| set.load().find(&hash, now))
    }

    /// Whether there are none, and never were any that are still remembered.
    pub(crate) fn are_none(&self) -> bool {
        [&self.file, &self.database].iter().all(|set| set.load().0.is_empty())
    }

    /// Makes these the ones of the file.
    pub(crate) fn replace_file(&self, grants: Vec<Grant>) {
        self.file.store(Arc::new(grants.into_iter().collect()));
    }

    /// Makes these the ones of the database.
    pub(crate) fn replace_database(&self, grants: Vec<Grant>) {
        self.database.store(Arc::new(grants.into_iter().collect()));
    }
}

impl Set {
    fn find(&self, hash: &TokenHash, now: OffsetDateTime) -> Option<Arc<Grant>> {
        let similar = self.0.get(&hash.short())?;
        similar.iter().find(|grant| grant.hash == *hash && grant.is_valid(now)).cloned()
    }
}

impl FromIterator<Grant> for Set {
    fn from_iter<T: IntoIterator<Item = Grant>>(grants: T) -> Self {
        let mut by_hash: HashMap<u64, Vec<_>> = HashMap::new();
        for grant in grants {
            by_hash.entry(grant.hash.short()).or_default().push(Arc::new(grant));
        }
        Self(by_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Scope, grant::tests::grant};

    #[test]
    fn tokens_of_both_places_are_found_while_they_are_valid() {
        let (tokens, now) = (Tokens::default(), OffsetDateTime::now_utc());
        assert!(tokens.are_none());
        tokens.replace_file(vec![grant("one", &[Scope::Report])]);
        let revoked = Grant { is_revoked: true, ..grant("three", &[Scope::Admin]) };
        tokens.replace_database(vec![grant("two", &[Scope::Deploy]), revoked]);
        let scopes = |token| tokens.find(token, now).map(|grant| grant.scopes.clone());
        assert_eq!(scopes("one"), Some(vec![Scope::Report]));
        assert_eq!(scopes("two"), Some(vec![Scope::Deploy]));
        assert_eq!([scopes("three"), scopes("four"), scopes("")], [None, None, None]);
        tokens.replace_file(vec![]);
        assert_eq!(scopes("one"), None);
        assert!(!tokens.are_none());
    }
}
