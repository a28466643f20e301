//! Progress, on a terminal's standard error; elsewhere, none.

use std::{
    io::{IsTerminal as _, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that counts `length` of `what`.
pub(crate) fn bar(length: usize, what: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    on_terminal(|target| ProgressBar::with_draw_target(Some(length), target).with_style(style))
}

/// A sign of life, until something has come of what takes a while.
pub(crate) fn spinner(what: impl Into<String>) -> ProgressBar {
    let spinner = on_terminal(|target| ProgressBar::with_draw_target(None, target));
    if !spinner.is_hidden() {
        spinner.set_message(what.into());
        spinner.enable_steady_tick(Duration::from_millis(100));
    }
    spinner
}

fn on_terminal(make: impl FnOnce(ProgressDrawTarget) -> ProgressBar) -> ProgressBar {
    if stderr().is_terminal() { make(ProgressDrawTarget::stderr()) } else { ProgressBar::hidden() }
}
