//! A program with a managed vLLM in it, for tests that kill such a program: it prints `starting`, then
//! `ready URL PID` or the fault, and stops when its standard input ends.
//!
//! `vllm-keeper PROGRAM MODEL MARKER FOLDER`

use std::{env, time::Duration};

use mcpctl_core::failover::managed::{ManagedSettings, ManagedState, ManagedVllm, Timing};
use tokio::io::AsyncReadExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [program, model, marker, folder] = args.try_into().expect("PROGRAM MODEL MARKER FOLDER");
    let mut settings = ManagedSettings::new("kept", model);
    settings.program = program.into();
    settings.folder = Some(folder.into());
    settings.environment = vec![("VLLM_TEST_MARKER".into(), marker.into())];
    let timing =
        Timing { grace: Duration::from_secs(1), look_every: Duration::from_millis(10), ..Timing::default() };
    let vllm = ManagedVllm::with_timing(settings, timing);
    println!("starting");
    let used = vllm.ready().await;
    match (&used, vllm.state()) {
        (Ok(used), ManagedState::Ready { pid, .. }) => println!("ready {} {pid}", used.url()),
        (Ok(_), state) => println!("strange: {state:?}"),
        (Err(error), _) => println!("failed: {}", error.message()),
    }
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    drop(used);
    vllm.stop().await;
}
