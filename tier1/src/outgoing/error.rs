use crate::resolve::AddressError;
use actix_web::http::StatusCode;
use sinfonia_wire::DeploymentStatus;
use std::time::Duration;
use thiserror::Error;

/// Longest answer of a cloudlet, in bytes.
pub(super) const LONGEST_ANSWER: usize = 1 << 20;

/// Why a cloudlet did not do what it was asked to.
#[derive(Clone, Debug, Error)]
pub(crate) enum CallError {
    /// It may not be connected to, or its name means nothing.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke.
    #[error("no proper HTTP answer: {0}")]
    Broken(String),
    /// No answer.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// It said no.
    #[error("answered {status}: {detail}")]
    Refused {
        /// With this status.
        status: StatusCode,
        /// And these words.
        detail: String,
    },
    /// Too much of an answer.
    #[error("the answer is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
    /// It is not what the contract says.
    #[error("the answer is not valid: {0}")]
    Invalid(String),
    /// The deployment cannot be used.
    #[error("the deployment is {0}, not Deployed")]
    NotReady(DeploymentStatus),
    /// It cannot be used yet, and is being made.
    #[error("not ready yet: {0}")]
    Begun(String),
}

/// What a failure says about later requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The cloudlet fails whatever it is asked for.
    Cloudlet,
    /// It fails with this application.
    Application,
    /// It does not like this request.
    Request,
}

impl CallError {
    /// Who is to blame.
    #[must_use]
    pub(crate) fn blame(&self) -> Blame {
        match self {
            Self::Address(_) | Self::Unreachable(_) | Self::Broken(_) | Self::TooLong | Self::Invalid(_) => {
                Blame::Cloudlet
            }
            // It may take longer, or have no room, for this application only.
            Self::Timeout(_) | Self::NotReady(_) | Self::Begun(_) => Blame::Application,
            // It does not know this tier1.
            Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => Blame::Cloudlet,
            // It does not have the recipe, or nothing to run it by.
            Self::Refused { status, .. }
                if [StatusCode::NOT_FOUND, StatusCode::UNPROCESSABLE_ENTITY].contains(status) =>
            {
                Blame::Application
            }
            Self::Refused { status, .. } if status.is_client_error() => Blame::Request,
            Self::Refused { .. } => Blame::Application,
        }
    }

    /// A stable name for programs.
    #[must_use]
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Address(_) => "address-refused",
            Self::Unreachable(_) => "unreachable",
            Self::Broken(_) => "broken-answer",
            Self::Timeout(_) => "timeout",
            Self::Refused { .. } => "refused",
            Self::TooLong => "answer-too-long",
            Self::Invalid(_) => "invalid-answer",
            Self::NotReady(_) | Self::Begun(_) => "not-ready",
        }
    }

    /// Whether the cloudlet surely made no deployment; one of earlier it may still hold.
    #[must_use]
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Address(_) | Self::Unreachable(_) => true,
            Self::Refused { status, .. } => status.is_client_error(),
            _ => false,
        }
    }

    /// Whether the cloudlet goes on making the deployment.
    #[must_use]
    pub(crate) const fn has_begun(&self) -> bool {
        matches!(self, Self::Begun(_) | Self::NotReady(DeploymentStatus::Initializing))
    }

    /// Whether the cloudlet does not know this kind of request, as the reference's tier2.
    #[must_use]
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { status, .. }
            if [StatusCode::METHOD_NOT_ALLOWED, StatusCode::INTERNAL_SERVER_ERROR].contains(status))
    }
}
