use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sinfonia_credentials::TokenHash;
use sinfonia_wire::{ApplicationId, CloudletId};
use std::fmt;
use time::OffsetDateTime;
use uuid::Uuid;

/// A kind of thing that a token is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Reporting a cloudlet
    Report,
    /// Deploying recipes, and looking after what was deployed
    Deploy,
    /// Everything
    Admin,
}

/// A token, and what it is good for. The token itself is not known, only its hash.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Names the token.
    pub id: Uuid,
    /// Whose it is: the same for all tokens that replaced each other.
    pub principal: Uuid,
    /// For people.
    pub name: String,
    pub hash: TokenHash,
    pub scopes: Vec<Scope>,
    /// The only cloudlet it may report for; none: any.
    pub cloudlet: Option<CloudletId>,
    /// The only recipes it may deploy; none: those that are not restricted.
    pub recipes: Option<Vec<ApplicationId>>,
    /// None: it does not.
    pub expires: Option<OffsetDateTime>,
    pub is_revoked: bool,
}

/// Whether a recipe may be deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deploying {
    /// In any case.
    Allowed,
    /// If it is not restricted.
    Unrestricted,
    Refused,
}

impl Scope {
    /// As it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    /// The scope of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Report, Self::Deploy, Self::Admin].into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Grant {
    /// Whether the token counts at `now`.
    pub(crate) fn is_valid(&self, now: OffsetDateTime) -> bool {
        !self.is_revoked && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether it has a scope; administrators have all.
    pub(crate) fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|known| [scope, Scope::Admin].contains(known))
    }

    /// Whether it may report as this cloudlet, if it may report.
    pub(crate) fn may_report_as(&self, cloudlet: CloudletId) -> bool {
        self.has(Scope::Admin) || self.cloudlet.is_none_or(|own| own == cloudlet)
    }

    /// Whether it may deploy a recipe, if it may deploy.
    pub(crate) fn may_deploy(&self, application: ApplicationId) -> Deploying {
        match &self.recipes {
            _ if self.has(Scope::Admin) => Deploying::Allowed,
            None => Deploying::Unrestricted,
            Some(recipes) if recipes.contains(&application) => Deploying::Allowed,
            Some(_) => Deploying::Refused,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn grant(token: &str, scopes: &[Scope]) -> Grant {
        Grant {
            id: Uuid::new_v4(),
            principal: Uuid::new_v4(),
            name: "test".to_owned(),
            hash: TokenHash::of(token),
            scopes: scopes.to_vec(),
            cloudlet: None,
            recipes: None,
            expires: None,
            is_revoked: false,
        }
    }

    #[test]
    fn scopes_allow_what_they_say() {
        let [report, deploy, admin] =
            [Scope::Report, Scope::Deploy, Scope::Admin].map(|scope| grant("token", &[scope]));
        let may = |grant: &Grant| [Scope::Report, Scope::Deploy, Scope::Admin].map(|scope| grant.has(scope));
        assert_eq!(may(&report), [true, false, false]);
        assert_eq!(may(&deploy), [false, true, false]);
        assert_eq!(may(&admin), [true, true, true]);
        for scope in [Scope::Report, Scope::Deploy, Scope::Admin] {
            assert_eq!(Scope::named(scope.name()), Some(scope));
        }
    }

    #[test]
    fn a_bound_token_is_good_for_one_cloudlet_and_for_listed_recipes() {
        let [own, other] = [(); 2].map(|()| CloudletId::random());
        let bound = Grant { cloudlet: Some(own), ..grant("token", &[Scope::Report]) };
        assert!(bound.may_report_as(own) && !bound.may_report_as(other));
        assert!(grant("token", &[Scope::Report]).may_report_as(other));

        let listed = ApplicationId::HELLOWORLD;
        let unlisted = ApplicationId::from(Uuid::new_v4());
        let bound = Grant { recipes: Some(vec![listed]), ..grant("token", &[Scope::Deploy]) };
        assert_eq!([listed, unlisted].map(|id| bound.may_deploy(id)), [Deploying::Allowed, Deploying::Refused]);
        assert_eq!(grant("token", &[Scope::Deploy]).may_deploy(listed), Deploying::Unrestricted);
        let admin = Grant { recipes: Some(vec![]), ..grant("token", &[Scope::Admin]) };
        assert_eq!(admin.may_deploy(unlisted), Deploying::Allowed);
    }

    #[test]
    fn tokens_end() {
        let now = OffsetDateTime::now_utc();
        let token = grant("token", &[Scope::Admin]);
        assert!(token.is_valid(now));
        assert!(Grant { expires: Some(now + time::Duration::SECOND), ..token.clone() }.is_valid(now));
        assert!(!Grant { expires: Some(now), ..token.clone() }.is_valid(now));
        assert!(!Grant { is_revoked: true, ..token }.is_valid(now));
    }
}
