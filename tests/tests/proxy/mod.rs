//! `mcpctl proxy`, as programs see it that know nothing of mcpctl.

mod ending;
mod guard;
mod latency;
mod passing;
mod providers;
mod standing_in;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{
    Api, Provider, Server, eventually,
    server::{Process, binary},
};

/// A proxy with a home folder of its own, until it is dropped.
struct Proxy {
    process: Process,
    home: TempDir,
    address: SocketAddr,
    /// A client with the proxy's token.
    api: Api,
}

impl Proxy {
    /// For the server of `who`, with these local providers.
    async fn start(server: &Server, who: &Api, providers: Value) -> Self {
        Self::start_with(&server.url(), who, providers, &[]).await
    }

    async fn start_with(url: &str, who: &Api, providers: Value, args: &[&str]) -> Self {
        let home = TempDir::new().unwrap();
        fs::write(home.path().join("config.json"), json!({"providers": providers}).to_string()).unwrap();
        let mut command = mcpctl(home.path(), url, who.token());
        command.args(["proxy", "--listen", "127.0.0.1:0"]).args(args);
        command.stdout(File::create(home.path().join("out")).unwrap());
        command.stderr(File::create(home.path().join("err")).unwrap());
        let process = Process::spawn(&mut command);
        let told = async || {
            let told = fs::read_to_string(home.path().join("out")).unwrap();
            assert!(process.is_running(), "{}", fs::read_to_string(home.path().join("err")).unwrap());
            (told.ends_with('\n') && told.lines().count() == 2).then_some(told)
        };
        let told = eventually("the proxy says where it listens", told).await;
        let word = |name: &str| {
            let start = format!("{name}=");
            told.split_whitespace().find_map(|word| word.strip_prefix(&start)).unwrap().to_owned()
        };
        let address = word("ANTHROPIC_BASE_URL").strip_prefix("http://").unwrap().parse().unwrap();
        assert_eq!(word("OPENAI_BASE_URL"), format!("http://{address}/v1"));
        let (token, other) = (word("OPENAI_API_KEY"), word("ANTHROPIC_API_KEY"));
        assert_eq!(token, other);
        let canary = who.canary();
        if token != "none" {
            canary.keep_secret("the proxy's token", &token);
        }
        let api = Api::new(address, canary).with_token(token);
        Self { process, home, address, api }
    }

    /// What it said on stderr.
    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("err")).unwrap()
    }

    /// Another command of the same user.
    fn run(&self, url: &str, who: &Api, args: &[&str]) -> Output {
        let output = mcpctl(self.home.path(), url, who.token()).args(args).output().unwrap();
        self.api.canary().saw(args.join(" "), [output.stdout.as_slice(), &output.stderr].concat());
        output
    }

    /// The same, which must go well, as JSON.
    fn json(&self, url: &str, who: &Api, args: &[&str]) -> Value {
        let output = self.run(url, who, &[args, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill();
        if !std::thread::panicking() {
            self.api.canary().check([("what the proxy said", self.log().as_bytes())]);
        }
    }
}

fn mcpctl(home: &Path, url: &str, token: &str) -> Command {
    let mut command = Command::new(binary("mcpctl"));
    command
        .env_clear()
        .env("PATH", home.join("bin"))
        .env("MCPCTL_HOME", home)
        .env("MCPCTL_URL", url)
        .env("MCPCTL_TOKEN", token)
        .stdin(Stdio::null());
    command
}

/// The real server with two Llms that one provider serves, and a provider on this machine.
struct World {
    server: Server,
    admin: Api,
    remote: Provider,
    local: Provider,
}

impl World {
    /// `gpt` gives leases for so many seconds, `plain` none.
    async fn make(lease: u64) -> Self {
        let (server, remote, local) =
            (Server::start().await, Provider::start().await, Provider::start().await);
        let admin = server.login_admin().await;
        admin.create_llm_at("gpt", "openai", &remote.url(), json!({"failoverLeaseSeconds": lease})).await;
        admin.create_llm_at("plain", "openai", &remote.url(), json!({})).await;
        Self { server, admin, remote, local }
    }

    /// The local provider, standing in for both.
    fn providers(&self) -> Value {
        json!([{"name": "local", "type": "vllm", "model": "local-1", "url": self.local.url(),
                "failoverFor": ["gpt", "plain"], "apiKey": "sk-of-the-local-one"}])
    }

    async fn proxy(&self) -> Proxy {
        Proxy::start(&self.server, &self.admin, self.providers()).await
    }
}

fn chat(llm: &str, stream: bool) -> Value {
    json!({"model": llm, "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}
