//! Cloudlets that an administrator does not want any more.

use super::{
    Store,
    database::DatabaseError,
    durable::Durable,
    tokens::{self, Act},
    unnamed::Unnamed,
};
use sinfonia_wire::CloudletId;
use sqlx::PgConnection;
use thiserror::Error;
use tracing::info;

/// Why a cloudlet was not forgotten.
#[derive(Debug, Error)]
pub(crate) enum ForgetError {
    /// There is none.
    #[error("no cloudlet {0} is known")]
    Unknown(CloudletId),
    /// The operator's list is changed by the operator.
    #[error("cloudlet {0} is listed in tier1's configuration: remove it there")]
    Configured(CloudletId),
    /// Nothing was done, or it is not known whether it was.
    #[error("the database is not available now; try again")]
    Unavailable(#[from] DatabaseError),
}

impl Store {
    /// Forgets a cloudlet, as an administrator wants it. It comes back if it goes on reporting.
    ///
    /// # Errors
    /// When it is not known, the operator's, or the database is not available.
    pub(crate) async fn forget(&self, id: CloudletId, act: &Act<'_>) -> Result<(), ForgetError> {
        if self.registry.is_configured(id) {
            return Err(ForgetError::Configured(id));
        }
        let is_known = match &self.durable {
            None => self.registry.forget(id).await,
            Some(durable) => durable.forget(id, act).await?,
        };
        if !is_known {
            return Err(ForgetError::Unknown(id));
        }
        info!(actor = act.actor, action = act.action, subject = act.subject, "administrative action");
        Ok(())
    }
}

impl Durable {
    /// False if it is not there. Memory knows of it when this returns.
    async fn forget(&self, id: CloudletId, act: &Act<'_>) -> Result<bool, DatabaseError> {
        let work = async |c: &mut PgConnection| {
            let gone = sqlx::query!("DELETE FROM cloudlets WHERE id = $1", id.uuid()).execute(Unnamed(&mut *c)).await?;
            let is_known = gone.rows_affected() > 0;
            if is_known {
                tokens::record(c, act).await?;
            }
            Ok(is_known)
        };
        let is_known = self.database.run(work).await?;
        self.reader.read().await;
        Ok(is_known)
    }
}
