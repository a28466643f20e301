//! Managed vLLM processes under faults, round after round: one process at most, nothing left over, and a clear fault
//! or a good answer each time. `MCPCTL_CHAOS_ROUNDS` says how often each fault comes; at the full scale, 100 times.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use mcpctl_core::failover::managed::{InUse, ManagedState, ManagedVllm};
use rustix::process::{Signal, kill_process};
use tests::{chaos::Seeded, eventually};
use tokio::time::sleep;

use super::{Spread, scaled};
use crate::managed::{Keeper, Setup, ask, fifty_at_once, never_healthy, pid, port_in_use};

/// What the process of a round is like, besides.
const KINDS: [&str; 4] = ["plain", "forks-workers", "ignores-term+forks-workers", "slow:50ms+forks-workers"];

#[tokio::test(flavor = "multi_thread")]
async fn managed_processes_leave_nothing_behind() {
    let rounds = scaled("MCPCTL_CHAOS_ROUNDS", 1, 100);
    let mut seeded = Seeded::new(20_261_123);
    let mut took: [Vec<Duration>; FAULTS.len()] = Default::default();
    let mut all = Vec::new();
    for _ in 0..rounds {
        for (fault, name) in FAULTS.iter().enumerate() {
            let kind = KINDS[seeded.below(KINDS.len() as u64) as usize];
            let moment = Duration::from_millis(seeded.below(150));
            let began = Instant::now();
            let setup = match *name {
                "child killed" => child_killed(kind, moment).await,
                "parent killed" => parent_killed(kind, moment).await,
                "child stopped" => child_stopped(kind).await,
                "fifty first calls" => fifty(kind).await,
                "never healthy" => unhealthy(kind).await,
                _ => no_port(kind).await,
            };
            setup.nothing_left().await;
            took[fault].push(began.elapsed());
            all.push(setup);
        }
    }
    // Nor has anything come back.
    assert!(all.iter().all(|setup| setup.processes().is_empty()));
    let mut figures = String::new();
    for (name, took) in FAULTS.iter().zip(took) {
        let _ = writeln!(figures, "{name}, with all gone: {}", Spread::of(took));
    }
    println!("{rounds} rounds of each fault, nothing left over\n{figures}");
}

const FAULTS: [&str; 6] =
    ["child killed", "parent killed", "child stopped", "fifty first calls", "never healthy", "port in use"];

/// Uses it until it is ready and answers.
async fn answers(vllm: &ManagedVllm) -> InUse {
    let used = eventually("readiness", async || vllm.ready().await.ok()).await;
    ask(&used, false).await;
    used
}

/// At any moment, ready or not.
async fn child_killed(kind: &str, moment: Duration) -> Setup {
    let setup = Setup::of(kind);
    let vllm = setup.vllm();
    let killed = async {
        let servers = async || setup.server();
        let server = eventually("a server", servers).await;
        sleep(moment).await;
        let _ = kill_process(server, Signal::KILL);
    };
    let (first, ()) = tokio::join!(vllm.ready(), killed);
    if let Err(fault) = first {
        assert!(fault.message().contains("vLLM was ended by signal 9"), "{fault}");
    }
    drop(answers(&vllm).await);
    assert_eq!(setup.servers(), 1);
    setup
}

/// At any moment, from before the start until it is ready.
async fn parent_killed(kind: &str, moment: Duration) -> Setup {
    let setup = Setup::of(kind);
    let mut keeper = Keeper::start(&setup);
    keeper.says("starting").await;
    sleep(moment).await;
    keeper.kill();
    setup
}

async fn child_stopped(kind: &str) -> Setup {
    let setup = Setup::of(kind);
    let vllm = setup.vllm();
    drop(answers(&vllm).await);
    let stopped = pid(&vllm);
    kill_process(stopped, Signal::STOP).unwrap();
    drop(answers(&vllm).await);
    assert_ne!(pid(&vllm), stopped);
    assert_eq!(setup.servers(), 1);
    setup
}

async fn fifty(kind: &str) -> Setup {
    let setup = Setup::of(kind);
    let vllm = setup.vllm();
    fifty_at_once(&setup, &vllm).await;
    vllm.stop().await;
    assert_eq!((vllm.state(), setup.processes()), (ManagedState::Stopped, Vec::new()));
    setup
}

async fn unhealthy(kind: &str) -> Setup {
    let mut setup = Setup::of(&format!("{kind}+never-healthy"));
    setup.settings.start_timeout = Duration::from_millis(500);
    never_healthy(&setup).await;
    setup
}

async fn no_port(kind: &str) -> Setup {
    let mut setup = Setup::of(kind);
    port_in_use(&mut setup).await;
    setup
}
