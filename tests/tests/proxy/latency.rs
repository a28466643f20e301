//! What the proxy adds to a call, beside what the server adds.

use std::time::{Duration, Instant};

use tests::Api;

use super::{Proxy, World, chat};

const CALLS: usize = 200;
const ROUNDS: usize = 5;
/// One more process on the way, with as many wake-ups as the server: what they cost is for the system's scheduler to say.
const MOST: f64 = 2.0;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn timed(api: &Api, times: &mut Vec<Duration>) {
    let request = api.request("POST", "/v1/chat/completions").json(&chat("gpt", false));
    let began = Instant::now();
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    answer.bytes().await.unwrap();
    times.push(began.elapsed());
}

/// The provider alone, through the server, and through both, in turns: whatever slows the machine slows all three.
#[tokio::test]
async fn the_proxy_adds_about_as_much_as_the_server_does() {
    let world = World::make(600).await;
    let proxy = Proxy::start(&world.server, &world.admin, world.providers()).await;
    let address = world.remote.url().strip_prefix("http://").unwrap().parse().unwrap();
    let bare = Api::new(address, world.admin.canary()).with_token("none");
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let (mut alone, mut server, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..CALLS {
            timed(&bare, &mut alone).await;
            timed(&world.admin, &mut server).await;
            timed(&proxy.api, &mut both).await;
        }
        let (alone, server, both) = (median(alone), median(server), median(both));
        let (of_server, of_proxy) = (server.saturating_sub(alone), both.saturating_sub(server));
        let ratio = of_proxy.as_secs_f64() / of_server.as_secs_f64().max(1e-9);
        eprintln!("p50: provider {alone:?}; server adds {of_server:?}, proxy adds {of_proxy:?}: {ratio:.2}");
        best = best.min(ratio);
        if best <= MOST {
            break;
        }
    }
    assert!(best <= MOST, "the proxy adds {best:.2} times what the server does");
}
