//! The document as a whole.

use serde_json::{Map, Value, json};

use super::{failures, kinds, operation::operation, schemas};
use crate::routes;

const ABOUT: &str = "One server holds a catalogue of LLMs and the only copy of their keys; clients hold a token and \
    call any LLM in the format of the API they know.\n\n\
    Every response carries `X-Request-Id`, taken over from the request when it is sane. HEAD is answered wherever GET \
    is. An unknown path is a 404 and another method a 405 with `Allow`, each with an error in the form that clients \
    of the path expect.";

/// The API's description: every route with its parameters, its bodies and each status it can answer.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in routes::all() {
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_ascii_lowercase(), operation(&route));
        }
    }
    let mut named = schemas::all();
    named.extend(kinds::all());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "mcpctl",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": named,
            "responses": failures::all(),
            "headers": {
                "RequestId": {"description": "the request's id: it is in the log and the audit trail",
                              "schema": {"type": "string"}},
                "Lease": {
                    "description": "a signed proof that the caller may view the Llm, if it hands out leases",
                    "schema": {"type": "string"},
                },
                "Version": {"description": "the resource's version, for If-Match", "schema": {"type": "string"}},
            },
            "parameters": {
                "ImpersonateUser": {
                    "name": "Impersonate-User", "in": "header",
                    "description": "do it for this user, by e-mail address: needs the operation `impersonate`",
                    "schema": {"type": "string"},
                },
                "RequestId": {
                    "name": "X-Request-Id", "in": "header",
                    "description": "the request's id; one that is not sane is replaced",
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
                },
                "IfMatch": {
                    "name": "If-Match", "in": "header",
                    "description": "the version that the change was made from, as its ETag; else it is refused",
                    "schema": {"type": "string", "pattern": "^(\\*|(W/)?\"?[0-9]{1,18}\"?)$"},
                },
            },
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer",
                          "description": "a session's token, or an McpToken's (`mcpctl_pat_…`)"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key",
                           "description": "the same token, as clients of Anthropic's API send it"},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().clone();
            let path = path.clone();
            methods.into_iter().map(move |(method, told)| (method.to_uppercase(), path.clone(), told))
        };
        paths.iter().flat_map(of_path).collect()
    }

    #[test]
    fn the_document_and_the_table_of_routes_are_equal() {
        let told: BTreeSet<(String, String)> =
            operations(&document()).into_iter().map(|(method, path, _)| (method, path)).collect();
        let routes = routes::all();
        let table: BTreeSet<(String, String)> =
            routes.iter().map(|route| (route.method.to_string(), route.path.clone())).collect();
        assert_eq!(told, table);
        assert_eq!(told.len(), routes.len());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let all = operations(&document);
        let ids: BTreeSet<&str> =
            all.iter().map(|(_, _, told)| told["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), all.len());
    }

    #[test]
    fn what_needs_a_token_says_so() {
        for (method, path, told) in operations(&document()) {
            let route = routes::all().into_iter().find(|route| route.method == *method && route.path == path);
            let is_open = route.unwrap().access == routes::Access::Open;
            assert_eq!(told["security"] == json!([]), is_open, "{method} {path}");
            assert_eq!(told["responses"].get("403").is_none(), is_open, "{method} {path}");
        }
    }
}
