//! Tokens in the database, and the record of what administrators did.

use super::database::{Database, DatabaseError};
use super::migrate;
use super::options::Addresses;
use super::unnamed::Unnamed;
use crate::access::{Grant, Scope};
use serde_json::Value;
use sinfonia_credentials::TokenHash;
use sqlx::{PgConnection, types::Uuid};
use std::time::Duration;
use time::OffsetDateTime;
use tracing::warn;

/// A token as it is listed.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The token.
    pub grant: Grant,
    /// When it was made, if that is known.
    pub created: Option<OffsetDateTime>,
    /// When it was revoked, if it was.
    pub revoked: Option<OffsetDateTime>,
}

#[derive(Debug)]
struct Row {
    id: Uuid,
    principal: Uuid,
    hash: Vec<u8>,
    name: String,
    scopes: Vec<String>,
    cloudlet: Option<Uuid>,
    recipes: Option<Vec<Uuid>>,
    created: OffsetDateTime,
    expires: Option<OffsetDateTime>,
    revoked: Option<OffsetDateTime>,
}

/// Who did what to what.
#[derive(Clone, Debug)]
pub(crate) struct Act<'a> {
    pub actor: &'a str,
    pub action: &'static str,
    pub subject: String,
    pub detail: Option<Value>,
}

impl Row {
    /// None of one that was written by somebody who knows better.
    fn read(self) -> Option<Listed> {
        let id = self.id;
        let unusable = || warn!(token = %id, "a token in the database is not usable");
        let hash = <[u8; 32]>::try_from(self.hash).ok().map(TokenHash::from);
        // Without the scopes that are unknown here.
        let scopes = self.scopes.iter().filter_map(|name| Scope::named(name)).collect();
        let Some(hash) = hash else {
            unusable();
            return None;
        };
        let grant = Grant {
            id,
            principal: self.principal,
            name: self.name,
            hash,
            scopes,
            cloudlet: self.cloudlet.map(Into::into),
            recipes: self.recipes.map(|recipes| recipes.into_iter().map(Into::into).collect()),
            expires: self.expires,
            is_revoked: self.revoked.is_some(),
        };
        Some(Listed { grant, created: Some(self.created), revoked: self.revoked })
    }
}

/// All of them, the oldest first.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<Listed>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, coalesce(principal, id) AS "principal!", hash, name, scopes, cloudlet, recipes, created, expires,
            revoked
        FROM tokens ORDER BY created, id"#
    )
    .fetch_all(Unnamed(connection))
    .await?;
    Ok(rows.into_iter().filter_map(Row::read).collect())
}

/// Writes an administrative action down.
pub(super) async fn record(connection: &mut PgConnection, act: &Act<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO audit (actor, action, subject, detail) VALUES ($1, $2, $3, $4::text::json)",
        act.actor,
        act.action,
        act.subject,
        act.detail.as_ref().map(Value::to_string)
    )
    .execute(Unnamed(connection))
    .await?;
    Ok(())
}

async fn insert(connection: &mut PgConnection, grant: &Grant) -> Result<(), sqlx::Error> {
    let scopes: Vec<String> = grant.scopes.iter().map(ToString::to_string).collect();
    let recipes: Option<Vec<Uuid>> = grant.recipes.as_ref().map(|all| all.iter().map(|id| id.uuid()).collect());
    sqlx::query!(
        "INSERT INTO tokens (id, principal, hash, name, scopes, cloudlet, recipes, expires)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        grant.id,
        grant.principal,
        grant.hash.as_bytes().as_slice(),
        grant.name,
        &scopes,
        grant.cloudlet.map(|id| id.uuid()),
        recipes.as_deref(),
        grant.expires
    )
    .execute(Unnamed(connection))
    .await?;
    Ok(())
}

/// What the command line does with tokens.
#[derive(Debug)]
pub(crate) struct TokenStore(Database);

impl TokenStore {
    /// With the schema brought up to date.
    ///
    /// # Errors
    /// If the database cannot be used.
    pub(crate) async fn open(addresses: Addresses) -> Result<Self, DatabaseError> {
        let database = Database::new(addresses);
        migrate::migrate(&mut database.connect().await?).await?;
        Ok(Self(database))
    }

    /// # Errors
    /// If the database does not do it.
    pub(crate) async fn create(&self, grant: &Grant, act: &Act<'_>) -> Result<(), DatabaseError> {
        let work = async |c: &mut PgConnection| {
            insert(c, grant).await?;
            record(c, act).await
        };
        self.0.run(work).await
    }

    /// # Errors
    /// If the database does not tell.
    pub(crate) async fn list(&self) -> Result<Vec<Listed>, DatabaseError> {
        self.0.run(async |c: &mut PgConnection| all(c).await).await
    }

    /// Makes a token count no more; false if there is none that does.
    ///
    /// # Errors
    /// If the database does not do it.
    pub(crate) async fn revoke(&self, id: Uuid, act: &Act<'_>) -> Result<bool, DatabaseError> {
        let work = async |c: &mut PgConnection| {
            let changed =
                sqlx::query!("UPDATE tokens SET revoked = clock_timestamp() WHERE id = $1 AND revoked IS NULL", id)
                    .execute(Unnamed(&mut *c))
                    .await?;
            let is_revoked = changed.rows_affected() > 0;
            if is_revoked {
                record(c, act).await?;
            }
            Ok(is_revoked)
        };
        self.0.run(work).await
    }

    /// Puts a token in the place of another, which counts for `grace` longer at most; none if there is none that counts.
    ///
    /// # Errors
    /// If the database does not do it.
    pub(crate) async fn rotate(
        &self,
        id: Uuid,
        hash: TokenHash,
        grace: Duration,
        act: &Act<'_>,
    ) -> Result<Option<Grant>, DatabaseError> {
        let work = async |c: &mut PgConnection| {
            let row = sqlx::query_as!(
                Row,
                r#"SELECT id, coalesce(principal, id) AS "principal!", hash, name, scopes, cloudlet, recipes, created,
                    expires, revoked
                FROM tokens WHERE id = $1 AND revoked IS NULL AND coalesce(expires > clock_timestamp(), true)
                FOR UPDATE"#,
                id
            )
            .fetch_optional(Unnamed(&mut *c))
            .await?;
            let Some(Listed { grant: old, created, .. }) = row.and_then(Row::read) else { return Ok(None) };
            sqlx::query!(
                "UPDATE tokens SET expires = least(expires, clock_timestamp() + make_interval(secs => $2))
                WHERE id = $1",
                id,
                grace.as_secs_f64()
            )
            .execute(Unnamed(&mut *c))
            .await?;
            // It lives as long as the one before.
            let life = old.expires.zip(created).map(|(expires, created)| expires - created);
            let expires = life.and_then(|life| OffsetDateTime::now_utc().checked_add(life));
            let new = Grant { id: Uuid::new_v4(), hash, expires, ..old };
            insert(c, &new).await?;
            let mut act = act.clone();
            act.detail = Some(serde_json::json!({"by": new.id, "grace": grace.as_secs()}));
            record(c, &act).await?;
            Ok(Some(new))
        };
        self.0.run(work).await
    }

    /// Ends all connections.
    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}
