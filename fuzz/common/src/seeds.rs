//! The golden corpus, as what inputs are made of.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::Target;

/// A file of the corpus.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Its path inside the corpus.
    pub path: String,
    /// Its bytes.
    pub text: Vec<u8>,
    /// What they mean.
    pub form: Form,
}

/// What a seed is made of.
#[derive(Clone, Debug)]
pub enum Form {
    /// One JSON value.
    Json(Value),
    /// Pieces of a stream.
    Frames(Vec<Frame>),
    /// Neither.
    Bytes(Vec<u8>),
}

/// A piece of a stream: an event or a line.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What stands before its data.
    pub head: String,
    /// The data.
    pub data: Data,
    /// What stands behind it.
    pub end: &'static str,
}

/// The data of a piece of a stream.
#[derive(Clone, Debug)]
pub enum Data {
    /// JSON.
    Json(Value),
    /// Anything else.
    Text(String),
}

/// All seeds, and the words in them.
#[derive(Debug)]
pub struct Seeds {
    /// The files.
    pub all: Vec<Seed>,
    /// Keys of objects.
    pub keys: Vec<String>,
    /// Short strings.
    pub words: Vec<String>,
}

impl Seeds {
    /// Reads the corpus.
    ///
    /// # Panics
    ///
    /// When it is not there.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mcpctl-core/corpus");
        let mut all = Vec::new();
        read_folder(&root, "", &mut all);
        let (mut keys, mut words) = (BTreeSet::new(), BTreeSet::new());
        for seed in &all {
            for value in seed.form.values() {
                collect(value, &mut keys, &mut words);
            }
        }
        Self { all, keys: keys.into_iter().collect(), words: words.into_iter().collect() }
    }

    /// Those that a target takes.
    pub fn of(&self, target: &Target) -> Vec<&Seed> {
        let fits = |seed: &&Seed| {
            target.seeds.iter().any(|(folder, file)| {
                let name = seed.path.rsplit('/').next().unwrap_or_default();
                seed.path.starts_with(folder) && name.starts_with(file)
            })
        };
        self.all.iter().filter(fits).collect()
    }
}

fn read_folder(folder: &Path, prefix: &str, found: &mut Vec<Seed>) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("the corpus").map(|entry| entry.unwrap()).collect();
    // The same seed must give the same inputs wherever the files lie.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), found);
        } else if !name.ends_with(".md") && !name.ends_with(".txt") {
            let text = fs::read(entry.path()).expect("a file of the corpus");
            found.push(Seed { path, form: Form::of(&text), text });
        }
    }
}

impl Form {
    fn of(text: &[u8]) -> Self {
        if let Ok(value) = serde_json::from_slice(text) {
            return Self::Json(value);
        }
        let Ok(text) = std::str::from_utf8(text) else { return Self::Bytes(text.to_vec()) };
        let separator = if text.contains("\n\n") { "\n\n" } else { "\n" };
        let frames: Vec<Frame> =
            text.split_inclusive(separator).map(|text| Frame::of(text, separator)).collect();
        match frames.iter().any(|frame| matches!(frame.data, Data::Json(_))) {
            true => Self::Frames(frames),
            false => Self::Bytes(text.into()),
        }
    }

    /// All JSON in it.
    pub fn values(&self) -> Vec<&Value> {
        match self {
            Self::Json(value) => vec![value],
            Self::Frames(frames) => frames
                .iter()
                .filter_map(|frame| match &frame.data {
                    Data::Json(value) => Some(value),
                    Data::Text(_) => None,
                })
                .collect(),
            Self::Bytes(_) => Vec::new(),
        }
    }

    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Json(value) => value.to_string().into_bytes(),
            Self::Frames(frames) => {
                let mut text = String::new();
                for Frame { head, data, end } in frames {
                    text.push_str(head);
                    match data {
                        Data::Json(value) => text.push_str(&value.to_string()),
                        Data::Text(data) => text.push_str(data),
                    }
                    text.push_str(end);
                }
                text.into_bytes()
            }
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Frame {
    fn of(text: &str, end: &'static str) -> Self {
        let body = text.strip_suffix(end).unwrap_or(text);
        let end = if body.len() == text.len() { "" } else { end };
        let at = body.find('{').unwrap_or(body.len());
        let (head, data) = body.split_at(at);
        let data = serde_json::from_str(data).map_or_else(|_| Data::Text(data.to_owned()), Data::Json);
        Self { head: head.to_owned(), data, end }
    }
}

fn collect(value: &Value, keys: &mut BTreeSet<String>, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                keys.insert(key.clone());
                collect(value, keys, words);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, keys, words)),
        Value::String(text) if text.len() <= 40 => drop(words.insert(text.clone())),
        _ => {}
    }
}
