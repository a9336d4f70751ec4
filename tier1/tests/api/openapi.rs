//! The OpenAPI document says what is served.

use crate::harness::{Answer, World};
use actix_web::http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::{fs, path::Path, sync::LazyLock};

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&sinfonia_tier1::openapi_document().unwrap()).unwrap());

/// Checks an answer against the document. Where no operation is, there is nothing to check.
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap().trim_end_matches('/');
    let Some(operation) = operation(method, path) else {
        return;
    };
    let status = answer.status.to_string();
    let response = &operation["responses"][&status];
    assert!(response.is_object(), "{method} {path}: {status} is not documented: {}", answer.body);
    let Some(content) = response.get("content") else {
        assert_eq!(answer.body, "", "{method} {path}: {status} has no body in the document");
        return;
    };
    let schema = &content[&answer.content_type]["schema"];
    assert!(schema.is_object(), "{method} {path}: {status} as {} is not documented", answer.content_type);
    conforms(schema, &answer.body, &format!("{method} {path}: {status}"));
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let parts: Vec<_> = path.split('/').collect();
    let suits = |template: &str| {
        let wanted: Vec<_> = template.split('/').collect();
        // A key may hold slashes.
        let long_enough = parts.len() == wanted.len() || template.ends_with("{key}") && parts.len() > wanted.len();
        long_enough && wanted.iter().zip(&parts).all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
    };
    let template = DOCUMENT["paths"].as_object().unwrap().keys().find(|template| suits(template))?;
    DOCUMENT["paths"][template].get(method.as_str().to_lowercase())
}

fn conforms(schema: &Value, value: &Value, what: &str) {
    let mut schema = schema.clone();
    schema["components"] = DOCUMENT["components"].clone();
    let validator: Validator = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:?}: {value}");
}

#[test]
fn the_committed_document_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let current = sinfonia_tier1::openapi_document().unwrap();
    assert!(
        committed == current,
        "docs/openapi.json is out of date: run `cargo run -p sinfonia-tier1 -- openapi > docs/openapi.json`"
    );
}

#[actix_web::test]
async fn document_and_page_are_served_to_everybody() {
    let world = World::with(|config| config.insecure_open = false).await;
    let answer = world.get("/api/openapi.json").await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    assert_eq!((&answer.body, &answer.body["openapi"]), (&*DOCUMENT, &json!("3.1.0")));
    assert_eq!(world.get("/api").await.status, 308);

    let page = world.get("/api/").await;
    assert_eq!((page.status, page.content_type.as_str()), (200, "text/html; charset=utf-8"));
    let page = page.body.as_str().unwrap().to_owned();
    let files =
        page.split('"').filter(|part| part.starts_with("./") || part.ends_with(".css") || part.ends_with(".js"));
    let files: Vec<_> = files.map(|file| file.trim_start_matches("./")).collect();
    assert!(files.len() > 3 && !page.contains("//"), "the page is whole by itself: {page}");
    for file in files {
        assert_eq!(world.get(&format!("/api/{file}")).await.status, 200, "{file}");
    }
    let start = world.get("/api/start.js").await.body;
    assert!(start.as_str().unwrap().contains("url: \"openapi.json\""), "{start}");
    let notice = world.get("/api/swagger-ui-notice.txt").await.body;
    assert!(notice.as_str().unwrap().contains("SmartBear"), "{notice}");
    world.get("/api/nothing.js").await.problem(404, "not-found");
    world.get("/api/v1/nothing").await.problem(404, "not-found");
}

/// What cloudlets and clients of the reference implementation send and expect.
#[test]
fn recorded_exchanges_suit_the_document() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("reference.json")).unwrap();
    let mut compared = 0;
    for exchange in &recorded {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let path = request["path"].as_str().unwrap().split('?').next().unwrap().trim_end_matches('/');
        let Some(operation) = operation(&method, path) else {
            continue;
        };
        // What the reference refuses, or did not do, has another form.
        if response["status"].as_u64().is_none_or(|status| !(200..300).contains(&status)) {
            continue;
        }
        compared += 1;
        let name = exchange["name"].as_str().unwrap();
        if request["body"].is_object() {
            conforms(&operation["requestBody"]["content"]["application/json"]["schema"], &request["body"], name);
        }
        let content = &operation["responses"][response["status"].to_string()]["content"];
        if let Some(schema) = content["application/json"].get("schema") {
            conforms(schema, &response["body"], name);
        }
    }
    assert!(compared > 5, "{compared}");
}
