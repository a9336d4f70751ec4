//! Whether tier2 may do what it has to do: the cluster is asked about each right.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::{Finding, Verdict};
use crate::kubernetes::{
    account::Account,
    fetch::reason,
    permissions::{Right, Scope, rights},
};

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How many are asked at the same time.
const AT_ONCE: usize = 8;

/// How many missing rights a sentence names.
const NAMED: usize = 5;

/// The rights that tier2 has at once, with its own namespace.
pub(super) async fn check(client: &Client, own: &str) -> Finding {
    let rights = rights().filter(|right| right.scope != Scope::Deployment).collect();
    ask(client, "permissions", rights, own).await
}

/// The rights that tier2 has in a deployment's namespace.
pub(super) async fn check_in_deployment(client: &Client, namespace: &str) -> Finding {
    let rights = rights().filter(|right| right.scope == Scope::Deployment).collect();
    ask(client, "deployments", rights, namespace).await
}

async fn ask(client: &Client, what: &'static str, rights: Vec<Right>, namespace: &str) -> Finding {
    let count = rights.len();
    let mut asked = vec![];
    for right in rights {
        asked.push(missing(client.clone(), right, namespace.to_owned()));
    }
    let answers: Vec<Result<Option<String>, String>> = stream::iter(asked).buffered(AT_ONCE).collect().await;
    match answers.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(missing) => {
            let missing: Vec<_> = missing.into_iter().flatten().collect();
            let remedy = if missing.is_empty() { String::new() } else { remedy(client).await };
            verdict(what, count, missing, &remedy)
        }
        Err(error) => {
            Finding::new(what, Verdict::Problem, format!("the cluster does not tell what tier2 may do: {error}"))
        }
    }
}

async fn remedy(client: &Client) -> String {
    Account::own(client).await.map_or_else(|error| error.to_string(), |account| account.remedy())
}

fn verdict(what: &'static str, count: usize, missing: Vec<String>, remedy: &str) -> Finding {
    if missing.is_empty() {
        return Finding::new(what, Verdict::Ok, format!("all {count} rights that are needed are granted"));
    }
    let more = match missing.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = missing.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let sentence = format!("tier2 may not {named}{more}: {remedy}");
    Finding::new(what, Verdict::Problem, sentence)
}

/// The right in words, if it is not granted.
async fn missing(client: Client, right: Right, namespace: String) -> Result<Option<String>, String> {
    let namespace = match right.scope {
        Scope::Cluster => None,
        Scope::Own | Scope::Deployment => Some(namespace),
        Scope::Namespace(namespace) => Some(namespace.to_owned()),
    };
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (right.resource, None),
    };
    let words = words(&right, namespace.as_deref());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                name: right.name.map(str::to_owned),
                namespace,
                verb: Some(right.verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client);
    let asked = tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &review)).await;
    let answer = asked.map_err(|_| "the API server is silent".to_owned())?.map_err(|error| reason(&error))?;
    Ok((!answer.status.is_some_and(|status| status.allowed)).then_some(words))
}

/// As `create rolebindings.rbac.authorization.k8s.io in namespace x`.
fn words(right: &Right, namespace: Option<&str>) -> String {
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let name = right.name.map(|name| format!(" {name}")).unwrap_or_default();
    let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    format!("{} {}{group}{name}{place}", right.verb, right.resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_are_named() {
        assert_eq!(verdict("permissions", 7, vec![], "").verdict, Verdict::Ok);
        let bind = rights().find(|right| right.verb == "bind").unwrap();
        assert_eq!(words(&bind, None), "bind clusterroles.rbac.authorization.k8s.io sinfonia-deployer");
        let log = rights().find(|right| right.resource == "pods/log").unwrap();
        assert_eq!(words(&log, Some("x")), "get pods/log in namespace x");
        let six = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        let finding = verdict("permissions", 7, six, "upgrade the release");
        assert_eq!(finding.sentence, "tier2 may not a, b, c, d, e and 1 more: upgrade the release");
    }
}
