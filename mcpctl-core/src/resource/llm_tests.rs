use serde_json::{Value, json};

use super::*;
use crate::{
    error::Result,
    resource::{Reading, kinds},
};

fn read(body: Value) -> Result<(String, Reading)> {
    kinds::LLMS.read_new(body.as_object().cloned().unwrap())
}

fn fault(body: Value) -> String {
    read(body).unwrap_err().message().to_owned()
}

#[test]
fn defaults_are_filled_in() {
    let (name, reading) = read(json!({"name": "gpt", "type": "openai", "model": "gpt-4o"})).unwrap();
    assert_eq!(name, "gpt");
    assert_eq!(
        Value::Object(reading.spec),
        json!({"type": "openai", "model": "gpt-4o", "tier": "fast", "url": "", "description": "",
               "apiKeyRef": null, "extraConfig": {}})
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    let message = fault(
        json!({"name": "Bad Name", "type": "openia", "teir": "fast", "url": "ftp://x", "description": 7}),
    );
    for part in [
        "name: must be 1 to 100 characters",
        "teir: unknown field (did you mean `tier`?)",
        "type: must be one of anthropic, openai, deepseek, vllm, ollama, gemini-cli, not `openia`",
        "model: is required",
        "url: must be an absolute http or https URL",
        "description: must be a string",
    ] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn local_types_need_a_url() {
    for ty in ["vllm", "ollama"] {
        let message = fault(json!({"name": "a", "type": ty, "model": "m"}));
        assert_eq!(message, format!("url: is required for type {ty}, which has no default"));
    }
    read(json!({"name": "a", "type": "vllm", "model": "m", "url": "http://127.0.0.1:8000"})).unwrap();
}

#[test]
fn addresses_of_metadata_services_are_refused_in_every_spelling() {
    for url in [
        "http://169.254.169.254",
        "http://0xA9FEA9FE/",
        "http://2852039166",
        "http://0251.0376.0251.0376",
        "http://[::ffff:169.254.169.254]",
        "http://[64:ff9b::a9fe:a9fe]",
        "http://[2002:a9fe:a9fe::1]",
        "http://[fe80::1]",
        "http://[fd00:ec2::254]",
        "http://metadata.google.internal",
        "http://metadata.google.internal./",
        "http://0.0.0.0:80",
        "http://user:pass@example.com",
        "http://example.com/?q=1",
        "file:///etc/passwd",
        "//example.com",
        "example.com",
    ] {
        assert!(url_fault(url).is_some(), "{url}");
    }
    for url in [
        "http://127.0.0.1:8000",
        "http://10.1.2.3",
        "https://api.openai.com/v1",
        "http://[::1]:11434",
        "http://vllm:8000",
    ] {
        assert_eq!(url_fault(url), None, "{url}");
    }
}

#[test]
fn settings_with_a_meaning_are_checked() {
    let llm = |extra: Value| json!({"name": "a", "type": "openai", "model": "m", "extraConfig": extra});
    read(llm(
        json!({"timeoutMs": 1000, "maxInFlight": 1, "headers": {"x-team": "a"}, "allowedModels": ["gpt-*"], "anything": [1]}),
    ))
    .unwrap();
    for (extra, path) in [
        (json!({"timeoutMs": 0}), "extraConfig.timeoutMs"),
        (json!({"timeoutMs": "1"}), "extraConfig.timeoutMs"),
        (json!({"headers": {"Host": "evil"}}), "extraConfig.headers"),
        (json!({"headers": {"x": "a\r\nb"}}), "extraConfig.headers"),
        (json!({"allowedModels": "gpt"}), "extraConfig.allowedModels"),
        (json!({"strict": "yes"}), "extraConfig.strict"),
        (json!({"maxInFlight": 0}), "extraConfig.maxInFlight"),
        (json!({"maxInFlight": 1.5}), "extraConfig.maxInFlight"),
        (json!({"maxInFlight": -1}), "extraConfig.maxInFlight"),
        (json!({"maxInFlight": "3"}), "extraConfig.maxInFlight"),
        (json!({"maxInFlight": null}), "extraConfig.maxInFlight"),
    ] {
        let message = fault(llm(extra));
        assert!(message.starts_with(path), "{message}");
    }
}

/// Every setting with a meaning: a good value, a bad one, and a row in the README.
#[test]
fn every_setting_with_a_meaning_is_checked_and_documented() {
    let readme = include_str!("../../../README.md");
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    for (name, good, bad) in [
        ("headers", json!({"x-team": "a"}), json!([])),
        ("timeoutMs", json!(1000), json!(86_400_001)),
        ("connectTimeoutMs", json!(1), json!(-1)),
        ("maxTokens", json!(1), json!(0)),
        ("anthropicVersion", json!("2023-06-01"), json!("")),
        ("allowedModels", json!(["gpt-*"]), json!([1])),
        ("defaults", json!({"top_p": 1}), json!("top_p")),
        ("strict", json!(true), json!("true")),
        ("maxInFlight", json!(1), json!(0)),
    ] {
        let llm =
            |value: Value| json!({"name": "a", "type": "openai", "model": "m", "extraConfig": {name: value}});
        read(llm(good)).unwrap();
        let message = fault(llm(bad));
        assert!(message.starts_with(&format!("extraConfig.{name}: must ")), "{message}");
        let cell = |row: &&str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`")));
        assert!(rows.iter().any(cell), "{name} has no row in the README");
    }
}
