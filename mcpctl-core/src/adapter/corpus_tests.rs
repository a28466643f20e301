//! Runs the golden corpus: a folder per case below `corpus/`, whose README explains the files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;
use crate::wire::{ChatRequest, SseDecoder};

/// What every row of the translation is called; a case's name begins with its row.
const ROWS: &[&str] = &[
    "request-system-leading",
    "request-system-later",
    "request-turns",
    "request-tool-results",
    "request-tool-calls",
    "request-names",
    "request-tools",
    "request-tool-choice",
    "request-parallel",
    "request-max-tokens",
    "request-temperature",
    "request-top",
    "request-stop",
    "request-user",
    "request-reasoning",
    "request-format",
    "request-parts",
    "request-cache",
    "request-thinking-blocks",
    "request-dropped",
    "request-stream",
    "response-basics",
    "response-text",
    "response-tools",
    "response-server-tools",
    "response-thinking",
    "response-finish",
    "response-usage",
    "stream-start",
    "stream-tools",
    "stream-arguments",
    "stream-text",
    "stream-thinking",
    "stream-usage",
    "stream-stop",
    "stream-ping",
    "stream-error",
    "stream-cut-off",
    "error-same",
    "error-credentials",
    "error-rate",
    "error-server",
    "error-html",
];

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct CaseSettings {
    llm: String,
    model: String,
    created: i64,
    max_tokens: Option<u64>,
    strict: bool,
    defaults: Option<Map<String, Value>>,
    include_usage: bool,
    status: u16,
}

impl Default for CaseSettings {
    fn default() -> Self {
        Self {
            llm: "claude".to_owned(),
            model: "claude-test".to_owned(),
            created: 1_700_000_000,
            max_tokens: None,
            strict: false,
            defaults: None,
            include_usage: false,
            status: 400,
        }
    }
}

struct Case {
    name: String,
    folder: PathBuf,
    settings: CaseSettings,
    used: BTreeSet<String>,
}

impl Case {
    fn bytes(&mut self, file: &str) -> Option<Bytes> {
        let bytes = fs::read(self.folder.join(file)).ok()?;
        self.used.insert(file.to_owned());
        Some(bytes.into())
    }

    fn json(&mut self, file: &str) -> Option<Value> {
        let bytes = self.bytes(file)?;
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}/{file}: {error}", self.name)))
    }

    /// Compares as values, and inside tools' inputs and schemas also the order of the keys.
    fn compare(&mut self, file: &str, got: &[u8]) {
        let wanted = self.json(file).unwrap_or_else(|| panic!("{}: no {file}", self.name));
        let got: Value = serde_json::from_slice(got).unwrap();
        assert_eq!(got, wanted, "{}/{file}\n got {got:#}\n want {wanted:#}", self.name);
        let sorted = |value| {
            let mut texts = ordered(value);
            texts.sort();
            texts
        };
        assert_eq!(sorted(&got), sorted(&wanted), "{}/{file}: order of keys", self.name);
    }

    fn run(&mut self) {
        let mut context = DecodeContext::new(&self.settings.llm, &self.settings.model, self.settings.created)
            .with_usage(self.settings.include_usage);
        if let Some(body) = self.bytes("request.openai.json") {
            match self.encode(&body) {
                Ok(sent) => {
                    self.compare("request.anthropic.json", &sent.body);
                    let dropped = self.json("dropped.json").unwrap_or_else(|| Value::Array(Vec::new()));
                    assert_eq!(Value::from(sent.dropped), dropped, "{}: dropped", self.name);
                    context = sent.context;
                }
                Err(error) => {
                    let wanted = self.bytes("request.error.txt");
                    let wanted = wanted.as_deref().map(|text| String::from_utf8_lossy(text.trim_ascii()));
                    assert_eq!(
                        Some(error.message()),
                        wanted.as_deref(),
                        "{}: the request's fault",
                        self.name
                    );
                }
            }
        }
        if let Some(body) = self.bytes("response.anthropic.json") {
            let answer = Adapter::Anthropic.decode(&body, &context).unwrap();
            self.compare("response.openai.json", &answer.body);
        }
        if let Some(body) = self.bytes("stream.anthropic.sse") {
            self.stream(&body, &context);
        }
        if let Some(body) = self.bytes("error.anthropic.body") {
            let error = Adapter::Anthropic.decode_error(self.settings.status, &body, &self.settings.llm);
            let body: Value = serde_json::from_slice(&error.body_json).unwrap();
            let got = serde_json::json!({"status": error.status, "body": body});
            self.compare("error.openai.json", got.to_string().as_bytes());
        }
        let files = fs::read_dir(&self.folder).unwrap().map(|file| file.unwrap().file_name());
        let files: BTreeSet<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(files, self.used, "{}: files that nothing read", self.name);
    }

    fn encode(&self, body: &Bytes) -> crate::Result<ProviderRequest> {
        let settings = Settings {
            llm_name: &self.settings.llm,
            model: &self.settings.model,
            max_tokens: self.settings.max_tokens,
            strict: self.settings.strict,
            defaults: self.settings.defaults.as_ref(),
            created: self.settings.created,
            ..Settings::default()
        };
        Adapter::Anthropic.encode(&ChatRequest::scan(body)?, &settings)
    }

    fn stream(&mut self, body: &Bytes, context: &DecodeContext) {
        let run = |size: usize| {
            let mut decoder = Adapter::Anthropic.stream(context.clone());
            let mut out = Vec::new();
            for read in body.chunks(size) {
                decoder.push(Bytes::copy_from_slice(read), &mut out);
            }
            decoder.finish(&mut out);
            (out.concat(), decoder.summary().clone())
        };
        let (got, summary) = run(body.len().max(1));
        for size in [1, 7, 100] {
            assert_eq!(run(size), (got.clone(), summary.clone()), "{}: reads of {size} bytes", self.name);
        }
        let wanted = self.bytes("stream.openai.sse").unwrap_or_default();
        assert_eq!(events(&got), events(&wanted), "{}\n{}", self.name, String::from_utf8_lossy(&got));
        let text = String::from_utf8(got).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n") && text.matches("[DONE]").count() == 1, "{}", self.name);
    }
}

/// A stream's events as values; what is no JSON as a string.
fn events(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = SseDecoder::new();
    decoder.push(bytes).unwrap();
    decoder.finish().unwrap();
    std::iter::from_fn(|| decoder.next_event())
        .map(|event| serde_json::from_str(&event.data).unwrap_or(Value::from(event.data)))
        .collect()
}

/// The texts of all inputs and schemas, in which the order of keys counts.
fn ordered(value: &Value) -> Vec<String> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match key.as_str() {
                "input" | "input_schema" => vec![value.to_string()],
                _ => ordered(value),
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(ordered).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/openai-to-anthropic");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&root).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.is_dir() {
            continue;
        }
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        names.insert(name.clone());
        let mut case = Case { name, folder, settings: CaseSettings::default(), used: BTreeSet::new() };
        if let Some(settings) = case.json("settings.json") {
            case.settings = serde_json::from_value(settings).unwrap();
        }
        case.run();
    }
    println!("{} cases of openai-to-anthropic", names.len());
    for row in ROWS {
        assert!(names.iter().any(|name| name.starts_with(row)), "no case for {row}");
    }
    for name in &names {
        assert!(ROWS.iter().any(|row| name.starts_with(row)), "{name} belongs to no row");
    }
}
