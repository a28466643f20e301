//! How long a command takes from a cold start to the prompt.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use tests::server::binary;

use crate::tasks::logged_in;

/// The time that a program takes to its end, the median of some runs.
fn median(mut program: impl FnMut() -> Output) -> Duration {
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let began = Instant::now();
            let output = program();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_there_at_once() {
    let server = logged_in().await;
    let token = server.login_admin().await.token().to_owned();
    let url = format!("{}/api/v1/llms", server.url());
    let curl = || {
        Command::new("curl")
            .args(["-sf", "-H", &format!("Authorization: Bearer {token}"), &url])
            .output()
            .expect("curl is there")
    };
    let mcpctl = || {
        Command::new(binary("mcpctl"))
            .args(["get", "llms"])
            .env_clear()
            .env("HOME", server.folder())
            .env("MCPCTL_URL", server.url())
            .output()
            .unwrap()
    };
    let (curl, mcpctl) = (median(curl), median(mcpctl));
    let ratio = mcpctl.as_secs_f64() / curl.as_secs_f64();
    println!("mcpctl get llms {mcpctl:?}, curl {curl:?}: {ratio:.1} times as long");
    assert!(mcpctl < curl + Duration::from_millis(30), "{mcpctl:?} and {curl:?}");
}
