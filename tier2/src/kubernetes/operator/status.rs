//! Writing an object's status: by the leader only, whole each time, and only onto the object that was decided about.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::Operator;
use crate::kubernetes::{
    api::{ApiError, limited},
    crd::{CloudletDeployment, CloudletDeploymentStatus, Phase},
    failure::Failure,
    objects::MANAGER,
};

/// The condition of an object whose work fails and is tried again.
const RETRYING: &str = "Retrying";

/// Objects as this operator has written them and not yet seen them, by their names.
#[derive(Default)]
pub(super) struct Unseen(Mutex<HashMap<String, CloudletDeployment>>);

impl Unseen {
    fn note(&self, written: &CloudletDeployment) {
        self.written().insert(written.name_any(), written.clone());
    }

    /// Whether a cached object is as it was before this operator wrote into it. To decide about it would be to do
    /// again what was just done; the new one comes by itself.
    pub(super) fn outdates(&self, cached: &CloudletDeployment) -> bool {
        let (mut written, name) = (self.written(), cached.name_any());
        let is_old = written.get(&name).is_some_and(|written| is_newer(written, cached));
        if !is_old {
            written.remove(&name);
        }
        is_old
    }

    /// The object as this operator knows it best: as it was decided about, or as it has written it since. What others
    /// have written is not in it.
    pub(super) fn newest(&self, object: &CloudletDeployment) -> CloudletDeployment {
        let written = self.written();
        let newer = written
            .get(&object.name_any())
            .filter(|written| written.uid() == object.uid() && is_newer(written, object));
        newer.unwrap_or(object).clone()
    }

    /// For an object that was deleted.
    pub(super) fn forget(&self, object: &CloudletDeployment) {
        self.written().remove(&object.name_any());
    }

    /// Forgets objects that are not there any more.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.written().retain(|name, _| is_there(name));
    }

    fn written(&self) -> MutexGuard<'_, HashMap<String, CloudletDeployment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_newer(object: &CloudletDeployment, than: &CloudletDeployment) -> bool {
    object.version().zip(than.version()).is_some_and(|(version, than)| version > than)
}

impl Operator {
    /// Replaces the status and returns the object as it is then.
    ///
    /// # Errors
    /// A conflict when the object has changed in any way: a request that came meanwhile has to be looked at first.
    pub(super) async fn write_status(
        &self,
        object: &CloudletDeployment,
        status: &CloudletDeploymentStatus,
    ) -> Result<CloudletDeployment, ApiError> {
        let written = write(&self.api, object, status).await?;
        self.unseen.note(&written);
        Ok(written)
    }

    /// Replaces the status by what `status` makes of the object as it is now, and returns the object as it is then. A
    /// request that came after `object` was read does not matter.
    ///
    /// # Errors
    /// A conflict when somebody else has written a status since, as another leader does, or when the object is another
    /// one.
    pub(super) async fn write_outcome(
        &self,
        object: &CloudletDeployment,
        status: impl Fn(&CloudletDeployment) -> CloudletDeploymentStatus,
    ) -> Result<CloudletDeployment, ApiError> {
        let written = write_onto_status(&self.api, object, status).await?;
        self.unseen.note(&written);
        Ok(written)
    }
}

async fn write_onto_status(
    api: &Api<CloudletDeployment>,
    object: &CloudletDeployment,
    status: impl Fn(&CloudletDeployment) -> CloudletDeploymentStatus,
) -> Result<CloudletDeployment, ApiError> {
    let mut current = object.clone();
    loop {
        match write(api, &current, &status(&current)).await {
            Err(conflict) if conflict.is_conflict() => {
                let read = limited("read the deployment", api.get(&object.name_any())).await?;
                let is_same = read.uid() == object.uid() && read.status == object.status && !read.is_leaving();
                if !is_same || read.version() == current.version() {
                    return Err(conflict);
                }
                current = read;
            }
            result => return result,
        }
    }
}

async fn write(
    api: &Api<CloudletDeployment>,
    object: &CloudletDeployment,
    status: &CloudletDeploymentStatus,
) -> Result<CloudletDeployment, ApiError> {
    let metadata = json!({ "uid": object.uid(), "resourceVersion": object.resource_version() });
    let patch = Patch::Merge(json!({ "metadata": metadata, "status": complete(status) }));
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    limited("write the deployment's status", api.patch_status(&object.name_any(), &parameters, &patch)).await
}

/// What is absent from a merge patch would stay, so it is named.
fn complete(status: &CloudletDeploymentStatus) -> Value {
    const FIELDS: [&str; 11] = [
        "phase",
        "deploymentName",
        "clientAddresses",
        "createdAt",
        "endsAt",
        "lastActivity",
        "expiresAt",
        "observedRequest",
        "message",
        "failure",
        "conditions",
    ];
    // Shown to people, who do not count nanoseconds.
    let expires_at = status.expires_at.and_then(|end| end.replace_nanosecond(0).ok());
    let mut value = json!(CloudletDeploymentStatus { expires_at, ..status.clone() });
    if let Some(fields) = value.as_object_mut() {
        for name in FIELDS {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    value
}

/// Sets the condition `Ready`, whose time changes only with its value, and ends `Retrying`.
pub(super) fn set_ready(status: &mut CloudletDeploymentStatus, object: &CloudletDeployment, reason: &str) {
    let value = if status.phase == Some(Phase::Deployed) { "True" } else { "False" };
    let before = status.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == value);
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: status.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone()),
        last_transition_time: before
            .map_or_else(|| Time(Timestamp::now()), |condition| condition.last_transition_time.clone()),
        observed_generation: object.metadata.generation,
    };
    status.conditions = vec![condition];
}

/// Sets the condition `Retrying`, whose time is that of the first failure in a row.
pub(super) fn set_retrying(status: &mut CloudletDeploymentStatus, object: &CloudletDeployment, failure: &Failure) {
    let since =
        retrying(status).map_or_else(|| Time(Timestamp::now()), |condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: RETRYING.to_owned(),
        status: "True".to_owned(),
        reason: reason(&failure.code),
        message: failure.message.clone(),
        last_transition_time: since,
        observed_generation: object.metadata.generation,
    };
    status.conditions.retain(|condition| condition.type_ != RETRYING);
    status.conditions.push(condition);
}

/// The condition `Retrying`, if it holds.
fn retrying(status: &CloudletDeploymentStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == RETRYING && condition.status == "True")
}

/// For how long its work has failed.
pub(super) fn retrying_for(object: &CloudletDeployment) -> Option<Duration> {
    let since = retrying(object.status.as_ref()?)?.last_transition_time.0;
    Some(Timestamp::now().duration_since(since).try_into().unwrap_or_default())
}

/// Whether its work fails and is tried again.
pub(in crate::kubernetes) fn is_retrying(object: &CloudletDeployment) -> bool {
    object.status.as_ref().is_some_and(|status| retrying(status).is_some())
}

/// What is being done, as people read it, with what failed before.
pub(super) fn step_after_failure(step: &str, status: &CloudletDeploymentStatus) -> String {
    match retrying(status) {
        Some(condition) => format!("{step}; the last try failed: {}", condition.message),
        None => step.to_owned(),
    }
}

/// A code as reasons of conditions are written: `ChartUnavailable`.
fn reason(code: &str) -> String {
    code.split('-')
        .filter_map(|word| Some((word.get(..1)?, word.get(1..)?)))
        .fold(String::new(), |reason, (first, rest)| reason + &first.to_ascii_uppercase() + rest)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::kubernetes::{
        crd::tests::object,
        fetch::tests::{Behaviour, Fake},
    };

    fn at(version: u64) -> CloudletDeployment {
        let mut object = object(7, Some(Phase::Initializing));
        object.metadata.resource_version = Some(version.to_string());
        object.metadata.uid = Some("a".to_owned());
        object
    }

    #[test]
    fn an_object_from_before_a_write_is_old_until_the_write_is_seen() {
        let unseen = Unseen::default();
        assert!(!unseen.outdates(&at(99)));
        unseen.note(&at(100));
        assert!(unseen.outdates(&at(99)));
        assert!(!unseen.outdates(&at(100)));
        assert!(!unseen.outdates(&at(99)), "nothing is kept of what was seen");
        unseen.note(&at(100));
        unseen.forget(&at(100));
        assert!(!unseen.outdates(&at(99)));
    }

    #[test]
    fn the_newest_object_is_what_was_written_if_it_is_the_same() {
        let unseen = Unseen::default();
        assert_eq!(unseen.newest(&at(99)), at(99));
        unseen.note(&at(100));
        assert_eq!(unseen.newest(&at(99)), at(100));
        assert_eq!(unseen.newest(&at(101)), at(101));
        let mut other = at(99);
        other.metadata.uid = Some("b".to_owned());
        assert_eq!(unseen.newest(&other), other);
    }

    #[test]
    fn a_patch_clears_what_is_no_longer_so() {
        let status = CloudletDeploymentStatus { message: Some("m".to_owned()), ..Default::default() };
        let value = complete(&status);
        assert_eq!(value["message"], "m");
        assert!(value.as_object().unwrap().contains_key("failure"));
        assert!(value["failure"].is_null() && value["clientAddresses"].is_null());
    }

    /// Writes a status onto the object of version 1 while the API server has this one; whether it is taken.
    async fn written_while_there_is(there: CloudletDeployment) -> bool {
        // The first write comes too late.
        let answers = Mutex::new(vec![
            Behaviour::Answers(serde_json::to_string(&there).unwrap()),
            Behaviour::Answers(serde_json::to_string(&there).unwrap()),
            Behaviour::Refuses(409),
        ]);
        let answers = Arc::new(answers);
        let fake = Fake::start(move |_| answers.lock().unwrap().pop().unwrap()).await;
        let api = Api::all(fake.client());
        let status = |now: &CloudletDeployment| now.status.clone().unwrap();
        match write_onto_status(&api, &at(1), status).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(fake.requests(), 2, "{error}");
                false
            }
        }
    }

    #[tokio::test]
    async fn a_request_in_between_does_not_keep_an_outcome_from_being_written() {
        let mut renewed = at(2);
        renewed.spec.requested_at += Duration::from_secs(1);
        assert!(written_while_there_is(renewed).await);
    }

    #[tokio::test]
    async fn what_another_leader_has_written_stays() {
        let mut other = at(2);
        other.status.as_mut().unwrap().phase = Some(Phase::Deployed);
        assert!(!written_while_there_is(other).await);
        let mut replaced = at(2);
        replaced.metadata.uid = Some("b".to_owned());
        assert!(!written_while_there_is(replaced).await);
        assert!(!written_while_there_is(at(1)).await, "a conflict of another kind");
    }

    #[test]
    fn the_last_failure_and_the_time_of_the_first_are_kept_until_the_next_step() {
        let mut object = at(1);
        let status = object.status.as_mut().unwrap();
        set_ready(status, &at(1), "Installing");
        set_retrying(status, &at(1), &Failure::new("chart-unavailable", "the server answers 503"));
        status.conditions[1].last_transition_time = Time(Timestamp::now() - Duration::from_secs(60));
        set_retrying(status, &at(1), &Failure::new("helm-killed", "Helm was killed by signal 9"));
        let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "Retrying"]);
        assert_eq!(status.conditions[1].reason, "HelmKilled");
        let step = "being installed; the last try failed: Helm was killed by signal 9";
        assert_eq!(step_after_failure("being installed", status), step);
        assert!(is_retrying(&object));
        assert!((60..70).contains(&retrying_for(&object).unwrap().as_secs()));

        set_ready(object.status.as_mut().unwrap(), &at(1), "Deployed");
        assert_eq!(retrying_for(&object), None);
        assert_eq!(step_after_failure("queued", object.status.as_ref().unwrap()), "queued");
    }
}
