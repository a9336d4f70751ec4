//! What takes reports: memory alone, or a database that the memory follows.

use super::{
    Holdings, Registry,
    courier::Courier,
    database::{Database, DatabaseError},
    follower::{Follower, Questions, Reader},
    history, listener, migrate,
    options::{Addresses, DatabaseConfig},
    row::Declared,
    samples::READERS,
    upkeep,
    writer::{QUEUE, Report, Verdict, Writer},
};
use crate::access::Tokens;
use crate::domain::{
    Registration,
    cloudlet::{Moment, RegistrationError},
};
use actix_web::rt;
use sinfonia_server::Readiness;
use sinfonia_wire::{CloudletId, CloudletInfo};
use sqlx::types::Uuid;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{
    sync::{
        Mutex, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

/// When to try again while the database is not available.
pub(crate) const UNAVAILABLE: Duration = Duration::from_secs(5);
/// How long a report waits for its commit: what the attempts of the writer may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often silent cloudlets are looked for in memory.
const EXPIRY: Duration = Duration::from_secs(5);
/// How often it is seen whether memory should be indexed anew.
const COMPACTION: Duration = Duration::from_secs(5);
/// How long what is not saved yet may take to be, when all else has ended.
pub(crate) const SAVING: Duration = Duration::from_secs(10);
/// How often a database is tried that was not there at the start.
const RETRY: Duration = Duration::from_secs(1);

/// Takes reports.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) registry: Arc<Registry>,
    pub(super) durable: Option<Durable>,
}

#[derive(Debug)]
pub(super) struct Durable {
    pub(super) database: Database,
    reports: mpsc::Sender<Report>,
    pub(super) reader: Reader,
    /// Who may read histories now.
    pub(super) readers: Semaphore,
    /// What is started when serving is.
    parts: Mutex<Option<Parts>>,
}

#[derive(Debug)]
struct Parts {
    database: Database,
    replica: Uuid,
    received: mpsc::Receiver<Report>,
    questions: Questions,
    holdings: Holdings,
    tokens: Arc<Tokens>,
    history_days: u16,
    step: Duration,
    /// Why the database could not be used at the start; none if it could.
    unusable: Option<String>,
}

/// Why a cloudlet was not registered, or its report not taken.
#[derive(Debug, Error)]
pub(crate) enum RegisterError {
    /// It is no cloudlet.
    #[error(transparent)]
    Invalid(#[from] RegistrationError),
    /// The operator's list cannot be changed by reports.
    #[error("cloudlet {0} is listed in tier1's configuration and cannot be changed by reports; use another uuid")]
    Configured(CloudletId),
    /// It may or may not be saved: only what is acknowledged surely is.
    #[error("the report could not be saved, because the database is not available now; send it again")]
    Unavailable,
}

/// What goes on beside serving, as long as this lives.
#[derive(Debug)]
pub(crate) struct Running {
    tasks: Vec<JoinHandle<()>>,
    saving: Option<Saving>,
    database: Option<Database>,
}

/// The task that saves who holds what, and what ends it.
#[derive(Debug)]
struct Saving {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl Store {
    /// Without a database. Cloudlets are gone when the process is.
    pub(crate) fn in_memory(registry: Arc<Registry>) -> (Self, Holdings) {
        (Self { registry, durable: None }, Holdings::default())
    }

    /// With a database, whose schema is brought up to date if it can be reached.
    ///
    /// # Errors
    /// If it can be reached but not used.
    pub(crate) async fn open(
        registry: Arc<Registry>,
        tokens: Arc<Tokens>,
        addresses: Addresses,
        config: &DatabaseConfig,
    ) -> Result<(Self, Holdings), DatabaseError> {
        let database = Database::new(addresses);
        let unusable = match prepare(&database, config.history_days).await {
            Ok(()) => None,
            Err(error) if error.is_permanent() => return Err(error),
            Err(error) => {
                warn!(%error, "the database cannot be reached yet: tier1 is not ready until it can");
                Some(error.to_string())
            }
        };
        let ((reports, received), (reader, questions)) = (mpsc::channel(QUEUE), Reader::new());
        let holdings = Holdings::durable();
        let parts = Parts {
            database: database.clone(),
            replica: Uuid::new_v4(),
            received,
            questions,
            holdings: holdings.clone(),
            tokens,
            history_days: config.history_days,
            step: config.step(),
            unusable,
        };
        let readers = Semaphore::new(READERS);
        let durable = Durable { database, reports, reader, readers, parts: Mutex::new(Some(parts)) };
        Ok((Self { registry, durable: Some(durable) }, holdings))
    }

    /// Whether memory knows what the database does, or did when it was last available.
    pub(crate) fn is_loaded(&self) -> bool {
        self.durable.as_ref().is_none_or(|durable| durable.reader.is_loaded())
    }

    /// Takes a report if it says nothing new but load and time; otherwise the cloudlet has to be registered. It is
    /// committed when this returns.
    ///
    /// # Errors
    /// When the database is not available.
    pub(crate) async fn beat(&self, info: &CloudletInfo) -> Result<bool, RegisterError> {
        let Some(durable) = &self.durable else { return Ok(self.registry.beat(info, Moment::now())) };
        let Some(id) = info.uuid.filter(|_| self.registry.declares(info)) else { return Ok(false) };
        Ok(durable.report(id, info, None).await? == Verdict::Committed)
    }

    /// Adds a cloudlet or replaces what was known of it. It is committed and known to matching when this returns.
    ///
    /// # Errors
    /// When the registration names no cloudlet, or one of the operator's, or the database is not available.
    pub(crate) async fn register(&self, registration: Registration) -> Result<(), RegisterError> {
        let id = registration.info.uuid.ok_or(RegistrationError::NoUuid)?;
        let Some(durable) = &self.durable else { return self.registry.register(registration).await };
        if self.registry.is_configured(id) {
            return Err(RegisterError::Configured(id));
        }
        let declared = Declared::try_from(&registration).map_err(|_| RegisterError::Unavailable)?;
        match durable.report(id, &registration.info, Some(declared)).await? {
            Verdict::Committed => Ok(()),
            // It was dropped in the same moment.
            Verdict::Unknown => Err(RegisterError::Unavailable),
        }
    }

    /// Starts what goes on beside serving. Not ready until everything is known.
    pub(crate) async fn start(&self, readiness: &Readiness) -> Running {
        let Some(durable) = &self.durable else {
            let tasks =
                vec![rt::spawn(expire(Arc::clone(&self.registry))), rt::spawn(compact(Arc::clone(&self.registry)))];
            return Running { tasks, saving: None, database: None };
        };
        let Some(parts) = durable.parts.lock().await.take() else {
            return Running { tasks: vec![], saving: None, database: None };
        };
        let Parts { database, replica, received, questions, holdings, tokens, history_days, step, unusable } = parts;
        let (registry, reader) = (&self.registry, &durable.reader);
        let writer = Writer {
            database: database.clone(),
            registry: Arc::clone(registry),
            reader: reader.clone(),
            replica,
            step,
            connection: None,
            failing: false,
        };
        let follower = Follower {
            database: database.clone(),
            registry: Arc::clone(registry),
            holdings: holdings.clone(),
            tokens,
            reader: reader.clone(),
            replica,
            position: None,
            starting: Some(readiness.block("database")),
            failing: false,
        };
        let following = {
            let database = database.clone();
            async move {
                if let Some(reason) = unusable {
                    prepare_at_last(&database, history_days, reason).await;
                }
                follower.run(questions).await;
            }
        };
        reader.hint();
        let tasks = vec![
            rt::spawn(writer.run(received)),
            rt::spawn(following),
            rt::spawn(compact(Arc::clone(registry))),
            rt::spawn(listener::listen(database.clone(), reader.clone(), replica)),
            rt::spawn(upkeep::upkeep(database.clone(), Arc::clone(registry), reader.clone(), history_days)),
        ];
        let (end, ends) = oneshot::channel();
        let saving = Saving { task: rt::spawn(holdings.save(database.clone(), replica, ends)), end };
        Running { tasks, saving: Some(saving), database: Some(database) }
    }
}

impl Durable {
    async fn report(
        &self,
        id: CloudletId,
        info: &CloudletInfo,
        declared: Option<Declared>,
    ) -> Result<Verdict, RegisterError> {
        let load = serde_json::to_string(&info.resources).map_err(|_| RegisterError::Unavailable)?;
        let (done, told) = oneshot::channel();
        let report = Report { id, resources: info.resources.clone(), load, declared, done, courier: Courier::here() };
        self.reports.try_send(report).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Closed(_) => RegisterError::Unavailable,
        })?;
        match timeout(PATIENCE, told).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(_)) | Err(_) => Err(RegisterError::Unavailable),
        }
    }
}

impl Running {
    /// Ends it when nobody is served any more. What is known only here is saved first.
    pub(crate) async fn stop(mut self) {
        if let Some(saving) = self.saving.take() {
            saving.finish().await;
        }
        for task in self.tasks.drain(..) {
            task.abort();
            // What it held is dropped then, which needs the runtime.
            let _ = task.await;
        }
        if let Some(database) = self.database.take() {
            database.close().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in self.tasks.iter().chain(self.saving.iter().map(|saving| &saving.task)) {
            task.abort();
        }
    }
}

impl Saving {
    async fn finish(self) {
        let Self { mut task, end } = self;
        drop(end);
        info!("who holds which deployment is being saved");
        if timeout(SAVING, &mut task).await.is_err() {
            warn!("the database was not available for {} s: who holds which deployment is not saved", SAVING.as_secs());
            task.abort();
            let _ = task.await;
        }
    }
}

/// Brings schema and partitions up to date.
async fn prepare(database: &Database, history_days: u16) -> Result<(), DatabaseError> {
    let mut connection = database.connect().await?;
    migrate::migrate(&mut connection).await?;
    drop(connection);
    history::turn(database, history_days).await
}

async fn prepare_at_last(database: &Database, history_days: u16, mut reason: String) {
    while let Err(error) = prepare(database, history_days).await {
        let former = std::mem::replace(&mut reason, error.to_string());
        if former == reason {
            tracing::debug!(%error, "the database still cannot be used");
        } else {
            warn!(%error, "the database cannot be used yet, for another reason now");
        }
        sleep(RETRY).await;
    }
    info!("the database can be used now");
}

/// Drops silent cloudlets from memory.
async fn expire(registry: Arc<Registry>) {
    let mut ticks = interval(EXPIRY);
    loop {
        ticks.tick().await;
        let dropped = registry.expire(Instant::now()).await;
        if dropped > 0 {
            info!(dropped, "cloudlets have not reported for 5 minutes");
        }
    }
}

/// Keeps the index of memory good whatever changes.
async fn compact(registry: Arc<Registry>) {
    let mut ticks = interval(COMPACTION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.compact().await;
    }
}
