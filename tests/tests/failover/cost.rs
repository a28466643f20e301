//! What failover adds to the time in which the primary's failure is known.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mcpctl_core::{
    adapter::Api,
    client::{Client, Token},
    failover::{FailoverClient, ServerPermission},
};
use tests::Provider;

use super::{
    question, stand_in,
    stub::{Conduct, StubServer},
};

const CALLS: usize = 100;
const BOUND: Duration = Duration::from_millis(5);

async fn timed<T>(times: &mut Vec<Duration>, call: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let value = call.await;
    times.push(began.elapsed());
    value
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A failed call, a local one, and one that fails over, one after the other many times: whatever slows the machine
/// slows all three. What the third costs over the two others is failover's own, the question to the server included.
#[tokio::test]
async fn failover_itself_costs_next_to_nothing() {
    let (down, up) =
        (StubServer::start(Conduct::Status(502)).await, StubServer::start(Conduct::Status(200)).await);
    let provider = Provider::start().await;
    let providers = stand_in(&provider.url());
    let local = providers.stand_in("gpt").unwrap();
    let client = |url: String| Client::new(&url, Some(Token::new("t0p"))).unwrap();
    let (client, up) = (client(down.url()), (client(up.url()), up));
    let permission = Arc::new(ServerPermission::new(&up.0, None));
    let failover = FailoverClient::with_permission(&client, providers, None, permission);
    let asked = question("hello");
    // On a machine that does other work, one quiet round of some is what shows the cost.
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let (mut failing, mut answering, mut together) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..CALLS {
            timed(&mut failing, client.infer("gpt", &asked)).await.unwrap_err();
            let request = asked.to_string().into();
            let answer = timed(&mut answering, local.call(Api::ChatCompletions, request)).await;
            assert_eq!(answer.unwrap().status, 200);
            assert!(timed(&mut together, failover.infer("gpt", &asked)).await.unwrap().failover);
        }
        let (failing, answering, together) = (median(failing), median(answering), median(together));
        let own = together.saturating_sub(failing + answering);
        eprintln!(
            "failing {failing:?}, local {answering:?}, failing over {together:?}: failover itself {own:?}"
        );
        least = least.min(own);
        if least <= BOUND {
            break;
        }
    }
    assert!(least <= BOUND, "failover takes {least:?}, over {BOUND:?}");
}
