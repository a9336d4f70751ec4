//! The errors of each operation.

use sinfonia_wire::{PROBLEM_JSON, Problem};
use std::collections::BTreeMap;
use utoipa::{
    IntoResponses, ToSchema as _,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder,
        header::HeaderBuilder,
        schema::{AllOfBuilder, ObjectBuilder, Type},
    },
};

/// Status, code, and what it means.
type Refusal = (u16, &'static str, &'static str);

/// Of every operation.
const ALL: &[Refusal] = &[
    (401, "token-missing", "a token is needed"),
    (401, "token-invalid", "the token is unknown, expired or revoked"),
    (415, "unsupported-encoding", "the body is compressed"),
    (429, "rate-limited", "too many requests of one caller"),
    (500, "internal-error", "tier1 broke down"),
    (503, "database-unavailable", "the database cannot be reached"),
];
const REPORT: &[Refusal] = &[
    (400, "invalid-body", "the body is no JSON, not that of a cloudlet, or beyond a limit"),
    (400, "missing-uuid", "the report has no uuid"),
    (400, "endpoint-unresolved", "the host of the endpoint does not exist"),
    (400, "endpoint-local", "the endpoint is an address that only the cloudlet's own host or network reaches"),
    (400, "endpoint-itself", "the endpoint is this tier1"),
    (403, "scope-missing", "the token has not the scope report"),
    (403, "other-cloudlet", "the token is for another cloudlet"),
    (408, "body-too-slow", "the body did not come in time"),
    (409, "configured-cloudlet", "the operator has configured this cloudlet"),
    (413, "body-too-large", "the body is longer than 256 KiB"),
    (415, "unsupported-media-type", "the body is not said to be JSON"),
    (503, "endpoint-unresolved", "the host of the endpoint cannot be resolved now"),
];
const QUERY: &[Refusal] = &[(400, "invalid-query", "a query parameter is not valid")];
/// Of one cloudlet.
const CLOUDLET: &[Refusal] =
    &[(400, "invalid-uuid", "the cloudlet is no UUID"), (404, "unknown-cloudlet", "the cloudlet is not known")];
const FORGET: &[Refusal] = &[
    (403, "scope-missing", "the token has not the scope admin"),
    (409, "configured-cloudlet", "the operator has configured this cloudlet"),
];
const HISTORY: &[Refusal] =
    &[(501, "no-history", "this tier1 has no database"), (503, "history-busy", "other histories are being read")];
const RECIPE: &[Refusal] = &[
    (404, "unknown-recipe", "there is no such recipe"),
    (500, "invalid-recipe", "the recipe is not valid or cannot be read"),
    (503, "recipes-unreachable", "the server of the recipes cannot be reached"),
];
const READ_RECIPE: &[Refusal] = &[(403, "restricted-recipe", "only tokens that list the recipe may read it")];
/// Of all that is done with deployments.
const DEPLOYMENT: &[Refusal] = &[
    (400, "invalid-query", "a query parameter is not valid"),
    (400, "invalid-uuid", "the application is no UUID"),
    (400, "invalid-key", "the key is no WireGuard public key"),
    (400, "invalid-header", "a header is not text, or no number"),
    (400, "invalid-location", "X-Location is no latitude and longitude"),
    (403, "scope-missing", "the token has not the scope deploy"),
    (403, "recipe-not-allowed", "the token is not for this recipe"),
    (404, "unknown-cloudlet", "the cloudlet of the query is not known"),
    (404, "no-deployment", "there is no such deployment, or it is somebody else's"),
    (502, "cloudlets-failed", "the cloudlets that were asked failed; `failures` says why"),
    (503, "cloudlets-failed", "none of the cloudlets that were asked can serve now; `failures` says why"),
    (504, "cloudlets-failed", "the cloudlets that were asked did not answer in time; `failures` says which"),
    (508, "loop-detected", "the request goes in a circle"),
];
const MAKE: &[Refusal] = &[
    (403, "client-not-accepted", "the cloudlet of the query does not serve this client"),
    (409, "requires-not-met", "the cloudlet of the query does not meet what the recipe requires"),
    (503, "no-cloudlet", "no cloudlet suits"),
    (503, "cloudlet-draining", "the cloudlet of the query takes no new deployments"),
];
const LOOK_UP: &[Refusal] = &[
    (404, "no-cloudlet", "no cloudlet suits"),
    (501, "not-supported", "the cloudlet of the query cannot look up deployments"),
];

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: [$($group:expr),*];)+) => {$(
        $(#[$doc])*
        pub(in super::super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[ALL, $($group),*].concat())
            }
        }
    )+};
}

refusals! {
    /// Of `GET /cloudlets`.
    ListRefusals: [QUERY];
    /// Of `GET /cloudlets/{uuid}`.
    CloudletRefusals: [CLOUDLET];
    /// Of `DELETE /cloudlets/{uuid}`.
    ForgetRefusals: [CLOUDLET, FORGET];
    /// Of `GET /cloudlets/{uuid}/metrics`.
    HistoryRefusals: [QUERY, CLOUDLET, HISTORY];
    /// Of `POST /cloudlets`.
    ReportRefusals: [REPORT];
    /// Of `GET /recipe`.
    RecipeRefusals: [RECIPE, READ_RECIPE];
    /// Of `POST /deploy`.
    PostRefusals: [DEPLOYMENT, RECIPE, MAKE];
    /// Of `GET /deploy`.
    LookupRefusals: [DEPLOYMENT, RECIPE, LOOK_UP];
    /// Of `DELETE /deploy`.
    ReleaseRefusals: [DEPLOYMENT];
}

fn responses(refusals: &[Refusal]) -> BTreeMap<String, RefOr<Response>> {
    let mut statuses: BTreeMap<u16, Vec<&Refusal>> = BTreeMap::new();
    for refusal in refusals {
        statuses.entry(refusal.0).or_default().push(refusal);
    }
    statuses.iter().map(|(status, causes)| (status.to_string(), response(*status, causes).into())).collect()
}

fn response(status: u16, causes: &[&Refusal]) -> Response {
    let described: Vec<_> = causes.iter().map(|(_, code, meaning)| format!("- `{code}`: {meaning}")).collect();
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(causes.iter().map(|cause| cause.1)));
    let number = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([status]));
    let this = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("code", code)
        .property("status", number)
        .required("code")
        .required("detail");
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(Problem::name())).item(this);
    let response = ResponseBuilder::new()
        .description(described.join("\n"))
        .content(PROBLEM_JSON, ContentBuilder::new().schema(Some(schema)).build());
    let header = |description, kind| {
        let schema = ObjectBuilder::new().schema_type(kind);
        HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
    };
    match status {
        401 => response.header("WWW-Authenticate", header("How to authenticate: Bearer.", Type::String)),
        429 | 503 => response.header("Retry-After", header("Seconds after which to try again.", Type::Integer)),
        _ => response,
    }
    .build()
}
