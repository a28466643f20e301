//! Sets: what `apply --set NAME` made on a server, so that `--prune` can delete of it what the files no longer hold.
//!
//! A set is a file in the home folder that anybody can read: `sets/NAME@SERVER.json`. It holds ids, as a resource that
//! somebody deleted and made again under its old name is not what the set made.

use mcpctl_core::{
    Error,
    client::Client,
    resource::{Kind, NameRule, Spec},
};
use serde_json::{Value, json};

use crate::{
    context::Context,
    document::Document,
    failure::{Failure, note},
    home::Home,
    output::text::{inline, safe},
};

/// What a set made on one server.
pub(crate) struct Set {
    home: Home,
    file: String,
    name: String,
    server: String,
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    kind: Kind,
    name: String,
    id: String,
}

impl Set {
    /// Reads the set of this name for the server in use; empty when there is none yet.
    pub(crate) fn open(context: &Context, name: &str) -> Result<Self, Failure> {
        if let Some(fault) = NameRule::Label.fault(name) {
            return Err(Failure::usage(format!("invalid --set '{name}': {fault}")));
        }
        Self::read(context.home.clone(), context.url()?, name)
    }

    fn read(home: Home, server: String, name: &str) -> Result<Self, Failure> {
        let file = format!("sets/{name}@{}.json", file_part(&server));
        let mut set = Self { home, file, name: name.to_owned(), server, members: Vec::new() };
        let Some(stored) = set.home.read(&set.file)? else { return Ok(set) };
        let path = set.home.file(&set.file).display().to_string();
        let fault = |what: &str| Failure::new(format!("reading {path}: {what}"));
        if stored.get("server").and_then(Value::as_str) != Some(set.server.as_str()) {
            return Err(fault("it is the set of another server").hint("choose another name for the set"));
        }
        for member in
            stored.get("members").and_then(Value::as_array).ok_or_else(|| fault("it has no members"))?
        {
            let text = |name: &str| member.get(name).and_then(Value::as_str);
            let (Some(kind), Some(name), Some(id)) = (text("kind"), text("name"), text("id")) else {
                return Err(fault("a member lacks its kind, name or id"));
            };
            // A kind that only a newer program knows stays with that one.
            let kind =
                Kind::parse(kind).ok_or_else(|| fault(&format!("this program knows no kind `{kind}`")))?;
            set.members.push(Member { kind, name: name.to_owned(), id: id.to_owned() });
        }
        Ok(set)
    }

    fn save(&self) -> Result<(), Failure> {
        let member =
            |member: &Member| json!({"kind": member.kind.singular, "name": member.name, "id": member.id});
        let members: Vec<Value> = self.members.iter().map(member).collect();
        self.home.write(&self.file, &json!({"set": self.name, "server": self.server, "members": members}))
    }

    /// Notes that an apply of this set made a resource.
    pub(crate) fn made(&mut self, document: &Document, made: &Spec) -> Result<(), Failure> {
        let Some(id) = made.get("id").and_then(Value::as_str) else { return Ok(()) };
        self.members.retain(|member| !member.is(document));
        self.members.push(Member { kind: document.kind, name: document.name.clone(), id: id.to_owned() });
        self.save()
    }

    /// Notes that an apply of this set met a resource: one that somebody else made under a member's name is none.
    pub(crate) fn met(&mut self, document: &Document, stored: &Spec) -> Result<(), Failure> {
        let id = stored.get("id").and_then(Value::as_str).unwrap_or_default();
        let before = self.members.len();
        self.members.retain(|member| !member.is(document) || member.id == id);
        if self.members.len() == before { Ok(()) } else { self.save() }
    }

    /// What the documents no longer hold, what refers to others first.
    fn surplus(&self, documents: &[Document]) -> Vec<Member> {
        let is_held = |member: &Member| documents.iter().any(|document| member.is(document));
        let mut surplus: Vec<Member> =
            self.members.iter().filter(|member| !is_held(member)).cloned().collect();
        surplus.sort_by_key(|member| std::cmp::Reverse(member.kind.apply_order));
        surplus
    }

    /// Says what [`prune`](Self::prune) would delete.
    pub(crate) async fn preview(
        &self,
        context: &Context,
        client: &Client,
        documents: &[Document],
    ) -> Result<(), Failure> {
        for member in self.surplus(documents) {
            if member.is_there(client).await? {
                context.out.line(format!(
                    "Would prune {}: {}",
                    member.kind.singular,
                    inline(&member.name)
                ))?;
            }
        }
        Ok(())
    }

    /// Deletes what this set made and the documents no longer hold, and nothing else.
    pub(crate) async fn prune(
        mut self,
        context: &Context,
        client: &Client,
        documents: &[Document],
    ) -> Result<(), Failure> {
        let (surplus, mut failed) = (self.surplus(documents), 0_usize);
        for member in &surplus {
            let (what, name) = (member.kind.singular, inline(&member.name));
            let pruned = match member.is_there(client).await {
                Ok(true) => client.delete(member.kind, &member.id).await.map(|()| true),
                other => other,
            };
            match pruned {
                Ok(true) => context.out.line(format!("Pruned {what}: {name}"))?,
                Ok(false) => {}
                Err(error) => {
                    failed += 1;
                    note(format!("Error pruning {what} '{name}': {}", safe(error.message())));
                    continue;
                }
            }
            self.members.retain(|other| other != member);
            self.save()?;
        }
        if failed == 0 {
            Ok(())
        } else {
            Err(Failure::new(format!("{failed} of {} resources were not pruned", surplus.len())))
        }
    }
}

/// The names of the sets that are known of a server.
pub(crate) fn names(home: &Home, server: &str) -> Vec<String> {
    let end = format!("@{}.json", file_part(server));
    let Ok(entries) = std::fs::read_dir(home.file("sets")) else { return Vec::new() };
    let files = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(&end)?.to_owned())).collect();
    names.sort();
    names
}

/// A URL as a part of a file's name: no two are the same.
fn file_part(url: &str) -> String {
    let mut part = String::new();
    for letter in url.chars() {
        match letter {
            letter if letter.is_ascii_alphanumeric() || ['.', '-'].contains(&letter) => part.push(letter),
            letter => part.push_str(&format!("_{:x}_", u32::from(letter))),
        }
    }
    part
}

impl Member {
    fn is(&self, document: &Document) -> bool {
        self.kind == document.kind && self.name == document.name
    }

    /// Whether the very resource is still there: not another one whose name happens to be this id.
    async fn is_there(&self, client: &Client) -> Result<bool, Error> {
        match client.get(self.kind, &self.id, false).await {
            Ok(stored) => Ok(stored.get("id").and_then(Value::as_str) == Some(self.id.as_str())),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_core::resource::kinds;

    use super::*;

    fn document(kind: Kind, name: &str) -> Document {
        Document { kind, name: name.to_owned(), body: Spec::new() }
    }

    fn stored(id: &str) -> Spec {
        [("id".to_owned(), id.into())].into_iter().collect()
    }

    #[test]
    fn a_set_holds_what_it_made_and_forgets_what_others_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Set::read(Home::at(folder.path()), "http://h:1".to_owned(), "team").unwrap();
        let (llm, secret) = (document(kinds::LLMS, "a"), document(kinds::SECRETS, "a"));
        let mut set = open();
        set.made(&secret, &stored("c1")).unwrap();
        set.made(&llm, &stored("c2")).unwrap();
        set.met(&document(kinds::LLMS, "other"), &stored("c9")).unwrap();
        let ids = |set: &Set, held: &[Document]| {
            set.surplus(held).into_iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&open(), &[]), ["c2", "c1"]);
        assert_eq!(ids(&open(), &[document(kinds::LLMS, "a")]), ["c1"]);
        let mut set = open();
        set.met(&llm, &stored("c3")).unwrap();
        assert_eq!(ids(&open(), &[]), ["c1"]);
        assert_eq!(names(&Home::at(folder.path()), "http://h:1"), ["team"]);
        let elsewhere = Set::read(Home::at(folder.path()), "http://h:2".to_owned(), "team").unwrap();
        assert!(ids(&elsewhere, &[]).is_empty());
        assert_ne!(file_part("http://h:1"), file_part("http://h-1"));
    }
}
