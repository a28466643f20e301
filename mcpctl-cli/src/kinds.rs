//! Kinds and names as they are written on the command line.

use mcpctl_core::{Error, client::Client, resource::Kind};

use crate::{failure::Failure, output::text::inline};

/// Words that are written in capitals in titles.
const ACRONYMS: &[&str] = &["llm", "rbac"];
/// Words that singular names are made of, longest match first where one begins another.
const WORDS: &[&str] =
    &["secret", "backend", "mcp", "token", "server", "attachment", "prompt", "request", "proxy", "model"];

/// Finds the kind called `text`.
pub(crate) fn parse_kind(text: &str) -> Result<Kind, Failure> {
    Kind::parse(text).ok_or_else(|| unknown_kind(text))
}

/// The failure that names the nearest kind, or all of them.
pub(crate) fn unknown_kind(text: &str) -> Failure {
    let all = || Kind::all().map(|kind| kind.plural).chain(["auditlogs"]).collect::<Vec<_>>().join(", ");
    let failure = Failure::usage(format!("unknown kind `{text}`"));
    match nearest(&text.to_lowercase(), Kind::all().flat_map(Kind::names).chain(["auditlogs"])) {
        Some(name) => failure.hint(format!("did you mean `{name}`? Kinds are {}", all())),
        None => failure.hint(format!("kinds are {}", all())),
    }
}

/// The candidate that is likely meant by `typo`.
pub(crate) fn nearest<'a>(typo: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|name| (strsim::osa_distance(typo, name), name))
        // One mistake in three letters: a shorter word could be anything.
        .filter(|(distance, _)| *distance * 3 <= typo.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// The failure of a call about one resource; when there is none of this name, with the name that was likely meant.
pub(crate) async fn suggest(client: &Client, kind: Kind, name: &str, error: Error) -> Failure {
    let is_missing = error.is_not_found();
    let failure = Failure::from(error);
    if !is_missing {
        return failure;
    }
    // Whoever may not list them learns no names.
    let Ok(others) = client.list(kind, &[]).await else { return failure };
    let names: Vec<&str> = others.iter().filter_map(|other| other.get("name")?.as_str()).collect();
    match nearest(name, names.iter().copied()) {
        Some(meant) => failure.hint(format!("did you mean `{}`?", inline(meant))),
        None => failure.hint(format!("`mcpctl get {kind}` lists what there is")),
    }
}

/// Reads `KIND NAME…` or `KIND/NAME…`, as `-o name` prints them. No names means all of the kind.
pub(crate) fn parse_targets(words: &[String]) -> Result<Vec<(Kind, Option<String>)>, Failure> {
    let Some((first, rest)) = words.split_first() else { return Err(Failure::usage("expected a kind")) };
    if first.contains('/') {
        return words.iter().map(|word| parse_path(word)).collect();
    }
    let kind = parse_kind(first)?;
    if rest.is_empty() {
        return Ok(vec![(kind, None)]);
    }
    Ok(rest.iter().map(|name| (kind, Some(name.clone()))).collect())
}

fn parse_path(word: &str) -> Result<(Kind, Option<String>), Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() => Ok((parse_kind(kind)?, Some(name.to_owned()))),
        _ => Err(Failure::usage(format!("invalid resource `{word}`: expected KIND/NAME"))),
    }
}

/// Reads exactly one `KIND NAME` or `KIND/NAME`.
pub(crate) fn parse_target(words: &[String]) -> Result<(Kind, String), Failure> {
    match parse_targets(words)?.as_slice() {
        [(kind, Some(name))] => Ok((*kind, name.clone())),
        [(kind, None)] => Err(Failure::usage(format!("which {}? expected a name", kind.singular))),
        _ => Err(Failure::usage("expected one resource")),
    }
}

/// The kind's name as a title: `LLM`, `SecretBackend`.
pub(crate) fn title(kind: Kind) -> String {
    if ACRONYMS.contains(&kind.singular) {
        return kind.singular.to_uppercase();
    }
    let mut rest = kind.singular;
    let mut title = String::new();
    while !rest.is_empty() {
        let word = WORDS.iter().find_map(|word| rest.strip_prefix(word).map(|_| *word)).unwrap_or(rest);
        let (head, tail) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        title.push_str(&head.to_uppercase());
        title.push_str(tail);
        rest = rest.get(word.len()..).unwrap_or_default();
    }
    title
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn targets_are_read_in_both_forms() {
        let one = |text: &str| parse_target(&words(text));
        assert_eq!(one("llm gpt").unwrap(), (kinds::LLMS, "gpt".to_owned()));
        assert_eq!(one("llms/gpt").unwrap(), (kinds::LLMS, "gpt".to_owned()));
        assert!(one("llm").is_err());
        assert!(one("llm a b").is_err());
        assert_eq!(parse_targets(&words("sec a b")).unwrap().len(), 2);
        assert_eq!(parse_targets(&words("llm/a secret/b")).unwrap().len(), 2);
        assert_eq!(parse_targets(&words("rbac")).unwrap(), vec![(kinds::RBAC, None)]);
        assert!(parse_targets(&words("llm/ x")).is_err());
    }

    #[test]
    fn typos_get_a_suggestion() {
        assert_eq!(nearest("lms", Kind::all().flat_map(Kind::names)), Some("llms"));
        assert_eq!(nearest("sercet", Kind::all().flat_map(Kind::names)), Some("secret"));
        assert_eq!(nearest("bananas", Kind::all().flat_map(Kind::names)), None);
    }

    #[test]
    fn titles() {
        let titles: Vec<String> = Kind::all().map(title).collect();
        assert_eq!(
            titles,
            ["SecretBackend", "Secret", "LLM", "User", "Group", "Project", "RBAC", "McpToken"]
        );
    }
}
