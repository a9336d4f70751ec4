//! Who the cluster takes tier2 for.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{Api, Client, api::PostParams};

use super::api::{ApiError, limited};

/// The `ServiceAccount` that `deploy/kubernetes` and the chart's usual release make.
const USUAL: (&str, &str) = ("sinfonia", "sinfonia-tier2");

/// A name in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// A ServiceAccount.
    Service { namespace: String, name: String },
    /// Anybody else.
    User(String),
}

impl Account {
    /// Asks the API server.
    pub(super) async fn own(client: &Client) -> Result<Self, ApiError> {
        let api: Api<SelfSubjectReview> = Api::all(client.clone());
        let (parameters, review) = (PostParams::default(), SelfSubjectReview::default());
        let review = limited("ask who tier2 is", api.create(&parameters, &review)).await?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        Ok(Self::of_user(&user.unwrap_or_default()))
    }

    fn of_user(user: &str) -> Self {
        let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
        match account {
            Some((namespace, name)) => Self::Service { namespace: namespace.to_owned(), name: name.to_owned() },
            None => Self::User(user.to_owned()),
        }
    }

    /// Namespace and name, of a ServiceAccount.
    pub(super) fn service(&self) -> Option<(String, String)> {
        match self {
            Self::Service { namespace, name } => Some((namespace.clone(), name.clone())),
            Self::User(_) => None,
        }
    }

    /// What to do if it lacks rights.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Service { namespace, name } if (namespace.as_str(), name.as_str()) == USUAL => {
                "upgrade the release of the chart sinfonia-tier2, or apply deploy/kubernetes/tier2.yaml".to_owned()
            }
            Self::Service { namespace, name } => {
                format!("upgrade the release of the chart sinfonia-tier2 that is for ServiceAccount {namespace}/{name}")
            }
            Self::User(user) => format!(
                "grant this to user {user}, or have tier2 use the ServiceAccount of the chart sinfonia-tier2 \
                 (--kubeconfig)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_for_the_account_there_is() {
        let remedy = |user| Account::of_user(user).remedy();
        assert!(remedy("system:serviceaccount:sinfonia:sinfonia-tier2").contains("deploy/kubernetes/tier2.yaml"));
        let renamed = remedy("system:serviceaccount:edge:cloudlet-sinfonia-tier2");
        assert!(renamed.ends_with("ServiceAccount edge/cloudlet-sinfonia-tier2"), "{renamed}");
        let user = remedy("kubernetes-admin");
        assert!(user.starts_with("grant this to user kubernetes-admin") && !user.contains("deploy/"), "{user}");
        assert_eq!(Account::of_user("kubernetes-admin").service(), None);
    }
}
