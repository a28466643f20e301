//! Runs the golden corpus: a folder per case below `corpus/`, whose README explains the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;
use crate::{
    resource::LlmType,
    wire::{ChatRequest, SseDecoder},
};

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
    #[serde(rename = "type")]
    ty: Option<LlmType>,
    ask_usage: bool,
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
            ty: None,
            ask_usage: false,
        }
    }
}

/// A folder of cases: which API the caller speaks, and how the names of its files and the provider's end.
struct Direction {
    folder: &'static str,
    api: Api,
    caller: &'static str,
    provider: &'static str,
    /// The provider's type, where the case does not say.
    ty: LlmType,
    /// Whether the provider's bytes must be the caller's, but for what the case shows.
    exact: bool,
}

const fn direction(
    folder: &'static str,
    api: Api,
    caller: &'static str,
    provider: &'static str,
    ty: LlmType,
) -> Direction {
    Direction { folder, api, caller, provider, ty, exact: false }
}

const DIRECTIONS: [Direction; 6] = [
    direction("openai-to-anthropic", Api::ChatCompletions, "openai", "anthropic", LlmType::Anthropic),
    direction("anthropic-to-openai", Api::Messages, "anthropic", "openai", LlmType::OpenAi),
    direction("responses-to-openai", Api::Responses, "responses", "openai", LlmType::Vllm),
    direction("openai-to-gemini", Api::ChatCompletions, "openai", "gemini", LlmType::GeminiCli),
    Direction {
        exact: true,
        ..direction("openai-to-openai", Api::ChatCompletions, "openai", "provider", LlmType::OpenAi)
    },
    Direction {
        exact: true,
        ..direction("anthropic-to-anthropic", Api::Messages, "anthropic", "provider", LlmType::Anthropic)
    },
];

struct Case {
    direction: &'static Direction,
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

    fn ty(&self) -> LlmType {
        self.settings.ty.unwrap_or(self.direction.ty)
    }

    fn codec(&self) -> Codec {
        Codec::new(self.direction.api, self.ty()).unwrap()
    }

    /// The first of these files that is there.
    fn first(&mut self, files: &[String]) -> Option<Bytes> {
        files.iter().find_map(|file| self.bytes(file))
    }

    /// The message that a file holds.
    fn fault(&mut self, file: &str) -> String {
        let told = self.bytes(file).unwrap_or_default();
        String::from_utf8_lossy(told.trim_ascii()).into_owned()
    }

    /// Runs everything that the case has; says of what kinds that was.
    fn run(&mut self) -> Vec<&'static str> {
        let Direction { caller, provider, .. } = *self.direction;
        let mut kinds = Vec::new();
        let mut context = DecodeContext::new(&self.settings.llm, &self.settings.model, self.settings.created)
            .with_usage(self.settings.include_usage);
        if let Some(body) = self.bytes(&format!("request.{caller}.json")) {
            kinds.push("requests");
            match self.encode(&body) {
                Ok(sent) => {
                    self.request(&sent);
                    context = sent.context;
                }
                Err(error) => assert_eq!(error.message(), self.fault("request.error.txt"), "{}", self.name),
            }
        }
        let files = ["json", "body", "ndjson"].map(|end| format!("response.{provider}.{end}"));
        if let Some(body) = self.first(&files) {
            kinds.push("responses");
            match self.codec().decode(&body, &context) {
                Ok(answer) if self.direction.exact => assert_eq!(answer.body, body, "{}", self.name),
                Ok(answer) => self.compare(&format!("response.{caller}.json"), &answer.body),
                Err(error) => assert_eq!(error.message(), self.fault("response.error.txt"), "{}", self.name),
            }
        }
        let files = ["sse", "ndjson"].map(|end| format!("stream.{provider}.{end}"));
        if let Some(body) = self.first(&files) {
            kinds.push("streams");
            self.stream(&body, &context);
        }
        if let Some(body) = self.bytes(&format!("error.{provider}.body")) {
            kinds.push("errors");
            let error = self.codec().decode_error(self.settings.status, &body, &self.settings.llm);
            let body: Value = serde_json::from_slice(&error.body_json).unwrap();
            let got = serde_json::json!({"status": error.status, "body": body});
            self.compare(&format!("error.{caller}.json"), got.to_string().as_bytes());
        }
        assert!(!kinds.is_empty(), "{}: nothing to run", self.name);
        let files = fs::read_dir(&self.folder).unwrap().map(|file| file.unwrap().file_name());
        let files: BTreeSet<String> = files.map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(files, self.used, "{}: files that nothing read", self.name);
        kinds
    }

    fn encode(&self, body: &Bytes) -> crate::Result<ProviderRequest> {
        let settings = Settings {
            llm_name: &self.settings.llm,
            model: &self.settings.model,
            max_tokens: self.settings.max_tokens,
            strict: self.settings.strict,
            defaults: self.settings.defaults.as_ref(),
            created: self.settings.created,
            ask_usage: self.settings.ask_usage,
            ty: Some(self.ty()),
            ..Settings::default()
        };
        self.codec().encode(&ChatRequest::scan_for(body, self.direction.api.required())?, &settings)
    }

    fn request(&mut self, sent: &ProviderRequest) {
        let file = format!("request.{}.json", self.direction.provider);
        if self.direction.exact {
            let wanted = self.bytes(&file).unwrap_or_else(|| panic!("{}: no {file}", self.name));
            assert_eq!(sent.body, wanted, "{}", self.name);
        } else if let Some(wanted) = self.bytes(&format!("request.{}.txt", self.direction.provider)) {
            assert_eq!(sent.body, wanted, "{}", self.name);
        } else {
            self.compare(&file, &sent.body);
        }
        let dropped = self.json("dropped.json").unwrap_or_else(|| Value::Array(Vec::new()));
        assert_eq!(Value::from(sent.dropped.clone()), dropped, "{}: dropped", self.name);
    }

    fn stream(&mut self, body: &Bytes, context: &DecodeContext) {
        let run = |size: usize| {
            let mut decoder = self.codec().stream(context.clone());
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
        let wanted = self.bytes(&format!("stream.{}.sse", self.direction.caller)).unwrap_or_default();
        let shown = String::from_utf8_lossy(&got);
        if self.direction.exact {
            assert_eq!(shown, String::from_utf8_lossy(&wanted), "{}", self.name);
        }
        assert_eq!(events(&got), events(&wanted), "{}\n{shown}", self.name);
        let is_end = |event: &Value| match self.direction.caller {
            "openai" => event == "[DONE]",
            "anthropic" => event["type"] == "message_stop" || event["type"] == "error",
            _ => {
                let ends = ["response.completed", "response.incomplete", "response.failed", "error"];
                ends.iter().any(|end| event["type"] == *end)
            }
        };
        assert_eq!(events(&got).iter().filter(|event| is_end(event)).count(), 1, "{}: {shown}", self.name);
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

/// What the README says of a folder: rules' names, and the cases of each.
fn listed(readme: &str, folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = readme.split("\n### ").find(|section| section.starts_with(&format!("`{folder}`")));
    let section = section.unwrap_or_else(|| panic!("the README has no section for {folder}"));
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = line.trim_matches('|').rsplitn(3, '|').map(str::trim).collect();
        let [cases, tag, _] = cells[..] else { panic!("{folder}: a row of other cells: {line}") };
        let tag = tag.trim_matches('`').to_owned();
        let name = |end: &str| if end == "·" { tag.clone() } else { format!("{tag}-{end}") };
        let cases: BTreeSet<String> = cases.split(", ").map(name).collect();
        assert!(rows.insert(tag.clone(), cases).is_none(), "{folder}: two rows for {tag}");
    }
    rows
}

/// The rows that the folder's cases make, for the tags that the README has.
fn found(
    tags: &BTreeMap<String, BTreeSet<String>>,
    names: &BTreeSet<String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in names {
        let fits = |tag: &&String| {
            name.strip_prefix(tag.as_str()).is_some_and(|end| end.is_empty() || end.starts_with('-'))
        };
        let tag = tags.keys().filter(fits).max_by_key(|tag| tag.len());
        let tag = tag.unwrap_or_else(|| panic!("{name} belongs to no rule of the README"));
        rows.entry(tag.clone()).or_default().insert(name.clone());
    }
    rows
}

#[test]
fn the_corpus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (mut total, mut run) = (0, BTreeSet::new());
    for direction in &DIRECTIONS {
        let (mut names, mut kinds) = (BTreeSet::new(), BTreeMap::new());
        for entry in fs::read_dir(root.join(direction.folder)).unwrap() {
            let folder = entry.unwrap().path();
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            names.insert(name.clone());
            let (settings, used) = (CaseSettings::default(), BTreeSet::new());
            let mut case = Case { direction, name, folder, settings, used };
            if let Some(settings) = case.json("settings.json") {
                case.settings = serde_json::from_value(settings).unwrap();
            }
            for kind in case.run() {
                *kinds.entry(kind).or_insert(0) += 1;
            }
        }
        println!("{}: {} cases, of them {kinds:?}", direction.folder, names.len());
        let rules = listed(&readme, direction.folder);
        assert_eq!(
            rules,
            found(&rules, &names),
            "{}: what the README lists and what is there",
            direction.folder
        );
        total += names.len();
        run.insert(direction.folder.to_owned());
    }
    let folders =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let folders: BTreeSet<String> =
        folders.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(folders, run, "folders that were not run");
    println!("{total} cases in all");
}
