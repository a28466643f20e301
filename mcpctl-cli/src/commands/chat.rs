//! `mcpctl chat`

use std::io::{self, BufRead as _, Write as _};

use clap::Args;
use mcpctl_core::client::Client;
use serde_json::{Value, json};

use crate::{context::Context, failure::Failure, prompt};

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
        let client = context.client()?;
        let mut messages: Vec<Value> = Vec::new();
        messages.extend(self.system.map(|text| json!({"role": "system", "content": text})));
        let once = match self.message.as_deref() {
            Some("-") => Some(prompt::piped()?),
            Some(text) => Some(text.to_owned()),
            None => None,
        };
        if let Some(text) = once {
            messages.push(json!({"role": "user", "content": text}));
            return say(context, &client, &self.llm, &messages).await.map(drop);
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
            match say(context, &client, &self.llm, &messages).await {
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
            eprintln!();
        }
        Ok(())
    }
}

/// Sends the conversation, prints the answer and returns it.
async fn say(context: &Context, client: &Client, llm: &str, messages: &[Value]) -> Result<String, Failure> {
    let body = json!({"messages": messages});
    let answer = client
        .infer(llm, &body)
        .await
        .map_err(|error| Failure::from(error).context(format!("asking `{llm}`")))?;
    let text =
        answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default().to_owned();
    context.out.line(&text)?;
    Ok(text)
}
