use super::{Deploying, Grant, Scope};
use actix_web::http::StatusCode;
use sinfonia_recipes::{RecipeError, Repository};
use sinfonia_server::ApiError;
use sinfonia_wire::{ApplicationId, CloudletId};
use std::sync::Arc;
use uuid::Uuid;

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Somebody on this machine, while there are no tokens: may everything.
    Local,
    /// Anybody, as `--insecure-open` allows: may what needs no token.
    Anonymous,
    /// Who has this token.
    Token(Arc<Grant>),
}

impl Caller {
    /// Whether who they are is proven.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self, Self::Token(_))
    }

    /// Whether nothing at all is known of them.
    pub(crate) const fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }

    /// Whether they may everything.
    pub(crate) fn is_admin(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Anonymous => false,
            Self::Token(grant) => grant.has(Scope::Admin),
        }
    }

    /// Whose are the deployments that they make; none if nobody's.
    pub(crate) fn principal(&self) -> Option<Uuid> {
        match self {
            Self::Local | Self::Anonymous => None,
            Self::Token(grant) => Some(grant.principal),
        }
    }

    /// For the record of administrative actions.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Local => "somebody on this machine".to_owned(),
            Self::Anonymous => "anybody".to_owned(),
            Self::Token(grant) => format!("token {} ({})", grant.id, grant.name),
        }
    }

    /// # Errors
    /// 401 or 403 if they may not report or deploy.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), ApiError> {
        match self {
            Self::Local => Ok(()),
            Self::Anonymous if scope == Scope::Admin => Err(token_missing()),
            Self::Anonymous => Ok(()),
            Self::Token(grant) if grant.has(scope) => Ok(()),
            Self::Token(_) => Err(forbidden("scope-missing", format!("this needs a token with the scope {scope}"))),
        }
    }

    /// # Errors
    /// 403 if they may not report as this cloudlet.
    pub(crate) fn check_report(&self, cloudlet: CloudletId) -> Result<(), ApiError> {
        match self {
            Self::Token(grant) if !grant.may_report_as(cloudlet) => {
                Err(forbidden("other-cloudlet", format!("this token is not for reports of cloudlet {cloudlet}")))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// 401 or 403 if they may not have anything to do with deployments of this recipe.
    pub(crate) async fn check_recipe(
        &self,
        application: ApplicationId,
        recipes: &Repository,
    ) -> Result<(), RecipeRefusal> {
        let refused =
            |why: &str| RecipeRefusal::Access(forbidden("recipe-not-allowed", format!("recipe {application}: {why}")));
        match self {
            Self::Local => return Ok(()),
            Self::Anonymous => {}
            Self::Token(grant) => match grant.may_deploy(application) {
                Deploying::Allowed => return Ok(()),
                Deploying::Refused => return Err(refused("this token is for other recipes")),
                Deploying::Unrestricted => {}
            },
        }
        let recipe = recipes.get(&application).await.map_err(RecipeRefusal::Recipe)?;
        match self {
            _ if !recipe.restricted => Ok(()),
            Self::Token(_) => Err(refused("it is restricted, and this token does not list it")),
            _ => Err(RecipeRefusal::Access(token_missing())),
        }
    }

    /// Whether they may read a restricted recipe.
    pub(crate) fn may_read_restricted(&self, application: ApplicationId) -> bool {
        matches!(self, Self::Token(grant)
            if grant.has(Scope::Deploy) && grant.may_deploy(application) == Deploying::Allowed)
    }
}

/// Why a recipe may not be deployed.
#[derive(Debug)]
pub(crate) enum RecipeRefusal {
    /// The caller may not.
    Access(ApiError),
    /// It cannot be had.
    Recipe(RecipeError),
}

fn forbidden(code: &str, detail: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, detail)
}

/// 401 for those who present no token.
pub(crate) fn token_missing() -> ApiError {
    let detail = "this needs a token, as Authorization: Bearer TOKEN; ask tier1's operator for one";
    ApiError::new(StatusCode::UNAUTHORIZED, "token-missing", detail).with_challenge("Bearer")
}

/// 401 for all tokens that do not count: nobody learns why, or whether there is such a token.
pub(crate) fn token_invalid() -> ApiError {
    let detail = "the token is not valid";
    ApiError::new(StatusCode::UNAUTHORIZED, "token-invalid", detail).with_challenge("Bearer")
}
