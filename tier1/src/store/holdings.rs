//! Who holds which deployment, remembered beyond this process. Deploy requests do not wait for it.

use super::{
    database::{Database, DatabaseError},
    unnamed::Unnamed,
};
use crate::domain::{
    Holders,
    holders::{Deployment, Holding, Outcome},
};
use serde::{Deserialize, Serialize};
use sinfonia_wire::{CloudletId, PublicKey};
use sqlx::{PgConnection, types::Uuid};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};
use tracing::warn;

/// Deployments in one transaction.
const GROUP: usize = 1_000;
/// Deployments that may wait for the database; beyond that the memory of this process has to do.
const MOST: usize = 250_000;
const RETRY: Duration = Duration::from_secs(1);

/// What this process knows, and what of it the database does not know yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Holders,
    unsaved: Option<Unsaved>,
}

#[derive(Debug, Default)]
struct Unsaved {
    holdings: Mutex<HashMap<Deployment, Holding>>,
    some: Notify,
}

/// A holding in the database; none if nobody holds it.
#[derive(Debug)]
pub(super) struct Row {
    application: Uuid,
    key: Vec<u8>,
    holding: String,
    owner: Option<Uuid>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Stored {
    chosen: Vec<CloudletId>,
    doubtful: Vec<CloudletId>,
}

impl Holdings {
    /// To be saved by [`Holdings::save`].
    pub(crate) fn durable() -> Self {
        Self(Arc::new(Shared { known: Holders::default(), unsaved: Some(Unsaved::default()) }))
    }

    /// What is known about a deployment.
    pub(crate) fn get(&self, deployment: &Deployment) -> Holding {
        self.0.known.get(deployment)
    }

    /// See [`Holders::claim`].
    pub(crate) fn claim(
        &self,
        deployment: Deployment,
        cloudlets: Vec<CloudletId>,
        suits: impl Fn(CloudletId) -> bool,
    ) -> Vec<CloudletId> {
        self.0.known.claim(deployment, cloudlets, suits)
    }

    /// See [`Holders::own`].
    pub(crate) fn own(&self, deployment: Deployment, principal: Uuid) -> bool {
        self.0.known.own(deployment, principal)
    }

    /// Nothing comes of a deployment that was to be made.
    pub(crate) fn abandon(&self, deployment: Deployment) {
        self.0.known.settle(deployment, &Outcome::default());
    }

    /// Takes note of what came of asking.
    pub(crate) fn settle(&self, deployment: Deployment, outcome: &Outcome) {
        self.0.known.settle(deployment, outcome);
        if let Some(unsaved) = &self.0.unsaved {
            let mut holdings = unsaved.lock();
            if holdings.len() < MOST || holdings.contains_key(&deployment) {
                holdings.insert(deployment, self.0.known.get(&deployment));
                unsaved.some.notify_one();
            }
        }
    }

    /// Saves what is settled until that `ends`, and then what is left.
    pub(super) async fn save(self, database: Database, replica: Uuid, mut ends: oneshot::Receiver<()>) {
        let Some(unsaved) = &self.0.unsaved else { return };
        let (mut failing, mut is_ending) = (false, false);
        loop {
            let group = unsaved.take();
            if group.is_empty() {
                if is_ending {
                    return;
                }
                tokio::select! {
                    () = unsaved.some.notified() => (),
                    _ = &mut ends => is_ending = true,
                }
                continue;
            }
            let rows = &group;
            match database.run(async |c: &mut PgConnection| write(c, rows, replica).await).await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "who holds which deployment is not saved; it will be when the database allows");
                    }
                    unsaved.give_back(group);
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes over what is in the database, except what is newer here.
    pub(super) fn load(&self, rows: Vec<Row>) {
        for (deployment, holding) in rows.into_iter().filter_map(Row::read) {
            self.put(deployment, holding);
        }
    }

    /// Takes over what has changed in the database: these keys, with the rows that are left of them.
    pub(super) fn follow(&self, changed: &[Vec<u8>], rows: Vec<Row>) {
        let mut present: HashMap<_, _> = rows.into_iter().filter_map(Row::read).collect();
        for deployment in changed.iter().filter_map(|key| deployment(key)) {
            self.put(deployment, present.remove(&deployment).unwrap_or_default());
        }
    }

    fn put(&self, deployment: Deployment, holding: Holding) {
        if self.0.unsaved.as_ref().is_none_or(|unsaved| !unsaved.lock().contains_key(&deployment)) {
            self.0.known.put(deployment, holding);
        }
    }
}

impl Unsaved {
    fn take(&self) -> Vec<(Deployment, Holding)> {
        let mut holdings = self.lock();
        let first: Vec<_> = holdings.keys().take(GROUP).copied().collect();
        first.into_iter().filter_map(|deployment| holdings.remove_entry(&deployment)).collect()
    }

    fn give_back(&self, group: Vec<(Deployment, Holding)>) {
        let mut holdings = self.lock();
        for (deployment, holding) in group {
            holdings.entry(deployment).or_insert(holding);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Deployment, Holding>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn read(self) -> Option<(Deployment, Holding)> {
        let key: [u8; 32] = self.key.try_into().ok()?;
        let Stored { chosen, doubtful } = serde_json::from_str(&self.holding).ok()?;
        Some(((self.application.into(), PublicKey::from(key)), Holding { chosen, doubtful, owner: self.owner }))
    }
}

/// The deployment in an entry of the changes.
fn deployment(bytes: &[u8]) -> Option<Deployment> {
    let (application, key) = bytes.split_at_checked(16)?;
    let key: [u8; 32] = key.try_into().ok()?;
    Some((Uuid::from_slice(application).ok()?.into(), PublicKey::from(key)))
}

async fn write(
    connection: &mut PgConnection,
    group: &[(Deployment, Holding)],
    replica: Uuid,
) -> Result<(), sqlx::Error> {
    let mut group: Vec<_> = group.iter().map(|((application, key), h)| (application.uuid(), key, h)).collect();
    // The order in which all replicas lock rows.
    group.sort_by_key(|(application, key, _)| (*application, key.as_bytes()));
    let applications: Vec<Uuid> = group.iter().map(|(application, ..)| *application).collect();
    let keys: Vec<Vec<u8>> = group.iter().map(|(_, key, _)| key.as_bytes().to_vec()).collect();
    let owners: Vec<Option<Uuid>> = group.iter().map(|(.., holding)| holding.owner).collect();
    let holdings: Vec<Option<String>> = group.iter().map(|(.., holding)| text(holding)).collect();
    sqlx::query!(
        "WITH given AS MATERIALIZED (
            SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[], $5::uuid[])
                AS given (application, key, holding, owner)
        ), kept AS (
            INSERT INTO holders (application, key, holding, used, owner)
            SELECT application, key, holding::json, clock_timestamp(), owner FROM given
            WHERE holding IS NOT NULL ORDER BY application, key
            ON CONFLICT (application, key) DO UPDATE SET holding = excluded.holding, used = excluded.used,
                owner = coalesce(excluded.owner, holders.owner)
        ), gone AS (
            DELETE FROM holders USING given WHERE given.holding IS NULL
                AND holders.application = given.application AND holders.key = given.key
        )
        INSERT INTO changes (writer, held) SELECT $4, array_agg(uuid_send(application) || key) FROM given",
        &applications,
        &keys,
        &holdings as &[Option<String>],
        replica,
        &owners as &[Option<Uuid>]
    )
    .execute(Unnamed(connection))
    .await?;
    Ok(())
}

fn text(holding: &Holding) -> Option<String> {
    if holding.is_empty() {
        return None;
    }
    let Holding { chosen, doubtful, .. } = holding.clone();
    serde_json::to_string(&Stored { chosen, doubtful }).ok()
}

/// The rows of these keys, as they are in the changes.
pub(super) async fn some(connection: &mut PgConnection, keys: &[Vec<u8>]) -> Result<Vec<Row>, sqlx::Error> {
    let (applications, keys): (Vec<Uuid>, Vec<Vec<u8>>) = keys
        .iter()
        .filter_map(|bytes| deployment(bytes))
        .map(|(application, key)| (application.uuid(), key.as_bytes().to_vec()))
        .unzip();
    sqlx::query_as!(
        Row,
        r#"SELECT application, key, holding::text AS "holding!", owner FROM holders
        JOIN unnest($1::uuid[], $2::bytea[]) AS given (application, key) USING (application, key)"#,
        &applications,
        &keys
    )
    .fetch_all(Unnamed(connection))
    .await
}

/// As many as fit into memory, those used last.
pub(super) async fn all(connection: &mut PgConnection) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT application, key, holding::text AS "holding!", owner FROM (
            SELECT * FROM holders WHERE used > clock_timestamp() - interval '1 day' ORDER BY used DESC LIMIT $1
        ) AS latest ORDER BY used"#,
        MOST as i64
    )
    .fetch_all(Unnamed(connection))
    .await
}

/// Forgets those that nobody has asked for in a day, and returns whether there may be more of them.
pub(super) async fn prune(database: &Database) -> Result<bool, DatabaseError> {
    let gone = database
        .run(async |c: &mut PgConnection| {
            sqlx::query!(
                "DELETE FROM holders WHERE (application, key) IN (
                    SELECT application, key FROM holders WHERE used < clock_timestamp() - interval '1 day'
                    ORDER BY application, key LIMIT 10000 FOR UPDATE SKIP LOCKED
                )"
            )
            .execute(Unnamed(c))
            .await
        })
        .await?;
    Ok(gone.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinfonia_wire::ApplicationId;

    fn deployment_of(byte: u8) -> Deployment {
        (ApplicationId::HELLOWORLD, PublicKey::from([byte; 32]))
    }

    fn row(deployment: Deployment, holding: &Holding) -> Row {
        let (application, key) = deployment;
        Row {
            application: application.uuid(),
            key: key.as_bytes().to_vec(),
            holding: text(holding).unwrap(),
            owner: holding.owner,
        }
    }

    fn bytes((application, key): Deployment) -> Vec<u8> {
        [application.uuid().as_bytes().as_slice(), key.as_bytes()].concat()
    }

    #[test]
    fn what_is_newer_here_is_kept() {
        let (holdings, [ours, theirs]) = (Holdings::durable(), [(); 2].map(|()| CloudletId::random()));
        let holding = |id| Holding { chosen: vec![id], doubtful: vec![], owner: Some(id.uuid()) };
        holdings.settle(deployment_of(1), &Outcome { holding: vec![ours], ..Outcome::default() });
        holdings.load(vec![row(deployment_of(1), &holding(theirs)), row(deployment_of(2), &holding(theirs))]);
        let own = Holding { owner: None, ..holding(ours) };
        assert_eq!(holdings.get(&deployment_of(1)), own);
        assert_eq!(holdings.get(&deployment_of(2)), holding(theirs));

        let unsaved = holdings.0.unsaved.as_ref().unwrap();
        let group = unsaved.take();
        assert_eq!(group, [(deployment_of(1), own)]);
        let changed = [bytes(deployment_of(1)), bytes(deployment_of(2))];
        holdings.follow(&changed, vec![row(deployment_of(1), &holding(theirs))]);
        assert_eq!(holdings.get(&deployment_of(1)), holding(theirs));
        assert_eq!(holdings.get(&deployment_of(2)), Holding::default(), "its row is gone");
    }

    #[test]
    fn what_was_not_saved_waits_again() {
        let (holdings, [a, b]) = (Holdings::durable(), [(); 2].map(|()| CloudletId::random()));
        let settle = |byte, id| {
            holdings.settle(deployment_of(byte), &Outcome { holding: vec![id], ..Outcome::default() });
        };
        settle(1, a);
        settle(2, a);
        let unsaved = holdings.0.unsaved.as_ref().unwrap();
        let group = unsaved.take();
        assert_eq!(group.len(), 2);
        settle(1, b);
        unsaved.give_back(group);
        let again: HashMap<_, _> = unsaved.take().into_iter().collect();
        assert_eq!(again[&deployment_of(1)].chosen, [b, a], "the newer one");
        assert_eq!(again[&deployment_of(2)].chosen, [a]);
    }
}
