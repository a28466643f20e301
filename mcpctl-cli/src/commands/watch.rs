//! `mcpctl get --watch`

use std::{collections::BTreeMap, time::Duration};

use mcpctl_core::{
    Error, ErrorKind,
    client::Client,
    resource::{Kind, Spec, text_of},
};
use tokio::time::sleep;

use crate::{
    context::Context,
    failure::{Failure, note, warn},
    output::{List, Out, SoFar, text::inline},
};

/// How long to wait between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait after a look that failed, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Prints resources as they come and change, until Ctrl-C or a failure that trying again would not mend.
pub(super) struct Watcher<'a> {
    context: &'a Context,
    client: Client,
    out: Out,
    kind: Kind,
    /// Only these, if any are named.
    names: Vec<String>,
    /// What was seen, by id: its name and version.
    seen: BTreeMap<String, (String, String)>,
    so_far: SoFar,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(
        context: &'a Context,
        out: Out,
        kind: Kind,
        names: Vec<String>,
    ) -> Result<Self, Failure> {
        let client = context.client()?;
        Ok(Self { context, client, out, kind, names, seen: BTreeMap::new(), so_far: SoFar::default() })
    }

    /// Shows `first` and then what differs from it.
    pub(super) async fn run(mut self, first: Vec<Spec>) -> Result<(), Failure> {
        self.show(first)?;
        let mut pause = INTERVAL;
        loop {
            sleep(pause).await;
            match self.look().await {
                Ok(items) => {
                    if pause > INTERVAL {
                        note("The server answers again.");
                    }
                    pause = INTERVAL;
                    self.show(items)?;
                }
                Err(error) if is_final(&error) => return Err(error.into()),
                Err(error) => {
                    if pause == INTERVAL {
                        warn(format!("{}; trying again", error.message()));
                    }
                    pause = error.retry_after().unwrap_or(pause * 2).clamp(INTERVAL * 2, LONGEST_PAUSE);
                }
            }
        }
    }

    async fn look(&self) -> Result<Vec<Spec>, Error> {
        if self.names.is_empty() {
            return self.client.list(self.kind, &[]).await;
        }
        let mut found = Vec::new();
        for name in &self.names {
            match self.client.get(self.kind, name, false).await {
                Ok(item) => found.push(item),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn show(&mut self, items: Vec<Spec>) -> Result<(), Failure> {
        let text = |item: &Spec, name: &str| item.get(name).map(text_of).unwrap_or_default();
        let now: BTreeMap<_, _> = items
            .iter()
            .map(|item| (text(item, "id"), (text(item, "name"), text(item, "version"))))
            .collect();
        let before = std::mem::replace(&mut self.seen, now);
        for (id, (name, _)) in &before {
            if !self.seen.contains_key(id) {
                note(format!("{} '{}' deleted", self.kind.singular, inline(name)));
            }
        }
        let is_new = |item: &Spec| {
            before.get(&text(item, "id")).is_none_or(|(_, version)| *version != text(item, "version"))
        };
        let changed: Vec<Spec> = items.into_iter().filter(is_new).collect();
        List::of(self.kind, &changed, true).print_more(&self.out, self.context.format(), &mut self.so_far)
    }
}

fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unauthenticated | ErrorKind::Forbidden | ErrorKind::Invalid | ErrorKind::NotFound
    )
}
