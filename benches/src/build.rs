//! Building what is measured.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::Result;

/// The profile with symbols: as shipped, but fit for callgrind.
pub const PROFILING: &str = "profiling";

/// Builds the server in this profile, and says where it is.
///
/// # Errors
///
/// When it does not build.
pub fn server(profile: &str) -> Result<PathBuf> {
    built(
        &["build", "--package", "mcpctl-server", "--bin", "mcpctl-server", "--profile", profile],
        "mcpctl-server",
    )
}

/// Builds a target of this package with [`PROFILING`], and says where it is.
///
/// # Errors
///
/// When it does not build.
pub fn executable(kind: &str, name: &str) -> Result<PathBuf> {
    built(&["build", "--package", "benches", kind, name, "--profile", PROFILING], name)
}

fn built(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--locked", "--message-format", "json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("`{name}` does not build").into());
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let path = messages.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).find_map(|message| {
        let is_it = message["target"]["name"] == name;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    path.ok_or_else(|| format!("cargo did not say where `{name}` is").into())
}
