//! The `gemini` program, as this machine has it.

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use mcpctl_core::{Error, Result, gateway::GeminiProgram};

use crate::Config;

/// The program that the settings name, else the one in `PATH`; `None` when there is none.
///
/// # Errors
///
/// Invalid, when the settings name something that cannot be run.
pub(crate) fn find(config: &Config, data_dir: &Path) -> Result<Option<GeminiProgram>> {
    let path = match &config.gemini_program {
        Some(path) if is_program(path) => Some(std::path::absolute(path).map_err(Error::internal)?),
        Some(path) => {
            let message = format!("--gemini-program: {} is no file that can be run", path.display());
            return Err(Error::invalid(message));
        }
        None => env::var_os("PATH").and_then(|folders| in_path(&folders)),
    };
    let Some(path) = path else { return Ok(None) };
    tracing::info!(path = %path.display(), "the gemini program is there");
    let set = |name: &&str| env::var_os(name).map(|value| (name.into(), value));
    let environment = GeminiProgram::ENVIRONMENT.iter().filter_map(set).collect();
    let (max_processes, folder) = (config.gemini_max_processes, data_dir.join("gemini"));
    let folder = std::path::absolute(folder).map_err(Error::internal)?;
    Ok(Some(GeminiProgram { path, max_processes, folder, environment }))
}

fn in_path(folders: &OsStr) -> Option<PathBuf> {
    // A folder that is not absolute is another one wherever the server is started.
    let folders = env::split_paths(folders).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join("gemini")).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_in_the_path_that_can_be_run_is_taken() {
        let folders = tempfile::tempdir().unwrap();
        let place = |name: &str, mode: u32| {
            let path = folders.path().join(name).join("gemini");
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (text, first, _second) = (place("a", 0o644), place("b", 0o755), place("c", 0o755));
        fs::create_dir_all(folders.path().join("d/gemini")).unwrap();
        let path = |names: &[&str]| {
            let folders = names.iter().map(|name| folders.path().join(name));
            env::join_paths(folders).unwrap()
        };
        assert!(!is_program(&text));
        assert_eq!(in_path(&path(&["nowhere", "a", "d", "b", "c"])), Some(first));
        assert_eq!(in_path(&path(&["nowhere", "a", "d"])), None);
        assert_eq!(in_path(OsStr::new("relative:.")), None);
    }
}
