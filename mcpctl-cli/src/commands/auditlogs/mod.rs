//! `mcpctl get auditlogs`

mod follow;

use clap::Args;
use mcpctl_core::{
    client::Client,
    resource::{Column, Spec, text_of},
};
use serde_json::Value;

use self::follow::Follower;
use crate::{
    context::Context,
    failure::{Failure, note},
    flags,
    output::{Format, List, block, text},
};

/// Which audit events.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of `get auditlogs`")]
pub(super) struct AuditQuery {
    /// Only events of this kind, such as llm_inference_call or resource_change
    #[arg(long, value_name = "EVENT")]
    kind: Option<String>,
    /// Only calls and changes of this Llm
    #[arg(long, value_name = "LLM")]
    llm: Option<String>,
    /// Only what this user did, by e-mail address or id
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Only events after this time: 1h, 7d, 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", conflicts_with_all = ["follow", "watch"])]
    until: Option<String>,
    /// At most this many events, newest first [default: 100]
    #[arg(long, value_name = "N", conflicts_with_all = ["follow", "watch"])]
    limit: Option<usize>,
    /// Print new events as they come, oldest first, until Ctrl-C; with --since, those since then before
    #[arg(long)]
    follow: bool,
}

/// How many events are shown unless more are asked for.
const DEFAULT_LIMIT: usize = 100;
/// How many events are asked for at once.
const PAGE: usize = 500;

/// The ids behind `auditlog ID…` or in `auditlog/ID…`; none when the words name something else.
pub(super) fn targets(words: &[String]) -> Result<Option<Vec<String>>, Failure> {
    let is_ours = |word: &str| ["auditlogs", "auditlog"].contains(&word.to_lowercase().as_str());
    let id_in = |word: &String| {
        word.split_once('/').filter(|(kind, id)| is_ours(kind) && !id.is_empty()).map(|(_, id)| id.to_owned())
    };
    match words.split_first() {
        Some((first, ids)) if is_ours(first) => Ok(Some(ids.to_vec())),
        Some((first, _)) if id_in(first).is_some() => match words.iter().map(id_in).collect() {
            Some(ids) => Ok(Some(ids)),
            None => Err(Failure::usage("audit events are shown on their own: expected auditlog/ID…")),
        },
        _ => Ok(None),
    }
}

impl AuditQuery {
    /// Whether any of it was given.
    pub(super) fn is_used(&self) -> bool {
        let texts = [&self.kind, &self.llm, &self.user, &self.since, &self.until];
        self.follow || self.limit.is_some() || texts.iter().any(|text| text.is_some())
    }

    /// The same; with `watch`, which means the same here, new events are printed as they come.
    pub(super) fn following(self, watch: bool) -> Self {
        Self { follow: self.follow || watch, ..self }
    }

    /// Shows the events with these `ids`; without any, those that the query asks for.
    pub(super) async fn run(self, context: &Context, ids: &[String]) -> Result<(), Failure> {
        if !ids.is_empty() {
            if self.is_used() {
                return Err(Failure::usage("an event that is named by its id is not looked for otherwise"));
            }
            return show(context, ids).await;
        }
        let now = jiff::Timestamp::now();
        let since = self.since.map(|text| flags::instant("--since", &text, now)).transpose()?;
        let until = self.until.map(|text| flags::instant("--until", &text, now)).transpose()?;
        let given = [("kind", self.kind), ("llm", self.llm), ("user", self.user)];
        let mut filters: Filters = given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        if self.follow {
            return Follower::new(context, filters, since)?.run().await;
        }
        filters.extend(since.map(|since| ("since", since)));
        filters.extend(until.map(|until| ("until", until)));
        let wanted = self.limit.unwrap_or(DEFAULT_LIMIT);
        let (events, more) = read(&context.client()?, &filters, wanted).await?;
        if events.is_empty() && matches!(context.format(), Format::Table | Format::Wide) {
            note("No audit events found.");
        } else if more && self.limit.is_none() {
            note(format!("The newest {} events; --limit shows more.", events.len()));
        }
        list(&events, true).print(&context.out, context.format())
    }
}

/// Parameters of a query.
type Filters = Vec<(&'static str, String)>;

/// The newest events, at most so many, and whether there are more. Pages are put together, also those that a long search
/// leaves empty.
async fn read(
    client: &Client,
    filters: &Filters,
    wanted: usize,
) -> Result<(Vec<Spec>, bool), mcpctl_core::Error> {
    let mut events: Vec<Spec> = Vec::new();
    let mut next: Option<String> = None;
    while events.len() < wanted {
        let limit = (wanted - events.len()).min(PAGE).to_string();
        let mut query: Vec<(&str, &str)> =
            filters.iter().map(|(key, value)| (*key, value.as_str())).collect();
        query.push(("limit", &limit));
        query.extend(next.as_deref().map(|next| ("continue", next)));
        let (page, more) = client.audit_logs(&query).await?;
        events.extend(page);
        if more.is_none() || more == next {
            return Ok((events, false));
        }
        next = more;
    }
    Ok((events, next.is_some()))
}

async fn show(context: &Context, ids: &[String]) -> Result<(), Failure> {
    let client = context.client()?;
    let mut events = Vec::new();
    for id in ids {
        events.push(client.audit_log(id).await?);
    }
    list(&events, events.len() > 1).print(&context.out, context.format())
}

/// Shows one event in full: every field of it, in words of its own.
pub(super) async fn describe(context: &Context, ids: &[String]) -> Result<(), Failure> {
    let [id] = ids else { return Err(Failure::usage("which audit event? expected one id")) };
    if !matches!(context.chosen_format(), None | Some(Format::Table)) {
        let hint = format!("`mcpctl get auditlog {id} -o …` prints other formats");
        return Err(Failure::usage("describe has one format").hint(hint));
    }
    let event = context.client()?.audit_log(id).await?;
    let lines: Vec<_> = event.iter().map(|(name, value)| (label(name), text_of(value))).collect();
    context.out.print(&format!("=== AuditLog: {} ===\n{}", text::inline(id), block(&lines, "")))
}

/// `promptTokens` as `Prompt Tokens`.
fn label(name: &str) -> String {
    let mut label = String::new();
    for letter in name.chars() {
        match label.is_empty() {
            true => label.extend(letter.to_uppercase()),
            false if letter.is_uppercase() => label.extend([' ', letter]),
            false => label.push(letter),
        }
    }
    label
}

fn list(events: &[Spec], many: bool) -> List<'_> {
    List { kind: None, columns: COLUMNS, items: events, many }
}

const COLUMNS: &[Column] = &[
    Column::with("TIME", |event| event.get("at").map(text_of).unwrap_or_default().chars().take(19).collect()),
    Column::field("KIND", "kind").wide(),
    Column::with("USER", who),
    Column::with("ACTION", action),
    Column::with("RESULT", |event| match event.get("kind").and_then(Value::as_str) {
        Some("denied") => "denied".to_owned(),
        _ => result(event),
    }),
    Column::with("TOOK", |event| {
        event.get("durationMs").map(|ms| format!("{} ms", text_of(ms))).unwrap_or_default()
    }),
    Column::with("TOKENS", tokens).wide(),
    Column::field("API", "api").wide(),
    Column::field("REQUEST", "requestId").wide(),
    Column::field("ID", "id").wide(),
    Column::field("ERROR", "error").wide(),
];

fn first_of(event: &Spec, names: &[&str]) -> String {
    let texts = names.iter().filter_map(|name| event.get(*name)).map(text_of);
    texts.filter(|text| !text.is_empty()).chain(["-".to_owned()]).next().unwrap_or_default()
}

/// Who did it, with which token, and for whom.
fn who(event: &Spec) -> String {
    let user = first_of(event, &["user", "email", "userId"]);
    let text = |name: &str| event.get(name).map(text_of);
    match (text("impersonator"), text("token")) {
        (Some(acting), _) => format!("{acting} as {user}"),
        (None, Some(token)) => format!("{user} ({token})"),
        (None, None) => user,
    }
}

/// What happened to what: `run llm/gpt`, `edit llms/gpt`, `view:secrets`.
fn action(event: &Spec) -> String {
    let text = |name: &str| event.get(name).map(text_of).unwrap_or_default();
    match text("kind").as_str() {
        "llm_inference_call" => format!("run llms/{}", text("llmName")),
        "resource_change" => format!("{} {}/{}", text("action"), text("resource"), text("name")),
        "denied" => text("permission"),
        "secret_reveal" => format!("reveal secrets/{}", text("name")),
        "migration" => format!("migrate secrets/{} to {}", text("name"), text("to")),
        other => other.to_owned(),
    }
}

/// `PROMPT+COMPLETION`.
fn tokens(event: &Spec) -> String {
    let count = |name: &str| event.get(name).map(text_of);
    match (count("promptTokens"), count("completionTokens")) {
        (None, None) => String::new(),
        (prompt, completion) => format!("{}+{}", prompt.unwrap_or_default(), completion.unwrap_or_default()),
    }
}

/// How it ended, and how often, where one event tells of many.
fn result(event: &Spec) -> String {
    let result = first_of(event, &["status", "result"]);
    match event.get("count") {
        Some(count) => format!("{result} x{}", text_of(count)),
        None => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_events_are_told_in_words() {
        let event = |value: Value| action(value.as_object().unwrap());
        assert_eq!(
            event(serde_json::json!({"kind": "llm_inference_call", "llmName": "gpt"})),
            "run llms/gpt"
        );
        assert_eq!(
            event(
                serde_json::json!({"kind": "resource_change", "action": "edit", "resource": "llms", "name": "a"})
            ),
            "edit llms/a"
        );
        assert_eq!(event(serde_json::json!({"kind": "login"})), "login");
    }

    #[test]
    fn fields_have_labels() {
        assert_eq!(["id", "promptTokens", "llmName"].map(label), ["Id", "Prompt Tokens", "Llm Name"]);
    }

    #[test]
    fn events_are_named_by_their_id() {
        let targets = |text: &str| targets(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let ids = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(targets("auditlogs").unwrap(), ids(&[]));
        assert_eq!(targets("AuditLog a b").unwrap(), ids(&["a", "b"]));
        assert_eq!(targets("auditlog/a auditlogs/b").unwrap(), ids(&["a", "b"]));
        assert_eq!(targets("llms").unwrap(), None);
        assert_eq!(targets("llm/auditlog").unwrap(), None);
        assert!(targets("auditlog/a llm/b").is_err());
    }
}
