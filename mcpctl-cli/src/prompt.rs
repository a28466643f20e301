//! Asking the user, and reading what is piped in.

use std::io::{self, IsTerminal, Read, Write};

use crate::failure::Failure;

/// Whether a person can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line of text.
pub(crate) fn line(question: &str) -> Result<String, Failure> {
    eprint!("{question}");
    io::stderr().flush()?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        return Err(Failure::new("no answer"));
    }
    Ok(answer.trim().to_owned())
}

/// Asks for text that is not echoed.
pub(crate) fn hidden(question: &str) -> Result<String, Failure> {
    rpassword::prompt_password(question)
        .map_err(|error| Failure::new(format!("reading from the terminal: {error}")))
}

/// Asks for a new password, and once more unless it is empty.
pub(crate) fn twice(question: &str) -> Result<String, Failure> {
    let password = hidden(question)?;
    if !password.is_empty() && hidden("Again: ")? != password {
        return Err(Failure::new("the passwords differ"));
    }
    Ok(password)
}

/// All of standard input as text, without the newline that ends its last line.
pub(crate) fn piped() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("reading standard input: {error}")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
