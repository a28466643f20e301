//! Logins in numbers: what they tell by the time they take, whom they hinder, and whom the limits on guessing hit.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use serde_json::json;
use tests::{
    Api, Server, ServerOptions,
    http1::{Connection, RawReply},
    server::{ADMIN, unique},
    within,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::sleep,
};

use super::auth::plant_session;

/// A trace of hundreds of requests would be most of what is measured.
fn quiet() -> ServerOptions {
    ServerOptions { env: vec![("RUST_LOG".to_owned(), "info".to_owned())], ..ServerOptions::default() }
}

/// A login from an address of loopback.
async fn login_from(server: &Server, address: Ipv4Addr, email: &str, password: &str) -> (RawReply, Duration) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    let mut connection = Connection::new(socket.connect(server.address()).await.unwrap());
    let request = login_request(email, password);
    let began = Instant::now();
    connection.write(request.as_bytes()).await.unwrap();
    let reply = within(Duration::from_secs(60), "an answer to a login", connection.reply()).await;
    (reply.expect("an answer"), began.elapsed())
}

fn login_request(email: &str, password: &str) -> String {
    let body = json!({"email": email, "password": password}).to_string();
    format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn median(times: &[Duration]) -> Duration {
    share(times, 0.5)
}

/// What so many of `times` do not exceed.
fn share(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

/// How many times longer the slowest of these medians is than the quickest.
fn factor(sorts: &[Vec<Duration>]) -> f64 {
    let medians: Vec<f64> = sorts.iter().map(|times| median(times).as_secs_f64()).collect();
    medians.iter().copied().fold(0.0, f64::max) / medians.iter().copied().fold(f64::MAX, f64::min)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_takes_as_long_whether_or_not_there_is_such_an_account() {
    let server = Server::start_with(quiet()).await;
    let admin = server.login_admin().await;
    let mut best = f64::MAX;
    // The machine may be busy with something else just now.
    for attempt in 0..3 {
        let known = format!("known-{attempt}@example.com");
        admin.create_user(&known, &unique("password")).await;
        let accounts = [known, format!("nobody-{attempt}@example.com")];
        let mut times = [vec![], vec![]];
        for round in 0..60_u8 {
            for turn in 0..2 {
                // Neither is always first. From another address each time, since guesses are limited.
                let which = (turn + usize::from(round)) % 2;
                let address = Ipv4Addr::new(127, 1 + attempt, which as u8, 1 + round);
                let (reply, took) = login_from(&server, address, &accounts[which], "a wrong password").await;
                assert_eq!(reply.json()["error"], "the e-mail address or the password is wrong");
                assert_eq!(reply.status, 401);
                times[which].push(took);
            }
        }
        println!("known {:?}, unknown {:?}", median(&times[0]), median(&times[1]));
        best = best.min(factor(&times));
        if best < 1.15 {
            return;
        }
    }
    panic!("one is {best:.2} times slower than the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_token_is_refused_in_the_same_time() {
    let mut server = Server::start_with(quiet()).await;
    let admin = server.login_admin().await;
    let me = admin.get("/api/v1/users").await.expect(200)[0]["id"].as_str().unwrap().to_owned();
    let revoked = server.login_admin().await;
    revoked.post("/api/v1/auth/logout", &json!({})).await;
    let real = admin.token().to_owned();
    let expired = format!("mcpctl_st_{}", "e".repeat(real.len() - 10));
    server.sigterm();
    server.exit_status();
    plant_session(&server, &me, &expired, SignedDuration::from_secs(-1)).await;
    server.restart().await;

    let (unknown, prefix) = ("u".repeat(real.len()), real[..real.len() - 1].to_owned());
    let near = format!("{prefix}{}", if real.ends_with('A') { 'B' } else { 'A' });
    let short = [unknown, expired, revoked.token().to_owned(), prefix, near, String::new()];
    let long = ["u".repeat(60 << 10), format!("{real}{}", "u".repeat((60 << 10) - real.len()))];
    for (what, tokens, samples) in [("short", &short[..], 200), ("60 KiB", &long[..], 60)] {
        let mut best = f64::MAX;
        for _ in 0..3 {
            let times = refusals(&server, tokens, samples).await;
            println!("{what}: {:?}", times.iter().map(|times| median(times)).collect::<Vec<_>>());
            best = best.min(factor(&times));
            if best < 1.25 {
                break;
            }
        }
        assert!(best < 1.25, "{what}: one is {best:.2} times slower than another");
    }
}

/// How long it takes to refuse each of `tokens`, so many times, in turns.
async fn refusals(server: &Server, tokens: &[String], samples: usize) -> Vec<Vec<Duration>> {
    let mut connection = Connection::open(server.address()).await;
    let (mut times, mut bodies) = (vec![vec![]; tokens.len()], vec![]);
    for round in 0..samples {
        for turn in 0..tokens.len() {
            let which = (turn + round) % tokens.len();
            let token = &tokens[which];
            let request =
                format!("GET /api/v1/llms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
            let began = Instant::now();
            connection.write(request.as_bytes()).await.unwrap();
            let reply = connection.reply().await.expect("an answer");
            times[which].push(began.elapsed());
            assert_eq!(reply.status, 401, "{}", reply.text());
            bodies.push(reply.text());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "refusals differ: {bodies:?}");
    times
}

/// Asks an Llm again and again until told to stop; how long each took.
async fn ask(server: &Server, api: &Api, stop: &AtomicBool) -> Vec<Duration> {
    let mut connection = Connection::open(server.address()).await;
    let body = r#"{"model":"gpt","messages":[{"role":"user","content":"hello"}]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        api.token(),
        body.len()
    );
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        connection.write(request.as_bytes()).await.unwrap();
        let reply = connection.reply().await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.text());
        times.push(began.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    times
}

/// Inference while `meanwhile` goes on.
async fn inference(server: &Server, api: &Api, meanwhile: impl Future<Output = ()>) -> Vec<Duration> {
    let stop = AtomicBool::new(false);
    let until = async {
        meanwhile.await;
        stop.store(true, Ordering::Relaxed);
    };
    let (one, two, ()) = tokio::join!(ask(server, api, &stop), ask(server, api, &stop), until);
    [one, two].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logins_at_once_do_not_slow_inference() {
    let server = Server::start_with(quiet()).await;
    let admin = server.login_admin().await;
    admin.create_llm_at("gpt", "openai", &plain_provider().await, json!({})).await;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let connections = ready_to_log_in(&server, 200).await;
        // Before and after, since the machine may be busy with something else meanwhile.
        let mut alone = inference(&server, &admin, sleep(Duration::from_millis(1500))).await;
        let began = Instant::now();
        let beside = inference(&server, &admin, log_in_at_once(&server, connections)).await;
        let took = began.elapsed();
        alone.extend(inference(&server, &admin, sleep(Duration::from_millis(1500))).await);
        let [without, with] = [&alone, &beside].map(|times| share(times, 0.99));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!(
            "p50 {:?} and p99 {without:?} of {} calls alone, {:?} and {with:?} of {} beside 200 logins in {took:?}: \
             {ratio:.2} times",
            median(&alone),
            alone.len(),
            median(&beside),
            beside.len()
        );
        best = best.min(ratio);
        if best <= 1.5 {
            return;
        }
    }
    panic!("calls are {best:.2} times slower beside logins");
}

/// Connections that are about to log in: to open them is no part of what is measured.
async fn ready_to_log_in(server: &Server, count: usize) -> Vec<Connection> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(server.address()).await);
    }
    connections
}

async fn log_in_at_once(server: &Server, connections: Vec<Connection>) {
    let request = login_request(ADMIN, server.admin_password());
    let mut logins = JoinSet::new();
    for mut connection in connections {
        let request = request.clone();
        logins.spawn(async move {
            connection.write(request.as_bytes()).await.unwrap();
            connection.reply().await.expect("an answer").status
        });
    }
    let statuses = within(Duration::from_secs(120), "every login", logins.join_all()).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

/// A provider that does next to nothing, so that little but the server is measured; its URL.
async fn plain_provider() -> String {
    const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = Connection::new(stream);
            tokio::spawn(async move {
                while let Ok(Some(head)) = connection.head().await {
                    connection.body(&head, false, &mut Vec::new()).await.unwrap();
                    let length = ANSWER.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ANSWER}"
                    );
                    connection.write(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn nobody_can_lock_out_somebody_else() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let (victim, password) = ("victim@example.com", unique("victim-password"));
    admin.create_user(victim, &password).await;
    let [owner, guesser] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
    let mut refused = None;
    for _ in 0..20 {
        let (reply, _) = login_from(&server, guesser, victim, "a wrong guess").await;
        assert!([401, 429].contains(&reply.status), "{}", reply.text());
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("a limit on guesses");
    assert!(refused.head.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    let (right, _) = login_from(&server, guesser, victim, &password).await;
    assert_eq!(right.status, 429, "no oracle behind the limit");
    let (right, _) = login_from(&server, owner, victim, &password).await;
    assert_eq!(right.status, 200, "{}", right.text());
    let token = right.json()["token"].as_str().unwrap().to_owned();
    server.canary.keep_secret("a session's token", &token);
}

/// Guesses that come all at once are looked at no more often than those that come one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_once_are_limited_too() {
    let server = Server::start_with(quiet()).await;
    let mut guesses = JoinSet::new();
    let login = json!({"email": ADMIN, "password": "a wrong guess"});
    for _ in 0..60 {
        let (client, login) = (server.client(), login.clone());
        guesses.spawn(async move { client.post("/api/v1/auth/login", &login).await.status });
    }
    let statuses = guesses.join_all().await;
    let looked_at = statuses.iter().filter(|status| **status == 401).count();
    assert!((1..=12).contains(&looked_at), "{looked_at} of 60 guesses were looked at");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
}
