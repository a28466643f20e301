//! `mcpctl chat`

use std::io::{self, BufRead as _, Write as _};

use clap::Args;
use mcpctl_core::{client::Client, resource::kinds};
use serde_json::{Value, json};

use crate::{
    context::Context,
    failure::{Failure, note},
    kinds::suggest,
    prompt,
};

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
            note("");
        }
        Ok(())
    }
}

/// Sends the conversation, prints the answer as it comes and returns it.
async fn say(context: &Context, client: &Client, llm: &str, messages: &[Value]) -> Result<String, Failure> {
    let failed = |error| Failure::from(error).context(format!("asking `{llm}`"));
    let mut stream = match client.infer_stream(llm, &json!({"messages": messages})).await {
        Ok(stream) => stream,
        Err(error) => {
            return Err(suggest(client, kinds::LLMS, llm, error).await.context(format!("asking `{llm}`")));
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
