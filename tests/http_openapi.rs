//! /openapi.json says what the service does: each statement that can be tried is tried.

// Tests fail by panicking.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "support/fake_replica.rs"]
mod fake_replica;
#[allow(dead_code)]
#[path = "support/http_client.rs"]
mod http_client;

use http_client::{Answer, Server};
use primacy::protocol::request::{Code, IF_MATCH_MAX, KEY_BYTES_MAX};
use serde_json::Value;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn description(server: &Server) -> Value {
    let answer = ask(server, "GET", "/openapi.json", "", "").await;
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("application/json")));
    serde_json::from_str(&answer.body).unwrap()
}

async fn ask(server: &Server, method: &str, target: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n");
    server.ask(&(head + body)).await
}

#[tokio::test]
async fn its_paths_and_methods_are_those_that_are_served() {
    let server = Server::start().await;
    let doc = description(&server).await;
    for (path, item) in doc["paths"].as_object().unwrap() {
        server.replica.fill(1, "b");
        let options = ask(&server, "OPTIONS", path.replace("{id}", "1").as_str(), "", "").await;
        let allow: Vec<String> = options.field("Allow").unwrap().split(", ").map(str::to_lowercase).collect();
        for method in METHODS {
            let described = item.get(method);
            assert_eq!(described.is_some(), allow.iter().any(|allowed| allowed == method), "{method} {path}");
            let body = if method == "post" { "{\"title\":\"a\",\"body\":\"b\"}" } else { "{}" };
            let target = path.replace("{id}", "1");
            let answer = ask(&server, &method.to_uppercase(), &target, "", body).await;
            match described {
                None => assert_eq!(answer.status, 405, "{method} {path}"),
                Some(operation) => assert_fits(&doc, operation, &answer, &format!("{method} {path}")),
            }
        }
    }
}

#[tokio::test]
async fn its_errors_are_those_that_are_given() {
    let server = Server::start().await;
    let doc = description(&server).await;
    server.replica.fill(1, "b");
    for (method, path, target, fields, body, status) in [
        ("get", "/note", "/note?limit=0", "", "", 400),
        ("get", "/note/{id}", "/note/x", "", "", 400),
        ("get", "/note/{id}", "/note/9", "", "", 404),
        ("get", "/note/{id}", "/note/1", "If-Match: \"9-9\"\r\n", "", 412),
        ("put", "/note/{id}", "/note/9", "", "{}", 404),
        ("put", "/note/{id}", "/note/1", "Content-Encoding: gzip\r\n", "{}", 415),
        ("put", "/note/{id}", "/note/1", "Origin: null\r\n", "{}", 403),
        ("post", "/note", "/note", "If-Match: \"1-1\"\r\n", "{}", 412),
        ("post", "/note", "/note", "Accept: application/problem+json\r\n", "{}", 400),
    ] {
        let answer = ask(&server, &method.to_uppercase(), target, fields, body).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_fits(&doc, &doc["paths"][path][method], &answer, &format!("{method} {target}"));
    }
}

/// With tokens, whatever asks for one says so, and is done with one.
#[tokio::test]
async fn its_security_is_what_is_asked_for() {
    const TOKEN: &str = "0123456789abcdef";
    let server = Server::start_as(|config| config.tokens = Some(TOKEN.parse().unwrap())).await;
    let doc: Value = serde_json::from_str(include_str!("../openapi.json")).unwrap();
    let scheme = &doc["components"]["securitySchemes"]["token"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"bearer".into()));
    for (path, item) in doc["paths"].as_object().unwrap() {
        for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
            let (operation, what) = (&item[method], format!("{method} {path}"));
            let (method, target) = (method.to_uppercase(), path.replace("{id}", "1"));
            let bare = ask(&server, &method, &target, "", "").await;
            let is_open = operation.get("security") == Some(&Value::Array(Vec::new()));
            assert_eq!(bare.status == 401, !is_open, "{what}");
            assert_fits(&doc, operation, &bare, &what);
            if !is_open {
                let named = resolve(&doc, &operation["responses"]["401"])["headers"]["WWW-Authenticate"].is_object();
                assert!(named && bare.field("WWW-Authenticate").is_some(), "{what}");
            }
            let shown = ask(&server, &method, &target, &format!("Authorization: Bearer {TOKEN}\r\n"), "").await;
            assert_ne!(shown.status, 401, "{what}");
        }
    }
}

/// The status is described by itself, and the body has the members that its schema requires and no others.
fn assert_fits(doc: &Value, operation: &Value, answer: &Answer, what: &str) {
    let response = resolve(doc, &operation["responses"][answer.status.to_string()]);
    assert!(response.is_object(), "{what}: {} is not described", answer.status);
    let media = answer.field("Content-Type").unwrap();
    let schema = resolve(doc, &response["content"][media]["schema"]);
    if schema["type"] == "string" {
        return assert!(!answer.body.is_empty(), "{what}: an empty text");
    }
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let parts: Vec<&Value> = match schema.get("allOf") {
        Some(parts) => parts.as_array().unwrap().iter().map(|part| resolve(doc, part)).collect(),
        None => vec![schema],
    };
    let required = parts.iter().filter_map(|part| part["required"].as_array()).flatten();
    required.for_each(|member| assert!(body.get(member.as_str().unwrap()).is_some(), "{what}: {member} is missing"));
    if parts.iter().any(|part| part.get("properties").is_some()) {
        for member in body.as_object().unwrap().keys() {
            assert!(parts.iter().any(|part| part["properties"].get(member).is_some()), "{what}: {member} is extra");
        }
    }
}

fn resolve<'a>(doc: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref") {
        Some(target) => doc.pointer(target.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

#[tokio::test]
async fn its_words_and_limits_are_the_codes() {
    let server = Server::start().await;
    let doc = description(&server).await;
    let words = doc["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    for word in words {
        let code: Code = serde_json::from_value(word.clone()).unwrap();
        assert_eq!(word, code.word());
    }
    // A word more or less in `Code` must change this number and the description.
    assert_eq!(words.len(), 19);
    let parameters = &doc["components"]["parameters"];
    assert_eq!(parameters["idempotencyKey"]["schema"]["maxLength"], KEY_BYTES_MAX);
    for name in ["ifMatch", "ifNoneMatch"] {
        assert!(parameters[name]["description"].as_str().unwrap().contains(&format!("at most {IF_MATCH_MAX}.")));
    }
    let most = parameters["limit"]["schema"]["maximum"].as_u64().unwrap();
    for (limit, status) in [(most, 200), (most + 1, 400)] {
        assert_eq!(ask(&server, "GET", &format!("/note?limit={limit}"), "", "").await.status, status);
    }
}
