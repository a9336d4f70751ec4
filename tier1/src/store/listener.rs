//! Wakes the follower when another replica has written something. Polling goes on beside it, so that nothing depends
//! on notifications but speed.

use super::{
    database::{Database, DatabaseError},
    follower::Reader,
    unnamed::Unnamed,
};
use sqlx::{Acquire as _, Connection as _, PgConnection, postgres::PgListener, types::Uuid};
use std::{io, time::Duration};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Where the schema announces changes.
const CHANNEL: &str = "sinfonia_changes";
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long silence is believed.
const SILENCE: Duration = Duration::from_secs(5);
/// When to try again: after a loss, and where no notification came through.
const LOST: Duration = Duration::from_millis(500);
const DEAF: Duration = Duration::from_secs(600);

/// No notification comes through.
struct Deaf;

/// Listens for good.
pub(super) async fn listen(database: Database, reader: Reader, replica: Uuid) {
    let mut failing = false;
    loop {
        match hear(&database, &reader, replica, &mut failing).await {
            Ok(Deaf) => {
                info!("notifications do not come through, so changes are polled for: is there a pooler in between?");
                sleep(DEAF).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "no notifications from the database; changes are polled for");
                }
                sleep(LOST).await;
            }
        }
    }
}

async fn hear(database: &Database, reader: &Reader, replica: Uuid, failing: &mut bool) -> Result<Deaf, DatabaseError> {
    // Who listens through a pooler hears nothing, and others are told what they do not expect.
    if database.is_pooled().await? {
        return Ok(Deaf);
    }
    let mut listener = PgListener::connect_with(database.listening()).await?;
    listener.eager_reconnect(false);
    let own = format!("sinfonia_{}", replica.simple());
    timed(listener.listen_all([CHANNEL, own.as_str()])).await?;
    // From another connection: this one would hear itself through any pooler.
    let channel = &own;
    database
        .run(async |c: &mut PgConnection| sqlx::query!("SELECT pg_notify($1, '')", channel).execute(Unnamed(c)).await)
        .await?;
    let mut is_heard = false;
    let replica = replica.to_string();
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(heard) => match heard? {
                Some(message) if message.channel() == own => {
                    is_heard = true;
                    if std::mem::take(failing) {
                        info!("notifications from the database come again");
                    }
                }
                // Who wrote it knows it.
                Some(message) if message.payload() == replica => {}
                Some(_) => reader.hint(),
                None => return Err(sqlx::Error::from(io::Error::from(io::ErrorKind::ConnectionReset)).into()),
            },
            Err(_) if !is_heard => return Ok(Deaf),
            Err(_) => timed(async { listener.acquire().await?.ping().await }).await?,
        }
    }
}

async fn timed<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, DatabaseError> {
    Ok(timeout(ANSWER, asking).await.map_err(|_| DatabaseError::Slow(ANSWER))??)
}
