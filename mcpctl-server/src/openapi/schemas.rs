//! Bodies that are no resources, and errors.

use mcpctl_core::{
    adapter::Api,
    rbac::{Action, Operation},
    registry::{LlmStatus, OnConflict},
    resource::{Kind, kinds},
    wire::Required,
};
use serde_json::{Map, Value, json};

use super::kinds::{Use, of};

/// Every schema that is not a kind's.
pub(super) fn all() -> Map<String, Value> {
    let parts = [errors(), session(), access(), events(), apply(), backup(), others()];
    let of_part = |part| match part {
        Value::Object(part) => part,
        _ => Map::new(),
    };
    parts.into_iter().flat_map(of_part).collect()
}

/// A reference to one of them.
pub(super) fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The part of a request to an Llm that the server reads; the rest is the provider's business.
pub(super) fn request(api: Api, names_llm: bool) -> Value {
    let model = if names_llm {
        json!({"type": "string", "minLength": 1, "description": "the Llm's name"})
    } else {
        json!({"type": ["string", "null"], "description": "the provider's model; else the Llm's own"})
    };
    let mut properties = Map::from_iter([("model".to_owned(), model)]);
    if api.streams() {
        properties.insert("stream".to_owned(), json!({"type": ["boolean", "null"]}));
    }
    let mut required = Vec::new();
    if names_llm {
        required.push("model");
    }
    match api.required() {
        Required::Nothing => {}
        Required::Field(name) => {
            properties.insert(name.to_owned(), json!({"not": {"type": "null"}}));
            required.push(name);
        }
        Required::List(name) => {
            properties.insert(name.to_owned(), json!({"type": "array", "minItems": 1}));
            required.push(name);
        }
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn text(about: &str) -> Value {
    json!({"type": "string", "description": about})
}

fn errors() -> Value {
    let message = text("what is wrong, fit to be shown");
    json!({
        "Error": {
            "type": "object", "description": "an error of this API",
            "properties": {"error": message, "status": {"type": "string", "const": "sealed"}},
            "required": ["error"], "additionalProperties": false,
        },
        "OpenAiError": {
            "type": "object", "description": "an error as OpenAI's API has it",
            "properties": {"error": {
                "type": "object",
                "properties": {
                    "message": message, "type": {"type": ["string", "null"]}, "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "integer", "null"]},
                },
                "required": ["message"],
            }},
            "required": ["error"],
        },
        "AnthropicError": {
            "type": "object", "description": "an error as Anthropic's API has it",
            "properties": {
                "type": {"type": "string", "const": "error"},
                "error": {
                    "type": "object", "properties": {"type": {"type": "string"}, "message": message},
                    "required": ["type", "message"],
                },
            },
            "required": ["type", "error"],
        },
        "CallError": {
            "description": "an error of this API, or a provider's",
            "anyOf": [named("Error"), named("OpenAiError")],
        },
    })
}

fn session() -> Value {
    let password = json!({"type": "string", "maxLength": 1024});
    json!({
        "Login": {
            "type": "object",
            "properties": {"email": {"type": "string"}, "password": password},
            "required": ["email", "password"], "additionalProperties": false,
        },
        "NewPassword": {
            "type": "object",
            "properties": {"currentPassword": password, "newPassword": {"type": "string", "minLength": 8, "maxLength": 1024}},
            "required": ["currentPassword", "newPassword"], "additionalProperties": false,
        },
        "Session": {
            "type": "object",
            "properties": {
                "token": text("to be sent as the bearer token"),
                "expiresAt": {"type": "string", "format": "date-time"},
                "user": of(kinds::USERS, Use::Shown),
            },
            "required": ["token", "expiresAt", "user"], "additionalProperties": false,
        },
        "Whoami": {
            "type": "object",
            "properties": {
                "user": {"anyOf": [of(kinds::USERS, Use::Shown), {"type": "null"}]},
                "token": text("the McpToken's name, when it is one"),
                "impersonator": text("who acts for the user"),
            },
            "required": ["user"], "additionalProperties": false,
        },
    })
}

fn access() -> Value {
    let words: Vec<&str> =
        Action::ALL.map(Action::as_str).into_iter().chain(Operation::ALL.map(Operation::as_str)).collect();
    json!({
        "Question": {
            "type": "object", "description": "an action on a kind or a resource, or an operation",
            "properties": {
                "action": {"type": "string", "enum": words},
                "resource": text("a kind; none for an operation"),
                "name": text("one resource of it"),
            },
            "required": ["action"], "additionalProperties": false,
        },
        "CanI": {
            "type": "object",
            "properties": {
                "allowed": {"type": "boolean"},
                "reason": text("why, in one sentence"),
                "binding": text("the RBAC definition that decides"),
            },
            "required": ["allowed", "reason"], "additionalProperties": false,
        },
        "WhoCan": {
            "type": "object",
            "properties": {"subjects": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "kind": {"type": "string", "enum": ["User", "Group", "McpToken"]},
                    "name": {"type": "string"},
                    "binding": text("the RBAC definition that decides"),
                    "group": text("the group through which a user may"),
                },
                "required": ["kind", "name", "binding"], "additionalProperties": false,
            }}},
            "required": ["subjects"], "additionalProperties": false,
        },
    })
}

fn events() -> Value {
    json!({
        "AuditEvent": {
            "type": "object", "description": "something that happened; which further fields there are says its kind",
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "at": {"type": "string", "format": "date-time"},
                "kind": {"type": "string"},
                "user": {"type": "string"},
                "userId": {"type": "string"},
                "token": {"type": "string"},
                "tokenSha": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                "impersonator": {"type": "string"},
                "requestId": {"type": "string"},
            },
            "required": ["id", "at", "kind"],
        },
        "AuditEvents": {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": named("AuditEvent")},
                "continue": text("what to go on with; absent at the end"),
            },
            "required": ["items"], "additionalProperties": false,
        },
    })
}

fn apply() -> Value {
    let kinds: Vec<&str> = Kind::all().flat_map(Kind::names).collect();
    let singular: Vec<&str> = Kind::all().map(|kind| kind.singular).collect();
    json!({
        "Apply": {
            "type": "object",
            "properties": {
                "resources": {"type": "array", "items": {
                    "type": "object",
                    "description": "a resource as it is to be: its kind, its name, and its fields as for making one",
                    "properties": {"kind": {"type": "string", "enum": kinds}, "name": {"type": "string"}},
                    "required": ["kind", "name"],
                }},
                "dryRun": {"type": "boolean", "description": "only find out what would happen"},
                "atomic": {"type": "boolean", "description": "all in one transaction, or nothing"},
            },
            "required": ["resources"], "additionalProperties": false,
        },
        "Checked": {
            "type": "object",
            "properties": {
                "ok": {"type": "boolean", "description": "whether the backend can be used"},
                "message": text("what it said, or what went wrong"),
                "cause": text("what sort of failure it was"),
            },
            "required": ["ok", "message"], "additionalProperties": false,
        },
        "Migrate": {
            "type": "object",
            "properties": {
                "from": text("the backend that holds the Secrets now"),
                "to": text("the backend that is to hold them"),
                "names": {"type": "array", "items": {"type": "string"}, "description": "only these Secrets"},
                "keepSource": {"type": "boolean", "description": "leave the values where they were, too"},
                "dryRun": {"type": "boolean", "description": "only find out what would happen"},
            },
            "required": ["from", "to"], "additionalProperties": false,
        },
        "Migrated": {
            "type": "object",
            "properties": {
                "migrated": {"type": "array", "items": {"type": "string"}},
                "skipped": {"type": "array", "items": {"type": "string"}},
                "failed": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "error": text("why it was not moved")},
                    "required": ["name", "error"], "additionalProperties": false,
                }},
            },
            "required": ["migrated", "skipped", "failed"], "additionalProperties": false,
        },
        "ApplyResults": {
            "type": "object",
            "properties": {"results": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "kind": {"type": "string", "enum": singular},
                    "name": {"type": "string"},
                    "outcome": {"type": "string", "enum": ["created", "updated", "unchanged", "error"]},
                    "error": text("why it was refused"),
                    "token": text("the value of a new McpToken: nothing ever shows it again"),
                },
                "required": ["kind", "name", "outcome"], "additionalProperties": false,
            }}},
            "required": ["results"], "additionalProperties": false,
        },
    })
}

fn backup() -> Value {
    let singular: Vec<&str> = Kind::all().map(|kind| kind.singular).collect();
    let resources = json!({"type": "array", "items": {
        "type": "object",
        "description": "a resource as it is shown, with its kind; a user with passwordHash, a secret perhaps with data",
        "properties": {"kind": {"type": "string", "enum": singular}, "name": {"type": "string"}},
        "required": ["kind", "name", "id", "version", "createdAt", "updatedAt"],
    }});
    json!({
        "BackupOrder": {
            "type": "object",
            "properties": {"withValues": {"type": "boolean", "description": "with the values of Secrets"}},
            "additionalProperties": false,
        },
        "Backup": {
            "type": "object",
            "properties": {
                "manifest": {
                    "type": "object",
                    "properties": {
                        "serverVersion": {"type": "string"},
                        "createdAt": {"type": "string", "format": "date-time"},
                        "withValues": {"type": "boolean"},
                        "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
                    },
                    "required": ["serverVersion", "createdAt", "withValues", "counts"],
                    "additionalProperties": false,
                },
                "resources": resources,
            },
            "required": ["manifest", "resources"], "additionalProperties": false,
        },
        "RestoreOrder": {
            "type": "object",
            "properties": {
                "resources": resources,
                "onConflict": {"type": "string", "enum": OnConflict::NAMES, "description": "where something differs"},
                "dryRun": {"type": "boolean", "description": "only find out what would happen"},
            },
            "required": ["resources"], "additionalProperties": false,
        },
        "RestoreResults": {
            "type": "object",
            "properties": {"results": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "kind": {"type": "string", "enum": singular},
                    "name": {"type": "string"},
                    "outcome": {"type": "string", "enum": ["created", "updated", "unchanged", "skipped", "held", "error"]},
                    "error": text("why it was refused; then nothing was restored"),
                    "note": text("what to know about it"),
                },
                "required": ["kind", "name", "outcome"], "additionalProperties": false,
            }}},
            "required": ["results"], "additionalProperties": false,
        },
    })
}

fn others() -> Value {
    let statuses = LlmStatus::ALL.map(LlmStatus::as_str);
    json!({
        "Status": {
            "type": "object", "properties": {"status": {"type": "string", "const": "ok"}},
            "required": ["status"], "additionalProperties": false,
        },
        "Keys": {
            "type": "object", "description": "a JWK Set (RFC 7517)",
            "properties": {"keys": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "kty": {"const": "OKP"}, "crv": {"const": "Ed25519"}, "x": {"type": "string"},
                    "kid": {"type": "string"}, "alg": {"const": "EdDSA"}, "use": {"const": "sig"},
                },
                "required": ["kty", "crv", "x", "kid", "alg", "use"], "additionalProperties": false,
            }}},
            "required": ["keys"], "additionalProperties": false,
        },
        "Version": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}, "api": {"type": "string"}},
            "required": ["name", "version", "api"], "additionalProperties": false,
        },
        "ProjectLlm": {
            "type": "object", "description": "where a project's reference to an Llm leads",
            "properties": {
                "status": {"type": "string", "enum": statuses},
                "llm": text("the Llm that is used: the one referred to, or the default"),
                "model": text("the model it is asked for"),
            },
            "required": ["status"], "additionalProperties": false,
        },
        "Model": {
            "type": "object", "description": "an Llm, as OpenAI's API lists models",
            "properties": {
                "id": text("its name"), "object": {"type": "string", "const": "model"},
                "created": {"type": "integer"}, "owned_by": text("the provider's type"),
            },
            "required": ["id", "object", "created", "owned_by"], "additionalProperties": false,
        },
        "Models": {
            "type": "object",
            "properties": {
                "object": {"type": "string", "const": "list"},
                "data": {"type": "array", "items": named("Model")},
            },
            "required": ["object", "data"], "additionalProperties": false,
        },
    })
}
