//! Three servers on one PostgreSQL: what is revoked or changed at one of them counts at the others at once, and for
//! those who are being answered, too.

use std::{
    process::Child,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    Api, Fault, Provider, Server,
    api::Stream,
    eventually, eventually_within,
    http1::Connection,
    postgres::Postgres,
    server::{ADMIN, unique},
    sse::Chat,
    within,
};
use tokio::{
    task::{JoinSet, LocalSet},
    time::sleep,
};

use super::{
    Spread, options,
    outage::{changes_work_again, healed_within},
    request, scaled,
};

/// How soon a change counts everywhere.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How soon it does when nobody is told of it.
const UNTOLD: Duration = Duration::from_secs(5);
/// How soon those are cut off who are being answered.
const CUT_OFF: Duration = Duration::from_secs(10);

/// Servers on one database, each with a client that shows the admin's token.
struct Cluster<'a> {
    postgres: &'a Postgres,
    url: String,
    servers: Vec<Server>,
    admins: Vec<Api>,
}

impl<'a> Cluster<'a> {
    async fn start() -> Option<Self> {
        Some(Self::start_on(Postgres::shared()?, &[]).await)
    }

    async fn start_on(postgres: &'a Postgres, args: &[&str]) -> Self {
        let (url, password) = (postgres.create_database(), unique("admin-password"));
        let mut options = options(args);
        options.database_url = Some(url.clone());
        options.env.push(("MCPCTL_MASTER_KEY".to_owned(), "5c".repeat(32)));
        options.env.push(("MCPCTL_ADMIN_PASSWORD".to_owned(), password.clone()));
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start_with(options.clone()).await);
        }
        let admin = servers[0].client().login(ADMIN, &password).await;
        let admins = servers.iter().map(|server| server.client().with_token(admin.token())).collect();
        Self { postgres, url, servers, admins }
    }

    fn database(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    fn listeners(&self) -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name = 'mcpctl listener' AND datname = current_database()";
        self.postgres.sql(self.database(), sql).trim().parse().unwrap()
    }

    /// The same caller at every server but the first, once they know of it.
    async fn elsewhere(&self, caller: &Api, llm: &str) -> Vec<Api> {
        let mut others = Vec::new();
        for server in &self.servers[1..] {
            let other = server.client().with_token(caller.token());
            let known = async || (other.infer(llm, &ask()).await.status == 200).then_some(());
            eventually("the caller is known elsewhere", known).await;
            others.push(other);
        }
        others
    }
}

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

/// How long it takes until each of the two `callers` gets `status`.
async fn until(what: &str, callers: &[Api], limit: Duration, status: u16) -> Vec<Duration> {
    let began = Instant::now();
    let waiting = async |caller: &Api| {
        let probe = async || (caller.infer("gpt", &ask()).await.status == status).then_some(());
        // A measurement that is too long is to be shown with the others.
        eventually_within(limit * 2, what, probe).await;
        began.elapsed()
    };
    let (one, two) = tokio::join!(waiting(&callers[0]), waiting(&callers[1]));
    vec![one, two]
}

/// Makes every change so many times at the first server, and measures when the others go by it.
async fn rounds(cluster: &Cluster<'_>, rounds: usize, limit: Duration) {
    let [one, two] = [Provider::start().await, Provider::start().await];
    let admin = &cluster.admins[0];
    admin.create_llm("gpt", "openai", &one).await;
    // The answer tells which provider it was.
    two.misbehave(Fault::Status(418));
    let may_run = json!([{"role": "run", "resource": "llms"}]);
    let (mut logouts, mut bindings, mut users, mut urls) = (vec![], vec![], vec![], vec![]);
    let (mut tokens, mut members) = (vec![], vec![]);
    let subjects = json!([{"kind": "Group", "name": "runners"}]);
    admin.create("groups", &json!({"name": "runners"})).await;
    let runners = json!({"name": "runners", "subjects": subjects, "roleBindings": may_run});
    admin.create("rbac", &runners).await;
    for _ in 0..rounds {
        let token = json!({"name": "revoked", "roleBindings": may_run});
        let (_, token) = admin.create_token(&token).await;
        let others = cluster.elsewhere(&token, "gpt").await;
        assert_eq!(admin.delete("/api/v1/mcptokens/revoked").await.status, 204);
        tokens.extend(until("a token deleted elsewhere", &others, limit, 401).await);

        let user = admin.create_user_with(&json!([])).await;
        let join = json!({"members": [name_of(&user).await]});
        admin.patch("/api/v1/groups/runners", &join).await.expect(200);
        let others = cluster.elsewhere(&user, "gpt").await;
        admin.patch("/api/v1/groups/runners", &json!({"members": []})).await.expect(200);
        members.extend(until("a member removed elsewhere", &others, limit, 403).await);

        let user = admin.create_user_with(&may_run).await;
        let others = cluster.elsewhere(&user, "gpt").await;
        assert_eq!(user.post("/api/v1/auth/logout", &json!({})).await.status, 204);
        logouts.extend(until("a session ended elsewhere", &others, limit, 401).await);

        let user = admin.create_user_with(&may_run).await;
        let others = cluster.elsewhere(&user, "gpt").await;
        assert_eq!(admin.delete(&binding_of(&user).await).await.status, 204);
        bindings.extend(until("a binding deleted elsewhere", &others, limit, 403).await);

        let user = admin.create_user_with(&may_run).await;
        let others = cluster.elsewhere(&user, "gpt").await;
        assert_eq!(admin.delete(&format!("/api/v1/users/{}", name_of(&user).await)).await.status, 204);
        users.extend(until("a user deleted elsewhere", &others, limit, 401).await);

        for (provider, status) in [(&two, 418), (&one, 200)] {
            admin.patch("/api/v1/llms/gpt", &json!({"url": provider.url()})).await.expect(200);
            urls.extend(until("a URL changed elsewhere", &cluster.admins[1..], limit, status).await);
        }
    }
    let all = [("logout", logouts), ("token", tokens), ("binding", bindings), ("member", members)];
    for (what, times) in all.into_iter().chain([("user", users), ("url", urls)]) {
        let spread = Spread::of(times);
        println!("{what}: counts elsewhere after {spread}");
        assert!(spread.max() < limit, "{what}: {spread}");
    }
}

async fn name_of(user: &Api) -> String {
    user.get("/api/v1/auth/whoami").await.expect(200)["user"]["name"].as_str().unwrap().to_owned()
}

/// The path of the definition that `create_user_with` made.
async fn binding_of(user: &Api) -> String {
    let name = name_of(user).await;
    let name = name.split('@').next().unwrap();
    format!("/api/v1/rbac/rbac-of-{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_count_everywhere_at_once() {
    let Some(cluster) = Cluster::start().await else { return };
    eventually("every server listens", async || (cluster.listeners() == 3).then_some(())).await;
    rounds(&cluster, scaled("MCPCTL_REVOCATION_ROUNDS", 10, 100), AT_ONCE).await;
}

/// Ends the connections that listen, as soon as there are any, until it is dropped.
struct Cutter(Child);

impl Cutter {
    fn start(cluster: &Cluster<'_>) -> Self {
        let sql = "SET client_connection_check_interval = '100ms'; DO $$ BEGIN LOOP \
                   PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'mcpctl listener' AND datname = current_database(); \
                   PERFORM pg_sleep(0.005); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$";
        Self(cluster.postgres.start_sql(cluster.database(), sql))
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_nobody_is_told_of_count_soon() {
    let Some(cluster) = Cluster::start().await else { return };
    eventually("every server listens", async || (cluster.listeners() == 3).then_some(())).await;
    let (cutter, began) = (Cutter::start(&cluster), Instant::now());
    for server in &cluster.servers {
        server.logged("the database announces no changes").await;
    }
    rounds(&cluster, scaled("MCPCTL_REVOCATION_ROUNDS", 3, 100), UNTOLD).await;
    drop(cutter);
    eventually("every server listens again", async || (cluster.listeners() == 3).then_some(())).await;
    let log = cluster.servers[0].log();
    let complaints = log.matches("the database announces no changes").count();
    let most = 10 + began.elapsed().as_secs() as usize;
    assert!(complaints < most, "{complaints} lines in {:?}", began.elapsed());
}

/// What ends somebody's right to an answer.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Logout,
    Binding,
    User,
    Llm,
}

/// Somebody who is being answered.
#[derive(Clone, Copy, Debug)]
struct Case {
    ending: Ending,
    path: &'static str,
    provider: &'static str,
    fault: Fault,
    stream: bool,
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

const fn case(
    ending: Ending,
    path: &'static str,
    provider: &'static str,
    fault: Fault,
    stream: bool,
) -> Case {
    Case { ending, path, provider, fault, stream }
}

const CASES: [Case; 11] = [
    case(Ending::Logout, CHAT, "openai", Fault::Stall, true),
    case(Ending::Logout, CHAT, "anthropic", Fault::Endless, true),
    case(Ending::Logout, MESSAGES, "anthropic", Fault::Endless, true),
    case(Ending::Logout, MESSAGES, "openai", Fault::Stall, true),
    case(Ending::Binding, CHAT, "openai", Fault::Endless, true),
    case(Ending::Binding, MESSAGES, "anthropic", Fault::Stall, true),
    case(Ending::User, CHAT, "openai", Fault::Stall, true),
    case(Ending::Llm, CHAT, "openai", Fault::Endless, true),
    // Nothing has come yet, so it is a status.
    case(Ending::Logout, CHAT, "openai", Fault::Silent, true),
    case(Ending::Binding, MESSAGES, "anthropic", Fault::Silent, false),
    case(Ending::Logout, CHAT, "openai", Fault::Stall, false),
];

impl Ending {
    fn status(self) -> u16 {
        match self {
            Self::Logout | Self::User => 401,
            Self::Binding => 403,
            Self::Llm => 404,
        }
    }

    async fn happen(self, admin: &Api, user: &Api, llm: &str) {
        let reply = match self {
            Self::Logout => user.post("/api/v1/auth/logout", &json!({})).await,
            Self::Binding => admin.delete(&binding_of(user).await).await,
            Self::User => admin.delete(&format!("/api/v1/users/{}", name_of(user).await)).await,
            Self::Llm => admin.delete(&format!("/api/v1/llms/{llm}")).await,
        };
        assert_eq!(reply.status, 204, "{self:?}: {}", reply.text());
    }
}

impl Case {
    /// The caller is answered by the one server, and the right to it ends at the other.
    async fn run(self, number: usize, admin: Api, elsewhere: Api) -> Duration {
        let (llm, provider) = (format!("llm-{number}"), Provider::start().await);
        admin.create_llm(&llm, self.provider, &provider).await;
        let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
        let caller = elsewhere.with_token(user.token());
        let known = async || (caller.get(&format!("/v1/models/{llm}")).await.status == 200).then_some(());
        eventually("the caller and the Llm are known elsewhere", known).await;
        provider.misbehave(self.fault);
        let body = json!({"model": llm, "stream": self.stream, "max_tokens": 100,
                          "messages": [{"role": "user", "content": "hello"}]});
        let answer = tokio::spawn({
            let (caller, body) = (caller.clone(), body.clone());
            async move { read(caller.stream(self.path, &body).await).await }
        });
        provider.next_after(0).await;
        self.ending.happen(&admin, &user, &llm).await;
        let began = Instant::now();
        let (status, text) = within(CUT_OFF, &format!("{self:?} is cut off"), answer).await.unwrap();
        let took = began.elapsed();
        let hung_up = provider.hung_up().await;
        assert!(hung_up.saturating_duration_since(began) < CUT_OFF, "{self:?}: the provider");
        self.check(status, &text);
        self.check_audit(&admin, &llm).await;
        took
    }

    fn check(self, status: u16, text: &str) {
        let expected = self.ending.status();
        let begun = self.stream && self.fault != Fault::Silent;
        assert_eq!(status, if begun { 200 } else { expected }, "{self:?}: {text}");
        let error = match (begun, self.path) {
            (true, CHAT) => Chat::read(text).assert_broken().clone(),
            (true, _) => {
                let (_, last) = text.trim_end().rsplit_once("event: error\ndata: ").expect(text);
                assert!(!last.contains('\n'), "{self:?}: more after the error: {last}");
                serde_json::from_str::<Value>(last).unwrap()["error"].clone()
            }
            (false, _) => serde_json::from_str::<Value>(text).unwrap()["error"].clone(),
        };
        assert!(error["message"].as_str().unwrap().starts_with("revoked: "), "{self:?}: {error}");
        let ty = match expected {
            401 => "authentication_error",
            403 => "permission_error",
            _ => "not_found_error",
        };
        assert!(!begun || error["type"] == ty, "{self:?}: {error}");
    }

    async fn check_audit(self, admin: &Api, llm: &str) {
        let found = async || {
            let path = format!("/api/v1/auditlogs?kind=llm_inference_call&llm={llm}");
            let event = admin.get(&path).await.json()["items"].get(0)?.clone();
            Some(event)
        };
        let event = eventually("the call is in the audit trail", found).await;
        assert_eq!(event["status"], self.ending.status(), "{self:?}: {event}");
        assert!(event["error"].as_str().unwrap().starts_with("revoked: "), "{self:?}: {event}");
    }
}

/// Everything up to the end, without the limits of an ordinary read.
async fn read(stream: Stream) -> (u16, String) {
    let reply = stream.rest().await;
    (reply.status, reply.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_under_way_end_with_the_right_to_them() {
    let Some(cluster) = Cluster::start().await else { return };
    let admin = &cluster.admins[0];
    let provider = Provider::start().await;
    admin.create_llm("gpt", "openai", &provider).await;
    let bystander = &cluster.elsewhere(admin, "gpt").await[0];
    provider.misbehave(Fault::Endless);
    let body = json!({"model": "gpt", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let mut goes_on = bystander.stream(CHAT, &body).await;
    goes_on.until("data: ").await;

    let together = LocalSet::new();
    let mut cases = JoinSet::new();
    for (number, case) in CASES.into_iter().enumerate() {
        let (admin, elsewhere) = (admin.clone(), cluster.servers[1 + number % 2].client());
        cases.spawn_local_on(case.run(number, admin, elsewhere), &together);
    }
    let spread = Spread::of(together.run_until(cases.join_all()).await);
    println!("cut off after {spread}");
    for _ in 0..50 {
        let chunk = goes_on.next().await.expect("whoever may go on goes on");
        assert!(!String::from_utf8_lossy(&chunk).contains("error"));
    }
    for server in &cluster.servers {
        server.check_canary_in_postgres(cluster.postgres, &cluster.url);
    }
}

/// A provider that sends faster than the caller reads is never waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_ends_with_the_right_to_it() {
    let server = Server::start_with(options(&[])).await;
    let (admin, provider) = (server.login_admin().await, Provider::start().await);
    admin.create_llm("gpt", "openai", &provider).await;
    let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
    provider.misbehave(Fault::Flood);
    let mut connection = Connection::open(server.address()).await;
    connection.write(&request(&user, "gpt", "flood", "u", true)).await.unwrap();
    connection.head().await.unwrap().expect("an answer");
    user.post("/api/v1/auth/logout", &json!({})).await;
    let began = Instant::now();
    let mut last = Vec::new();
    while let Some(chunk) = within(CUT_OFF, "the next chunk", connection.chunk()).await.expect("a whole end")
    {
        last = chunk.to_vec();
        assert!(began.elapsed() < CUT_OFF, "the flood goes on");
        sleep(Duration::from_millis(1)).await;
    }
    let last = String::from_utf8(last).unwrap();
    assert!(last.contains("revoked: ") && last.ends_with("data: [DONE]\n\n"), "{last}");
    provider.hung_up().await;
}

/// What one server does while the database is away, each of several does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_outlives_an_outage() {
    let Some(postgres) = Postgres::start() else { return };
    let cluster = Cluster::start_on(&postgres, &["--max-staleness", "6s"]).await;
    let provider = Provider::start().await;
    cluster.admins[0].create_llm("gpt", "openai", &provider).await;
    cluster.elsewhere(&cluster.admins[0], "gpt").await;
    let mut stream = {
        provider.misbehave(Fault::Endless);
        let body = json!({"stream": true, "messages": [{"role": "user", "content": "hello"}]});
        cluster.admins[1].stream("/api/v1/llms/gpt/infer", &body).await
    };
    stream.until("data: ").await;
    provider.misbehave(None);

    postgres.stop();
    let gone = Instant::now();
    for admin in &cluster.admins {
        admin.infer("gpt", &ask()).await.expect(200);
    }
    for admin in &cluster.admins {
        let began = Instant::now();
        admin.patch("/api/v1/llms/gpt", &json!({"description": "never"})).await.error(503);
        assert!(began.elapsed() < Duration::from_secs(20), "refused after {:?}", began.elapsed());
    }
    for admin in &cluster.admins {
        let refused = async || {
            let reply = admin.infer("gpt", &ask()).await;
            assert!([200, 503].contains(&reply.status), "{}", reply.text());
            (reply.status == 503).then_some(())
        };
        eventually_within(Duration::from_secs(15), "memory is too old to be trusted", refused).await;
    }
    println!("callers were refused {:?} after the database was gone", gone.elapsed());
    // Longer than it takes to look at its caller.
    sleep(Duration::from_secs(11).saturating_sub(gone.elapsed())).await;
    for _ in 0..10 {
        let chunk = stream.next().await.expect("a stream that has begun goes on");
        assert!(!String::from_utf8_lossy(&chunk).contains("error"));
    }

    postgres.start_again();
    let back = Instant::now();
    for admin in &cluster.admins {
        changes_work_again(admin, back).await;
        admin.infer("gpt", &ask()).await.expect(200);
    }
    println!("all is well {:?} after its return", back.elapsed());
    assert!(back.elapsed() <= healed_within(), "{:?}", back.elapsed());
    let listening = async || (cluster.listeners() == 3).then_some(());
    eventually("every server listens again", listening).await;
}
