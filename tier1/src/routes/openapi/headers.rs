//! Request headers beyond the standard ones.

use sinfonia_wire::header::{X_CLIENT_IP, X_HOPS, X_LOCATION};
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Type},
    },
};

/// What a deploy request may say about the client.
pub(in super::super) struct ClientHeaders;

impl IntoParams for ClientHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let hops = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).default(Some(0.into()));
        vec![
            header(
                X_CLIENT_IP,
                "Address of the client on whose behalf the request is made. Believed of trusted proxies only, and \
                 ignored of others.",
                text().examples(["198.51.100.7"]),
            ),
            header(
                X_LOCATION,
                "Where the client is: latitude and longitude in degrees.",
                text().examples(["40.44,-79.94"]),
            ),
            header(X_HOPS, "How many tiers have passed this request on; fewer than 4, to end loops.", hops),
        ]
    }
}

fn header(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
