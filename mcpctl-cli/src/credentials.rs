//! `credentials.json`: a token per server, never sent to any other.

use mcpctl_core::client::Token;
use serde_json::{Map, Value, json};

use crate::{config::normal_url, failure::Failure, home::Home};

const FILE: &str = "credentials.json";

/// What is remembered of a login.
#[derive(Debug)]
pub(crate) struct Credential {
    /// The session's token.
    pub(crate) token: Token,
    /// Who logged in.
    pub(crate) user: String,
    /// When the session ends by itself, RFC 3339.
    pub(crate) expires_at: String,
}

/// The credential for the server at `url`, if there is one.
pub(crate) fn load(home: &Home, url: &str) -> Result<Option<Credential>, Failure> {
    let all = read(home)?;
    let Some(Value::Object(entry)) = all.get(&normal_url(url)?) else { return Ok(None) };
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if text("token").is_empty() {
        return Ok(None);
    }
    let token = Token::new(text("token"));
    Ok(Some(Credential { token, user: text("user"), expires_at: text("expiresAt") }))
}

/// Remembers the credential for the server at `url`.
pub(crate) fn store(home: &Home, url: &str, credential: &Credential) -> Result<(), Failure> {
    let mut all = read(home)?;
    let entry = json!({
        "token": credential.token.reveal(),
        "user": credential.user,
        "expiresAt": credential.expires_at,
    });
    all.insert(normal_url(url)?, entry);
    home.write(FILE, &Value::Object(all))
}

/// Forgets the credential for the server at `url`; says whether there was one.
pub(crate) fn forget(home: &Home, url: &str) -> Result<bool, Failure> {
    let mut all = read(home)?;
    let had = all.shift_remove(&normal_url(url)?).is_some();
    if had {
        home.write(FILE, &Value::Object(all))?;
    }
    Ok(had)
}

fn read(home: &Home) -> Result<Map<String, Value>, Failure> {
    refuse_if_exposed(home)?;
    match home.read(FILE)? {
        None => Ok(Map::new()),
        Some(Value::Object(all)) => Ok(all),
        Some(_) => {
            Err(Failure::new(format!("reading {}: expected a JSON object", home.file(FILE).display())))
        }
    }
}

/// Tokens that others can read are no longer secret: whoever made them readable should know.
#[cfg(unix)]
fn refuse_if_exposed(home: &Home) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = home.file(FILE);
    let Ok(metadata) = std::fs::metadata(&path) else { return Ok(()) };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(format!("{path} has mode {mode:03o}: others can read your tokens"))
        .hint(format!("run `chmod 600 {path}`, and log out and in again if somebody may have read it")))
}

#[cfg(not(unix))]
fn refuse_if_exposed(_home: &Home) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(token: &str) -> Credential {
        Credential { token: Token::new(token), user: "a@b.example".into(), expires_at: String::new() }
    }

    #[test]
    fn a_token_belongs_to_one_url() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        store(&home, "http://One.example:3100/", &credential("t1")).unwrap();
        store(&home, "http://two.example:3100", &credential("t2")).unwrap();
        let token = |url: &str| load(&home, url).unwrap().map(|found| found.token.reveal().to_owned());
        assert_eq!(token("http://one.example:3100").as_deref(), Some("t1"));
        assert_eq!(token("http://two.example:3100").as_deref(), Some("t2"));
        for other in ["https://one.example:3100", "http://one.example", "http://one.example:3100/sub"] {
            assert_eq!(token(other), None, "{other}");
        }
        assert!(forget(&home, "http://one.example:3100").unwrap());
        assert!(!forget(&home, "http://one.example:3100").unwrap());
        assert_eq!(token("http://one.example:3100"), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private_and_refused_when_it_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("made"));
        store(&home, "http://h:1", &credential("t")).unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.file(FILE)), 0o600);
        assert_eq!(mode(&folder.path().join("made")), 0o700);
        std::fs::set_permissions(home.file(FILE), std::fs::Permissions::from_mode(0o644)).unwrap();
        let failure = load(&home, "http://h:1").unwrap_err();
        assert!(failure.message().contains("mode 644"), "{}", failure.message());
    }
}
