//! JSON schemas of the types that are written by hand, for OpenAPI documents. They accept what serde accepts, except
//! that a pattern is never stricter than the check of the type.

use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    ApplicationId, ChartReference, ChartVersion, CloudletId, DeployEndpoint, DeploymentName, Dns, Location, Network,
    Problem, PublicKey, Resources, Results, TunnelEndpoint,
};

/// Types that are text in JSON: description, example, and a pattern if one says more.
macro_rules! text_schema {
    ($($name:ty: $description:literal, $example:literal $(, $pattern:literal)?;)+) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = text($description).examples([$example]);
                $(let text = text.pattern(Some($pattern));)?
                text.into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

text_schema! {
    ChartReference: "Helm chart: a path beside the recipe, or an http, https or oci URL.",
        "https://charts.example.org/helloworld";
    ChartVersion: "Exact version of a chart.", "0.1.0", r"^[A-Za-z0-9][A-Za-z0-9._+-]*$";
    DeployEndpoint: "Deploy URL of a cloudlet, without user name, query and fragment. A later version of the API in it \
        is read as v1.", "https://cloudlet.example.org/api/v1/deploy", r"^[Hh][Tt][Tt][Pp][Ss]?:.*/deploy/*$";
    DeploymentName: "Readable name of a deployment, a DNS label.", "vertical-module",
        r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    Network: "IP network as address/length, or one address. Bits beyond the length are dropped.", "192.0.2.0/24",
        r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$";
    PublicKey: "WireGuard public key: 32 bytes in base64 of either alphabet, padded or not, or in hexadecimal digits; \
        answers have padded standard base64. In a path, URL-safe base64 needs no escapes.",
        "Sx7g5QA5PN4T-CJJJZJqaZC1Cbs2IHFDhwm8OYtWnQE", r"^([A-Za-z0-9+/_-]{43}=?|[0-9A-Fa-f]{64})$";
    TunnelEndpoint: "UDP endpoint: host:port, or [IPv6]:port.", "192.0.2.1:51820", r":[0-9]+$";
}

macro_rules! id_schema {
    ($($name:ty: $description:literal;)+) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let uuid = SchemaFormat::Custom("uuid".to_owned());
                text($description).format(Some(uuid)).examples(["00000000-0000-0000-0000-000000000000"]).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

id_schema! {
    ApplicationId: "UUID of an application, and so of its recipe.";
    CloudletId: "UUID of a cloudlet.";
}

impl PartialSchema for Dns {
    fn schema() -> RefOr<Schema> {
        let entry = text("Address of a resolver, or a search domain.");
        ArrayBuilder::new().items(entry).description(Some("Resolvers, then search domains.")).into()
    }
}

impl ToSchema for Dns {}

impl PartialSchema for Location {
    fn schema() -> RefOr<Schema> {
        let degrees = number().minimum(Some(-180.0)).maximum(Some(180.0));
        ArrayBuilder::new()
            .items(degrees)
            .min_items(Some(2))
            .max_items(Some(2))
            .description(Some("Latitude (-90..90) and longitude in degrees, WGS84."))
            .examples([vec![40.44, -79.94]])
            .into()
    }
}

impl ToSchema for Location {}

impl PartialSchema for Resources {
    fn schema() -> RefOr<Schema> {
        let value = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Number, Type::Null])).build();
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(value.into()))))
            .description(Some(
                "Measurements by name. Known are cpu_ratio, mem_ratio and gpu_ratio (busy or used share, 0..1; a \
                 gpu_ratio above 1 is taken as percent), net_rx_rate and net_tx_rate (bytes per second). null counts as \
                 absent.",
            ))
            .into()
    }
}

impl ToSchema for Resources {}

impl PartialSchema for Results {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .default(Some(1.into()))
            .description(Some("How many cloudlets; more than 3 is taken as 3."))
            .into()
    }
}

impl ToSchema for Results {}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        let status = ObjectBuilder::new().schema_type(Type::Integer).description(Some("The HTTP status."));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("type", text("URI of the kind of problem; about:blank if the status says it all."))
            .property("title", text("The status in words."))
            .property("status", status)
            .property("detail", text("For people: what was wrong and what to do."))
            .property("instance", text("URI of this occurrence."))
            .property("code", text("For programs: stable name of the kind of problem."))
            .required("type")
            .required("title")
            .required("status")
            .description(Some("An error, by RFC 9457. There may be further members."))
            .into()
    }
}

impl ToSchema for Problem {}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description))
}

fn number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Number)
}
