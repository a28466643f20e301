//! `mcpctl chat`

use std::{
    io::{self, BufRead as _, Write as _},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use mcpctl_core::{
    client::ChatStream,
    failover::{Decision, FailoverClient, FileLeases, LeaseBook, NotRouted, Routed, registry_of},
    resource::kinds,
};
use serde_json::{Value, json};

use crate::{
    config::Config,
    context::Context,
    failure::{Failure, note, warn},
    kinds::suggest,
    prompt,
};

/// How long the program's end waits for a lease to be written down.
const SETTLE: Duration = Duration::from_secs(2);

/// Talk to an Llm
#[derive(Debug, Args)]
#[command(after_help = "Without a message, each line you type is one; Ctrl-D ends.\n\nExamples:\n  \
                        mcpctl chat gpt 'Why is the sky blue?'\n  mcpctl chat gpt --system 'Answer in French'\n  \
                        git diff | mcpctl chat gpt --system 'Review this' -")]
pub(crate) struct Chat {
    /// The Llm's name
    llm: String,
    /// What to say; - reads it from standard input
    message: Option<String>,
    /// Instructions that go before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

impl Chat {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = failover(context, &self.llm)?;
        let outcome = self.talk(context, &client).await;
        if let Some(leases) = client.leases() {
            leases.settle(SETTLE).await;
        }
        outcome
    }

    async fn talk(self, context: &Context, client: &FailoverClient) -> Result<(), Failure> {
        let mut messages: Vec<Value> = Vec::new();
        messages.extend(self.system.map(|text| json!({"role": "system", "content": text})));
        let once = match self.message.as_deref() {
            Some("-") => Some(prompt::piped()?),
            Some(text) => Some(text.to_owned()),
            None => None,
        };
        if let Some(text) = once {
            messages.push(json!({"role": "user", "content": text}));
            return say(context, client, &self.llm, &messages).await.map(drop);
        }
        let asking = prompt::can_ask();
        let mut lines = io::stdin().lock().lines();
        loop {
            if asking {
                eprint!("> ");
                io::stderr().flush()?;
            }
            let Some(line) = lines.next() else { break };
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            messages.push(json!({"role": "user", "content": line}));
            match say(context, client, &self.llm, &messages).await {
                Ok(answer) => messages.push(json!({"role": "assistant", "content": answer})),
                Err(failure) if asking => {
                    // The conversation goes on without the message that failed.
                    messages.pop();
                    let _: std::process::ExitCode = failure.report();
                }
                Err(failure) => return Err(failure),
            }
        }
        if asking {
            note("");
        }
        Ok(())
    }
}

/// The client, with the local providers of the configuration. Leases are kept where one may be needed.
fn failover(context: &Context, llm: &str) -> Result<FailoverClient, Failure> {
    let client = context.client()?;
    let providers = Arc::new(registry_of(Config::load(&context.home)?.providers()?)?);
    let leases = providers.stand_in(llm).map(|_| {
        let file = FileLeases::at(context.home.file("leases.json"));
        LeaseBook::open(&client, Arc::new(file))
    });
    Ok(FailoverClient::new(&client, providers, leases))
}

/// Says on stderr who answered, when that was not the server.
fn told(routed: Routed<ChatStream>) -> ChatStream {
    let by = match routed.decision {
        Decision::Leased => "under a lease of the server, which does not answer",
        _ => "with the server's consent",
    };
    if let Some(via) = routed.via {
        note(format!("failover: answered by local provider {via} ({by})"));
    }
    routed.value
}

/// Sends the conversation, prints the answer as it comes and returns it.
async fn say(
    context: &Context,
    client: &FailoverClient,
    llm: &str,
    messages: &[Value],
) -> Result<String, Failure> {
    let failed = |error| Failure::from(error).context(format!("asking `{llm}`"));
    let mut stream = match client.infer_stream(llm, &json!({"messages": messages})).await {
        Ok(routed) => told(routed),
        Err(NotRouted { error, decision }) => {
            if !matches!(decision, Decision::Refused | Decision::NoStandIn) {
                warn(format!("no failover: {decision}"));
            }
            let failure = suggest(client.client(), kinds::LLMS, llm, error).await;
            return Err(failure.context(format!("asking `{llm}`")));
        }
    };
    let mut answer = String::new();
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                // What came so far is shown; the failure begins on a line of its own.
                if !answer.is_empty() {
                    context.out.line("")?;
                }
                return Err(failed(error));
            }
        };
        if let Some(text) = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str) {
            context.out.print(text)?;
            answer.push_str(text);
        }
    }
    if !answer.ends_with('\n') {
        context.out.line("")?;
    }
    Ok(answer)
}
