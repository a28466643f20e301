//! `mcpctl completion`, and what the scripts that it prints call.

use clap::{Args, CommandFactory as _, ValueEnum};

use crate::{
    cli::Cli,
    complete::{Candidate, complete},
    context::Context,
    failure::Failure,
};

/// Print a completion script for a shell: commands, flags, and names from the server
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  source <(mcpctl completion bash)\n  \
                        source <(mcpctl completion zsh)\n  \
                        mcpctl completion fish > ~/.config/fish/completions/mcpctl.fish")]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

/// Print what can stand at the cursor: the scripts call this
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mcpctl __complete fish -- mcpctl get ''")]
pub(crate) struct Complete {
    /// The shell
    shell: Shell,
    /// The words up to the cursor, the program's name first; for bash, the line and what bash takes for the last word
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Bash cuts words at `@`, `:` and `=` as well, so it hands over the line, and what it took for the last word.
const BASH: &str = r#"# bash completion for mcpctl
_mcpctl() {
    local IFS=$'\n'
    COMPREPLY=($(command mcpctl __complete bash -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/.] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _mcpctl mcpctl
"#;

const ZSH: &str = r#"#compdef mcpctl
# zsh completion for mcpctl
_mcpctl() {
    local -a found joined
    found=("${(@f)$(command mcpctl __complete zsh -- "${(@)words[1,CURRENT]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    joined=("${(@M)found:#*[=/.](:*|)}")
    found=("${(@)found:#*[=/.](:*|)}")
    (( ${#joined} )) && _describe -V 'mcpctl' joined -S ''
    (( ${#found} )) && _describe -V 'mcpctl' found
}
if [ "$funcstack[1]" = "_mcpctl" ]; then
    _mcpctl "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
    compdef _mcpctl mcpctl
fi
"#;

const FISH: &str = r#"# fish completion for mcpctl
complete --command mcpctl --no-files --keep-order --arguments '(command mcpctl __complete fish -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --cut-at-cursor --current-token) 2>/dev/null)'
"#;

impl Completion {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        context.out.print(match self.shell {
            Shell::Bash => BASH,
            Shell::Zsh => ZSH,
            Shell::Fish => FISH,
        })
    }
}

impl Complete {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut place = Place::default();
        let words = match (self.shell, self.words.as_slice()) {
            (Shell::Bash, [line, last]) => {
                let (words, quoted) = split(line);
                let whole = words.last().map(String::len).unwrap_or_default();
                place = Place { cut: whole.saturating_sub(last.len()), quoted };
                words
            }
            _ => self.words,
        };
        for candidate in complete(Cli::command, words) {
            context.out.line(line(self.shell, &candidate, &place))?;
        }
        Ok(())
    }
}

/// Where bash is in a word.
#[derive(Default)]
struct Place {
    /// So many bytes of the word it takes for other words.
    cut: usize,
    /// Whether a quote is open.
    quoted: bool,
}

/// What bash takes for something else than itself.
const SPECIAL: &str = " \t'\"\\$&;|<>()`*?[]{}~#!";

/// A candidate as the shell's script takes it.
fn line(shell: Shell, candidate: &Candidate, place: &Place) -> String {
    let Candidate { value, help } = candidate;
    match shell {
        Shell::Bash => {
            let rest = value.get(place.cut..).unwrap_or_default();
            let escape = |letter: char| !place.quoted && SPECIAL.contains(letter);
            rest.chars()
                .flat_map(|letter| escape(letter).then_some('\\').into_iter().chain([letter]))
                .collect()
        }
        Shell::Zsh if help.is_empty() => value.replace(':', "\\:"),
        Shell::Zsh => format!("{}:{help}", value.replace(':', "\\:")),
        Shell::Fish => format!("{value}\t{help}"),
    }
}

/// The words of a line up to the cursor, from the program's name on, and whether a quote is open; the last word is empty
/// behind a space.
fn split(line: &str) -> (Vec<String>, bool) {
    let mut words = vec![String::new()];
    let (mut quote, mut letters) = (None, line.chars());
    while let Some(letter) = letters.next() {
        let Some(word) = words.last_mut() else { break };
        match (quote, letter) {
            (Some(end), letter) if letter == end => quote = None,
            (Some('\''), letter) => word.push(letter),
            (_, '\\') => word.extend(letters.next()),
            (Some(_), letter) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, ' ' | '\t') if word.is_empty() => {}
            (None, ' ' | '\t') => words.push(String::new()),
            (None, letter) => word.push(letter),
        }
    }
    // `NAME=value mcpctl …` begins with what is no word of ours.
    while words.len() > 1 && words.first().is_some_and(|first| first.contains('=')) {
        words.remove(0);
    }
    (words, quote.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> Vec<String> {
        complete(Cli::command, split(line).0).into_iter().map(|one| one.value).collect()
    }

    #[test]
    fn lines_are_split_as_the_shell_does() {
        assert_eq!(split("mcpctl get ").0, ["mcpctl", "get", ""]);
        assert!(split("mcpctl get 'a").1);
        assert_eq!(
            split("A=1 mcpctl  get 'a b' \"c\\\"d\" e\\ f").0,
            ["mcpctl", "get", "a b", "c\"d", "e f"]
        );
    }

    #[test]
    fn commands_flags_kinds_and_aliases_are_offered() {
        assert!(offered("mcpctl ").contains(&"apply".to_owned()));
        assert_eq!(offered("mcpctl desc"), ["describe"]);
        assert!(!offered("mcpctl ").iter().any(|one| one.starts_with('_') || one.starts_with('-')));
        assert!(offered("mcpctl get --no").contains(&"--no-headers".to_owned()));
        let kinds = offered("mcpctl get ");
        assert!(kinds.contains(&"llms".to_owned()) && kinds.contains(&"auditlogs".to_owned()), "{kinds:?}");
        assert!(!kinds.iter().any(|one| one.starts_with('-')), "{kinds:?}");
        assert_eq!(offered("mcpctl get s"), ["secretbackends", "secrets"]);
        assert_eq!(offered("mcpctl describe rbac-d"), ["rbac-definition"]);
        assert_eq!(offered("mcpctl get llm"), ["llm"]);
        assert_eq!(offered("mcpctl explain llm.ap"), ["llm.apiKeyRef"]);
        assert_eq!(offered("mcpctl create llm x --type op"), ["openai"]);
        assert_eq!(offered("mcpctl get llms -o ja"), Vec::<String>::new());
        assert_eq!(offered("mcpctl get llms -o y"), ["yaml"]);
        assert_eq!(offered("mcpctl -o json comp"), ["completion"]);
        assert_eq!(offered("mcpctl patch llm/gpt ti"), Vec::<String>::new());
    }
}
