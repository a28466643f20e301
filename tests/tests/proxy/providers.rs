//! `mcpctl providers`, with and without a proxy.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};
use tests::{
    Api, Fault, Server, eventually,
    provider::answer::text,
    server::{binary, free_address},
};

use super::{Proxy, World, chat};

fn out(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_run_already_are_listed_and_tried() {
    let world = World::make(600).await;
    let mut proxy = world.proxy().await;
    let run = |proxy: &Proxy, args: &[&str]| proxy.run(&world.server.url(), &world.admin, args);
    for running in [true, false] {
        if !running {
            proxy.process.signal("TERM");
            proxy.process.wait(tests::wait::SOON);
        }
        let table = out(&run(&proxy, &["providers", "list"]));
        let words = ["NAME", "STANDS-IN-FOR", "STATE", "local", "vllm", "local-1", "gpt, plain", "up"];
        assert!(words.iter().all(|word| table.contains(word)), "{table}");
        let listed = proxy.json(&world.server.url(), &world.admin, &["providers", "list"]);
        assert_eq!(listed[0]["standsInFor"], json!(["gpt", "plain"]));
        assert!(!listed.to_string().contains("sk-of-the-local-one"));
        let said = out(&run(&proxy, &["providers", "test", "local"]));
        assert!(said.starts_with("provider 'local' works: it answered in "), "{said}");
    }
    assert_eq!(world.local.last().json()["max_tokens"], 1);
    world.local.misbehave(Fault::Status(500));
    let output = run(&proxy, &["providers", "test", "local"]);
    assert!(
        output.status.code() == Some(1) && out(&output).contains("local provider `local`: it answered 500")
    );
    let output = run(&proxy, &["providers", "test", "nowhere"]);
    assert!(output.status.code() == Some(1) && out(&output).contains("known: local"));
    let output = run(&proxy, &["providers", "start", "local"]);
    assert!(output.status.code() == Some(1) && out(&output).contains("mcpctl proxy"), "{}", out(&output));
    let bad = json!({"providers": [{"name": "x", "type": "vllm", "model": "m", "url": "http://h", "tier": "slow"}]});
    fs::write(proxy.home.path().join("config.json"), bad.to_string()).unwrap();
    for args in [&["providers", "list"][..], &["proxy", "--listen", "127.0.0.1:0"], &["status"]] {
        let said = out(&run(&proxy, args));
        assert!(said.contains("providers: `x`: tier: must be one of fast, heavy"), "{args:?}: {said}");
    }
}

async fn managed(model: &str) -> (Server, Api, Proxy) {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let folder = tempfile::TempDir::new().unwrap();
    let venv = folder.keep();
    fs::create_dir(venv.join("bin")).unwrap();
    symlink(binary("stub-vllm"), venv.join("bin/vllm")).unwrap();
    let entry = json!([{"name": "mine", "type": "vllm-managed", "model": model, "port": free_address().port(),
                        "venvPath": venv, "failoverFor": ["gpt"]}]);
    let proxy = Proxy::start(&server, &admin, entry).await;
    (server, admin, proxy)
}

fn state(proxy: &Proxy, server: &Server, admin: &Api) -> Value {
    proxy.json(&server.url(), admin, &["providers", "list"])[0]["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_ones_are_started_by_the_proxy_and_end_with_it() {
    let (server, admin, mut proxy) = managed("slow:300ms").await;
    let remote = tests::Provider::start().await;
    admin.create_llm("gpt", "openai", &remote).await;
    assert_eq!(state(&proxy, &server, &admin), "stopped");
    let run = |proxy: &Proxy, what: &str| proxy.run(&server.url(), &admin, &["providers", what, "mine"]);
    let said = out(&run(&proxy, "start"));
    assert!(said.starts_with("provider 'mine' is ready\nmine: "), "{said}");
    assert_eq!(state(&proxy, &server, &admin), "ready");
    let said = out(&run(&proxy, "test"));
    assert!(said.contains("provider 'mine' works"), "{said}");
    assert!(run(&proxy, "stop").status.success());
    assert_eq!(state(&proxy, &server, &admin), "stopped");
    // A failover starts it again by itself.
    remote.misbehave(Fault::Status(500));
    let reply = proxy.api.post("/v1/chat/completions", &chat("gpt", false)).await;
    assert_eq!(reply.expect(200)["choices"][0]["message"]["content"], text());
    assert_eq!(reply.header("x-mcpctl-failover"), "via=mine");
    let listed = proxy.json(&server.url(), &admin, &["providers", "list"]);
    let pid: u32 = listed[0]["detail"].as_str().unwrap().strip_prefix("pid ").unwrap().parse().unwrap();
    proxy.process.signal("TERM");
    assert_eq!(proxy.process.wait(tests::wait::SOON).code(), Some(0), "{}", proxy.log());
    let gone = async || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])).then_some(())
    };
    eventually("vLLM is gone", gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_start_says_why() {
    let (server, admin, proxy) = managed("dies-at-start").await;
    let output = proxy.run(&server.url(), &admin, &["providers", "start", "mine"]);
    let said = out(&output);
    assert!(output.status.code() == Some(1) && said.contains("CUDA out of memory"), "{said}");
    assert_eq!(state(&proxy, &server, &admin), "failed");
}
