//! Reports, committed in groups: while one transaction is on its way, those that arrive gather for the next.

use super::{
    Registry,
    courier::{Courier, Letter},
    database::{Database, DatabaseError, SHORT, transaction},
    follower::Reader,
    row::{Clock, Declared},
    unnamed::Unnamed,
};
use sinfonia_wire::{CloudletId, Resources};
use sqlx::{PgConnection, Postgres, pool::PoolConnection, types::Uuid};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// Reports in one transaction, and those that may wait for theirs.
const GROUP: usize = 1_000;
pub(super) const QUEUE: usize = 16_384;

/// A report on its way into the database.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) id: CloudletId,
    pub(super) resources: Resources,
    /// As JSON.
    pub(super) load: String,
    /// What changed beside the load.
    pub(super) declared: Option<Declared>,
    /// Told what became of it; dropped if nothing did.
    pub(super) done: oneshot::Sender<Verdict>,
    /// Who brings the answer there.
    pub(super) courier: Courier,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is committed, and known here.
    Committed,
    /// There is no such cloudlet any more: it has to be registered.
    Unknown,
}

/// Commits reports, one group after the other.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) registry: Arc<Registry>,
    pub(super) reader: Reader,
    /// This replica.
    pub(super) replica: Uuid,
    /// Least time between entries of the history.
    pub(super) step: Duration,
    pub(super) connection: Option<PoolConnection<Postgres>>,
    pub(super) failing: bool,
}

/// A cloudlet's latest report of a group, and everybody who waits for it.
struct Latest {
    resources: Resources,
    load: String,
    declared: Option<Declared>,
    waiting: Vec<(oneshot::Sender<Verdict>, Courier)>,
}

type Group = BTreeMap<CloudletId, Latest>;

impl Writer {
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut gathered = Vec::new();
        while reports.recv_many(&mut gathered, GROUP).await > 0 {
            let group = latest(gathered.drain(..));
            match self.commit(&group).await {
                Ok(heard) => {
                    self.well();
                    self.settle(group, &heard);
                }
                // Whoever waits learns it from the end of their channel.
                Err(error) => self.ill(&error),
            }
        }
    }

    /// Tries once more where that can help: a report is the same however often it is written.
    async fn commit(&mut self, group: &Group) -> Result<Vec<(Uuid, OffsetDateTime)>, DatabaseError> {
        let mut result = self.attempt(group).await;
        for _ in 0..2 {
            match &result {
                Err(error) if error.is_momentary() => result = self.attempt(group).await,
                Err(error) if error.is_missing_partition() => {
                    self.database.run(super::history::make_partitions).await?;
                    result = self.attempt(group).await;
                }
                _ => break,
            }
        }
        result
    }

    async fn attempt(&mut self, group: &Group) -> Result<Vec<(Uuid, OffsetDateTime)>, DatabaseError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.acquire().await?,
        };
        let (replica, step) = (self.replica, self.step);
        let result = transaction(&mut connection, SHORT, async |transaction: &mut PgConnection| {
            declare(transaction, group).await?;
            renew(transaction, group, replica, step).await
        })
        .await;
        match &result {
            Ok(_) => self.connection = Some(connection),
            // Whatever it may still do, nobody waits for it.
            Err(_) => drop(connection.detach()),
        }
        result
    }

    /// Memory follows the database, then those who wait are told.
    fn settle(&self, group: Group, heard: &[(Uuid, OffsetDateTime)]) {
        let heard: HashMap<CloudletId, OffsetDateTime> =
            heard.iter().map(|(id, heard)| ((*id).into(), *heard)).collect();
        let clock = Clock::now(heard.values().max().copied().unwrap_or(OffsetDateTime::UNIX_EPOCH));
        let (mut reports, mut told, mut joined) = (Vec::new(), Mail::default(), Mail::default());
        for (id, latest) in group {
            match heard.get(&id) {
                None => told.add(latest.waiting, Verdict::Unknown),
                Some(heard) => {
                    reports.push((id, latest.resources, clock.moment(*heard)));
                    let mail = if latest.declared.is_some() { &mut joined } else { &mut told };
                    mail.add(latest.waiting, Verdict::Committed);
                }
            }
        }
        self.registry.renew(reports);
        told.send();
        if !joined.0.is_empty() {
            let reader = self.reader.clone();
            actix_web::rt::spawn(async move {
                reader.read().await;
                joined.send();
            });
        }
    }

    fn well(&mut self) {
        if std::mem::take(&mut self.failing) {
            info!("the database takes reports again");
        }
    }

    fn ill(&mut self, error: &DatabaseError) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%error, "the database does not take reports; matching goes on from memory");
        }
    }
}

/// Answers, by the threads where they are waited for.
#[derive(Default)]
struct Mail(Vec<(Courier, Vec<Letter>)>);

impl Mail {
    fn add(&mut self, waiting: Vec<(oneshot::Sender<Verdict>, Courier)>, verdict: Verdict) {
        for (done, courier) in waiting {
            match self.0.iter_mut().find(|(known, _)| known.is(&courier)) {
                Some((_, letters)) => letters.push((done, verdict)),
                None => self.0.push((courier, vec![(done, verdict)])),
            }
        }
    }

    fn send(self) {
        for (courier, letters) in self.0 {
            courier.send(letters);
        }
    }
}

/// By cloudlet, in the order in which all replicas lock rows. Of several reports the last one counts, and it declares
/// what any of them declares.
fn latest(reports: impl Iterator<Item = Report>) -> Group {
    let mut group = Group::new();
    for Report { id, resources, load, declared, done, courier } in reports {
        let known = group.entry(id).or_insert_with(|| Latest {
            resources: Resources::new(),
            load: String::new(),
            declared: None,
            waiting: Vec::new(),
        });
        known.resources = resources;
        known.load = load;
        known.declared = declared.or_else(|| known.declared.take());
        known.waiting.push((done, courier));
    }
    group
}

async fn declare(connection: &mut PgConnection, group: &Group) -> Result<(), sqlx::Error> {
    let declared: Vec<_> =
        group.iter().filter_map(|(id, latest)| Some((id.uuid(), latest.declared.clone()?))).collect();
    if declared.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = declared.iter().map(|(id, _)| *id).collect();
    let column = |part: fn(&Declared) -> &String| declared.iter().map(|(_, d)| part(d).clone()).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO cloudlets (id, info, addresses, places)
         SELECT id, info::json, addresses::json, places::json
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS given (id, info, addresses, places)
         ORDER BY id
         ON CONFLICT (id) DO UPDATE
         SET info = excluded.info, addresses = excluded.addresses, places = excluded.places",
        &ids,
        &column(|d| &d.info),
        &column(|d| &d.addresses),
        &column(|d| &d.places)
    )
    .execute(Unnamed(connection))
    .await?;
    Ok(())
}

/// Writes the load and returns when each cloudlet was heard; those that are gone are missing.
async fn renew(
    connection: &mut PgConnection,
    group: &Group,
    replica: Uuid,
    step: Duration,
) -> Result<Vec<(Uuid, OffsetDateTime)>, sqlx::Error> {
    let ids: Vec<Uuid> = group.keys().map(CloudletId::uuid).collect();
    let loads: Vec<&str> = group.values().map(|latest| latest.load.as_str()).collect();
    let row = sqlx::query!(
        r#"WITH pulse AS (
            INSERT INTO pulses AS known (id, resources, heard, sampled)
            SELECT given.id, given.load::json, now, now
            FROM unnest($1::uuid[], $2::text[]) AS given (id, load), clock_timestamp() AS now
            WHERE EXISTS (SELECT FROM cloudlets WHERE cloudlets.id = given.id)
            ORDER BY given.id
            ON CONFLICT (id) DO UPDATE SET
                resources = excluded.resources,
                heard = greatest(excluded.heard, known.heard + interval '1 microsecond'),
                sampled = CASE WHEN excluded.heard >= known.sampled + make_interval(secs => $3)
                    THEN greatest(excluded.heard, known.heard + interval '1 microsecond') ELSE known.sampled END
            RETURNING id, heard, resources, sampled
        ), history AS (
            INSERT INTO metrics (cloudlet, at, resources)
            SELECT id, heard, resources FROM pulse WHERE sampled = heard
        ), change AS (
            INSERT INTO changes (writer, reported)
            SELECT $4, array_agg(id) FROM pulse HAVING count(*) > 0
        )
        SELECT coalesce(array_agg(id), '{}') AS "ids!", coalesce(array_agg(heard), '{}') AS "heard!" FROM pulse"#,
        &ids,
        &loads as &[&str],
        step.as_secs_f64(),
        replica
    )
    .fetch_one(Unnamed(connection))
    .await?;
    Ok(row.ids.into_iter().zip(row.heard).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn the_last_report_of_a_cloudlet_counts_and_all_who_wait_are_told() {
        let id = CloudletId::random();
        let declared = || Declared { info: "{}".to_owned(), addresses: "[]".to_owned(), places: "[]".to_owned() };
        let mut waiting = Vec::new();
        let mut report = |load: &str, declared: Option<Declared>| {
            let (done, told) = oneshot::channel();
            waiting.push(told);
            Report { id, resources: Resources::new(), load: load.to_owned(), declared, done, courier: Courier::here() }
        };
        let mut group = latest([report("1", Some(declared())), report("2", None)].into_iter());
        let latest = group.remove(&id).unwrap();
        assert!(group.is_empty() && latest.declared.is_some());
        assert_eq!(latest.load, "2");
        let mut mail = Mail::default();
        mail.add(latest.waiting, Verdict::Committed);
        assert_eq!(mail.0.len(), 1, "one thread");
        mail.send();
        for told in waiting {
            assert_eq!(told.await, Ok(Verdict::Committed));
        }
    }
}
