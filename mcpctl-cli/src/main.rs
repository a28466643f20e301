#![doc = include_str!("../README.md")]

mod cli;
mod commands;
mod complete;
mod config;
mod context;
mod credentials;
mod document;
mod failure;
mod flags;
mod home;
mod kinds;
mod output;
mod plan;
mod prompt;
mod proxy;
mod sets;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, failure::Failure};

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| cli::told(error).exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    // Fails only when a provider is there already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(cli.run())
}
