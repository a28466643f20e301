//! The private folder that the `gemini` program runs in: its home, its settings, and an empty working folder.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

/// A folder for one run, removed when this is dropped.
pub(super) struct Home(TempDir);

/// No tools, no extensions, no reading around, one try: what keeps the program to answering. They stand in for the
/// machine's own settings, too, so that none of those can add to them.
const SETTINGS: &str = r#"{
  "advanced": {"autoConfigureMemory": false, "ignoreLocalEnv": true},
  "context": {"fileName": "none", "fileFiltering": {"enableRecursiveFileSearch": false}},
  "experimental": {"enableAgents": false},
  "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false, "maxAttempts": 1, "retryFetchErrors": false},
  "hooksConfig": {"enabled": false},
  "mcpServers": {},
  "model": {"maxSessionTurns": 1},
  "privacy": {"usageStatisticsEnabled": false},
  "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": false}},
  "skills": {"enabled": false},
  "telemetry": {"enabled": false},
  "tools": {"core": []}
}
"#;

/// Should the settings fail to keep a tool away, this refuses it.
const POLICY: &str = "[[rule]]\ntoolName = \"*\"\ndecision = \"deny\"\npriority = 999\n";

/// In place of the program's own instructions, which are for an agent that writes code.
const SYSTEM: &str = "\
You are a helpful assistant. You have no tools and no files.

The request may be a conversation, in turns that begin with a line `[system]`, `[user]` or `[assistant]`. What follows \
`[system]` are your instructions. Answer with the text of the next turn of the assistant alone, without such a line.
";

/// The longest that a run may last, as an Llm's `timeoutMs` is limited to.
const LONGEST_RUN: Duration = Duration::from_secs(86_400);

impl Home {
    /// Makes one inside `folder`, readable by this user alone.
    pub(super) fn make(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mode = fs::Permissions::from_mode(0o700);
        let home = Self(tempfile::Builder::new().prefix("run-").permissions(mode).tempdir_in(folder)?);
        fs::create_dir_all(home.path(".gemini"))?;
        for name in ["work", "tmp"] {
            fs::create_dir(home.path(name))?;
        }
        fs::write(home.settings(), SETTINGS)?;
        // The program takes variables from the first such file on its way up: it ends here.
        fs::write(home.path(".gemini/.env"), "")?;
        fs::write(home.policy(), POLICY)?;
        fs::write(home.system(), SYSTEM)?;
        Ok(home)
    }

    /// Removes those that a server left behind when it was killed.
    pub(super) fn sweep(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|entry| entry.modified()).ok();
            let age = age.and_then(|changed| SystemTime::now().duration_since(changed).ok());
            if age.is_some_and(|age| age > LONGEST_RUN)
                && let Err(fault) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%fault, folder = %entry.path().display(), "a folder left behind could not be removed");
            }
        }
    }

    pub(super) fn root(&self) -> &Path {
        self.0.path()
    }

    /// An empty folder.
    pub(super) fn work(&self) -> PathBuf {
        self.path("work")
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.path("tmp")
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.path(".gemini/settings.json")
    }

    pub(super) fn policy(&self) -> PathBuf {
        self.path("policy.toml")
    }

    pub(super) fn system(&self) -> PathBuf {
        self.path("system.md")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_home_is_private_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::make(folder.path()).unwrap();
        let root = home.root().to_owned();
        assert_eq!(root.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(home.work()).unwrap().count(), 0);
        let settings: serde_json::Value =
            serde_json::from_slice(&fs::read(home.settings()).unwrap()).unwrap();
        assert_eq!(settings["tools"]["core"], serde_json::json!([]));
        drop(home);
        assert!(!root.exists());
    }

    #[test]
    fn what_an_old_run_left_is_swept_and_what_runs_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("run-old"), folder.path().join("run-new"));
        for path in [&old, &new] {
            fs::create_dir(path).unwrap();
        }
        let long_ago = SystemTime::now() - LONGEST_RUN - Duration::from_secs(60);
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        Home::sweep(folder.path());
        assert!(!old.exists() && new.exists());
        Home::sweep(&folder.path().join("nowhere"));
    }
}
