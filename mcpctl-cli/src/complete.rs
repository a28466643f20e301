//! What can stand at the cursor: commands and flags from the command line's definition, kinds from their table,
//! names from the server.

use std::{ffi::OsStr, ffi::OsString, sync::Arc, time::Duration};

use clap::{Arg, ArgMatches, Command};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter, complete as candidates,
};
use mcpctl_core::resource::{Kind, kinds, steers};
use serde_json::Value;

use crate::{cli::Global, config::Config, context::Context, output::FORMATS, sets};

/// Whoever pressed Tab waits no longer for the server.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many names are offered at most: more help nobody.
const MOST: usize = 500;

/// A candidate and what it is.
pub(crate) struct Candidate {
    pub(crate) value: String,
    pub(crate) help: String,
}

/// What may stand in an argument, known by the name that its value has in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A kind.
    Kind,
    /// A kind, or a kind and one of its fields.
    KindField,
    /// A kind and then names, or `KIND/NAME`. The flag: whether audit events and `all` are welcome as well.
    Target(bool),
    /// The name of a resource whose kind another argument holds.
    NameOf(&'static str),
    /// The name of a resource.
    Name(Kind),
    /// `SECRET/KEY`.
    SecretKey,
    /// What may be done to a resource, or an operation.
    Action,
    /// A local provider that the configuration knows.
    Provider,
    /// A server that the configuration knows.
    Context,
    /// A set that an earlier apply made.
    Set,
    /// How to print.
    Format,
    /// A file or folder.
    File,
}

/// The convention: an argument whose value is called so in the help is completed so.
const HOLDS: &[(&str, Holds)] = &[
    ("KIND", Holds::Kind),
    ("RESOURCE", Holds::Kind),
    ("KIND[.FIELD]", Holds::KindField),
    ("KIND [NAME]", Holds::Target(true)),
    ("KIND NAME", Holds::Target(false)),
    ("NAME FIELD=VALUE", Holds::NameOf("kind")),
    ("LLM", Holds::Name(kinds::LLMS)),
    ("BACKEND", Holds::Name(kinds::SECRET_BACKENDS)),
    ("EMAIL", Holds::Name(kinds::USERS)),
    ("SECRET/KEY", Holds::SecretKey),
    ("ACTION", Holds::Action),
    ("PROVIDER", Holds::Provider),
    ("CONTEXT", Holds::Context),
    ("SET", Holds::Set),
    ("FORMAT", Holds::Format),
    ("FILE", Holds::File),
];

const ACTIONS: &[&str] = &["view", "create", "edit", "delete", "run", "expose"];

/// What can stand in place of the last of `words`, the first of which is the program.
pub(crate) fn complete(command: fn() -> Command, words: Vec<String>) -> Vec<Candidate> {
    let Some((current, before)) = words.split_last() else { return Vec::new() };
    let typed = Arc::new(Typed::read(command(), before));
    let mut command = attach(command(), &typed);
    let index = before.len();
    let current = current.clone();
    let words = words.into_iter().map(OsString::from).collect();
    let folder = std::env::current_dir().ok();
    let Ok(found) = candidates(&mut command, words, index, folder.as_deref()) else { return Vec::new() };
    let mut found: Vec<Candidate> = found.iter().filter_map(shown).collect();
    // Flags are offered to who asks for them: they would drown the names.
    if !current.starts_with('-') && found.iter().any(|one| !one.value.starts_with('-')) {
        found.retain(|one| !one.value.starts_with('-'));
    }
    found
}

fn shown(candidate: &CompletionCandidate) -> Option<Candidate> {
    let value = candidate.get_value().to_str()?.to_owned();
    let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default().to_owned();
    let bad = |text: &str| text.chars().any(steers);
    (!value.is_empty() && !bad(&value) && !bad(&help)).then_some(Candidate { value, help })
}

/// Gives every argument of the tree what its value's name promises.
fn attach(command: Command, typed: &Arc<Typed>) -> Command {
    let asks = command.get_arguments().any(|argument| argument.get_id() == "resource");
    let holds = |argument: &Arg| match argument.get_id().as_str() {
        "name" if asks => Some(Holds::NameOf("resource")),
        _ => holds(argument),
    };
    let command = command.mut_args(|argument| match holds(&argument) {
        Some(Holds::File) => argument.add(ArgValueCompleter::new(PathCompleter::any().stdio())),
        Some(holds) => argument.add(ArgValueCompleter::new(Values { holds, typed: Arc::clone(typed) })),
        None => argument,
    });
    command.mut_subcommands(|inner| attach(inner, typed))
}

fn holds(argument: &Arg) -> Option<Holds> {
    let name = argument.get_value_names()?.first()?.as_str();
    // `create user EMAIL` and the like name what is not there yet.
    let is_new = argument.is_positional() && ["EMAIL"].contains(&name);
    HOLDS.iter().find(|(known, _)| *known == name && !is_new).map(|(_, holds)| *holds)
}

/// What was typed before the cursor.
struct Typed {
    matches: Option<ArgMatches>,
}

struct Values {
    holds: Holds,
    typed: Arc<Typed>,
}

impl Typed {
    fn read(command: Command, before: &[String]) -> Self {
        Self { matches: command.ignore_errors(true).try_get_matches_from(before).ok() }
    }

    /// The values of an argument, wherever in the tree it is.
    fn values(&self, id: &str) -> Vec<String> {
        let mut next = self.matches.as_ref();
        let mut found = Vec::new();
        while let Some(matches) = next {
            if let Ok(Some(values)) = matches.try_get_many::<String>(id) {
                found = values.cloned().collect();
            }
            next = matches.subcommand().map(|(_, inner)| inner);
        }
        found
    }

    fn value(&self, id: &str) -> Option<String> {
        self.values(id).into_iter().next()
    }

    fn context(&self) -> Option<Context> {
        let (daemon_url, acting_for) = (self.value("daemon_url"), self.value("acting_for"));
        Context::new(Global { daemon_url, acting_for, output: None }).ok()
    }

    /// What the server has of a kind; nothing when it does not answer at once.
    fn resources(&self, kind: Kind) -> Vec<serde_json::Map<String, Value>> {
        let Some(context) = self.context() else { return Vec::new() };
        // On a thread of its own, as a completer cannot wait: it runs inside a runtime already.
        let ask = move || {
            let client = context.client().ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let answer =
                runtime.block_on(async { tokio::time::timeout(PATIENCE, client.list(kind, &[])).await });
            // Looking up a host's name cannot be stopped, and is not waited for.
            runtime.shutdown_background();
            answer.ok()?.ok()
        };
        std::thread::spawn(ask).join().ok().flatten().unwrap_or_default()
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        let name =
            |resource: &serde_json::Map<String, Value>| Some(resource.get("name")?.as_str()?.to_owned());
        self.resources(kind).iter().filter_map(name).take(MOST).collect()
    }
}

impl ValueCompleter for Values {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        self.complete_at(0, current)
    }

    fn complete_at(&self, _index: usize, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(current) = current.to_str() else { return Vec::new() };
        let found = match self.holds {
            Holds::Kind => kind_names(current, false),
            Holds::KindField => kinds_and_fields(current),
            Holds::Target(more) => self.targets(current, more),
            Holds::NameOf(id) => match self.typed.value(id).as_deref().and_then(Kind::parse) {
                Some(kind) if self.typed.values("words").is_empty() => plain(self.typed.names(kind)),
                Some(kind) => kind
                    .fields
                    .iter()
                    .filter(|field| !field.read_only && !field.immutable)
                    .map(|field| (format!("{}=", field.name), field.about))
                    .collect(),
                None => Vec::new(),
            },
            Holds::Name(kind) => plain(self.typed.names(kind)),
            Holds::SecretKey => plain(self.secret_keys()),
            Holds::Action => ACTIONS.iter().map(|action| ((*action).to_owned(), "")).collect(),
            Holds::Provider => plain(providers(&self.typed)),
            Holds::Context => plain(contexts(&self.typed)),
            Holds::Set => plain(known_sets(&self.typed)),
            Holds::Format => FORMATS.iter().map(|(name, about)| ((*name).to_owned(), *about)).collect(),
            Holds::File => Vec::new(),
        };
        let fits = found.into_iter().filter(|(value, _)| value.starts_with(current));
        fits.map(|(value, help)| {
            let help = (!help.is_empty()).then(|| help.to_owned().into());
            CompletionCandidate::new(value).help(help)
        })
        .collect()
    }
}

type Found = Vec<(String, &'static str)>;

fn plain(names: Vec<String>) -> Found {
    names.into_iter().map(|name| (name, "")).collect()
}

impl Values {
    fn targets(&self, current: &str, more: bool) -> Found {
        if let Some((kind, _)) = current.split_once('/') {
            let names = Kind::parse(kind).map(|found| self.typed.names(found)).unwrap_or_default();
            return plain(names.into_iter().map(|name| format!("{kind}/{name}")).collect());
        }
        let given = self.typed.values("target");
        match given.split_first() {
            None => kind_names(current, more),
            Some((first, _)) if first.contains('/') => kind_names(current, more),
            Some((first, rest)) => {
                let names = Kind::parse(first).map(|kind| self.typed.names(kind)).unwrap_or_default();
                plain(names.into_iter().filter(|name| !rest.contains(name)).collect())
            }
        }
    }

    fn secret_keys(&self) -> Vec<String> {
        let mut found = Vec::new();
        for secret in self.typed.resources(kinds::SECRETS) {
            let name = secret.get("name").and_then(Value::as_str).unwrap_or_default();
            let keys = secret.get("keys").and_then(Value::as_array).into_iter().flatten();
            found.extend(keys.filter_map(Value::as_str).map(|key| format!("{name}/{key}")));
        }
        found.truncate(MOST);
        found
    }
}

/// Plurals; singulars and aliases too, once their beginning is typed.
fn kind_names(current: &str, more: bool) -> Found {
    let about = |kind: Kind| kind.def().about;
    let mut found: Found = Kind::all().map(|kind| (kind.plural.to_owned(), about(kind))).collect();
    if more {
        found.push(("auditlogs".to_owned(), "what happened, newest first"));
        found.push(("all".to_owned(), "every kind that you may view"));
    }
    if !current.is_empty() && !found.iter().any(|(name, _)| name.starts_with(current)) {
        found.extend(
            Kind::all().flat_map(|kind| kind.names().map(move |name| (name.to_owned(), about(kind)))),
        );
    } else if Kind::parse(current).is_some() {
        // A whole word is kept as it is: its plural is no better.
        found.retain(|(name, _)| {
            name == current || !Kind::parse(name).is_some_and(|kind| kind.names().any(|name| name == current))
        });
        found.extend(
            Kind::parse(current)
                .filter(|kind| kind.plural != current)
                .map(|kind| (current.to_owned(), about(kind))),
        );
    }
    found
}

fn kinds_and_fields(current: &str) -> Found {
    match current.split_once('.') {
        None => kind_names(current, false),
        Some((word, _)) => {
            let fields = Kind::parse(word).map(|kind| kind.def().fields).unwrap_or_default();
            fields.iter().map(|field| (format!("{word}.{}", field.name), field.about)).collect()
        }
    }
}

fn providers(typed: &Typed) -> Vec<String> {
    let config = typed.context().and_then(|context| Config::load(&context.home).ok());
    let listed = config.and_then(|config| config.providers().ok()).unwrap_or_default();
    listed.into_iter().map(|provider| provider.name).collect()
}

fn contexts(typed: &Typed) -> Vec<String> {
    let config = typed.context().and_then(|context| Config::load(&context.home).ok());
    config.map(|config| config.contexts().into_iter().map(str::to_owned).collect()).unwrap_or_default()
}

fn known_sets(typed: &Typed) -> Vec<String> {
    let Some(context) = typed.context() else { return Vec::new() };
    context.url().map(|url| sets::names(&context.home, &url)).unwrap_or_default()
}
