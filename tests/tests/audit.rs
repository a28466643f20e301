//! The audit trail: what every call and every change leaves behind.

use serde_json::{Value, json};
use tests::{Api, Fault, Provider, Server, eventually, server::ADMIN};

fn ask(model: &str, stream: bool) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

async fn events(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v1/auditlogs?{query}")).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

/// The audit event of the request with this id.
async fn event_of(api: &Api, request: &str) -> Value {
    let find = async || {
        let events = events(api, "kind=llm_inference_call").await;
        events.into_iter().find(|event| event["requestId"] == request)
    };
    eventually(&format!("the event of request {request}"), find).await
}

#[tokio::test]
async fn every_call_leaves_one_event() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for ty in ["openai", "anthropic"] {
        admin.create_llm(ty, ty, &provider).await;
    }
    let me = admin.get("/api/v1/users").await.expect(200)[0]["id"].clone();
    let mut calls = 0;
    for ty in ["openai", "anthropic"] {
        for (stream, fault, status) in [
            (false, None, 200),
            (true, None, 200),
            (false, Some(Fault::Status(429)), 429),
            (false, Some(Fault::Html), 502),
            (true, Some(Fault::Status(400)), 400),
            (true, Some(Fault::Reset), 200),
        ] {
            provider.misbehave(fault);
            calls += 1;
            let id = format!("call-{calls}");
            let request =
                admin.request("POST", &format!("/api/v1/llms/{ty}/infer")).header("x-request-id", &id);
            let mut body = ask(ty, stream);
            if stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let reply = admin.send(request.json(&body)).await;
            let event = event_of(&admin, &id).await;
            let expected = json!({"kind": "llm_inference_call", "llmName": ty, "type": ty, "streaming": stream,
                                  "model": format!("{ty}-model"), "userId": me, "user": ADMIN});
            for (name, value) in expected.as_object().unwrap() {
                assert_eq!(&event[name], value, "{name} of {event}");
            }
            assert!(event["durationMs"].is_u64(), "{event}");
            if fault == Some(Fault::Reset) {
                assert!(event["error"].is_string(), "it broke off: {event}");
            } else {
                assert_eq!(event["status"], status, "{event}");
            }
            if fault.is_none() {
                assert_eq!(event["promptTokens"], 9, "{event}");
                assert_eq!(
                    (&event["completionTokens"], &event["finishReason"]),
                    (&json!(5), &json!("stop")),
                    "{event}"
                );
                assert_eq!(event["bytesOut"].as_u64(), Some(reply.body.len() as u64), "{event}");
                assert!(event["ttftMs"].as_u64() <= event["durationMs"].as_u64(), "{event}");
            }
        }
    }
    let all = events(&admin, "kind=llm_inference_call&limit=100").await;
    assert_eq!(all.len(), calls, "one event each");
}

#[tokio::test]
async fn every_change_leaves_one_event_without_values() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let secret = json!({"api-key": tests::server::unique("sk-audited")});
    let made = admin.create_secret("s", &secret).await;
    admin.put("/api/v1/secrets/s", &json!({"description": "d"})).await.expect(200);
    admin.put("/api/v1/secrets/s", &json!({"description": "stale", "version": 1})).await.error(409);
    admin.delete("/api/v1/secrets/s").await;
    let changes: Vec<Value> = events(&admin, "kind=resource_change").await;
    let of_s: Vec<&Value> = changes.iter().filter(|event| event["name"] == "s").collect();
    let seen: Vec<_> = of_s.iter().map(|event| event["action"].as_str().unwrap()).collect();
    assert_eq!(seen, ["delete", "edit", "create"], "newest first");
    for event in of_s {
        assert_eq!((&event["resource"], &event["resourceId"]), (&json!("secrets"), &made["id"]));
        assert_eq!(event["user"], ADMIN);
        assert!(event["requestId"].is_string() && event["at"].as_str().unwrap().ends_with('Z'), "{event}");
    }
}

#[tokio::test]
async fn logins_leave_events_whatever_their_end() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let wrong = json!({"email": ADMIN, "password": "a-wrong-password"});
    server.client().post("/api/v1/auth/login", &wrong).await.error(401);
    let hostile = "x\n{\"kind\":\"login\"}\u{1b}[31m@example.com";
    let odd = json!({"email": hostile, "password": "a-wrong-password"});
    let refused = server.client().post("/api/v1/auth/login", &odd).await.status;
    assert!([400, 401].contains(&refused), "{refused}");
    let huge = json!({"email": "y".repeat(1 << 20), "password": "a-wrong-password"});
    let refused = server.client().post("/api/v1/auth/login", &huge).await.status;
    assert!([400, 401, 413].contains(&refused), "{refused}");
    let logins = eventually("the logins in the audit log", async || {
        let logins = events(&admin, "kind=login&limit=100").await;
        (logins.len() >= 2).then_some(logins)
    })
    .await;
    let results = |result: &str| logins.iter().filter(|event| event["result"] == result).count();
    assert!(results("ok") >= 1 && results("refused") >= 1, "{logins:?}");
    assert!(logins.iter().all(|event| event.to_string().len() < 4096), "long text is cut");
    for line in server.log().lines().filter(|line| line.contains("[31m@example.com")) {
        assert!(!line.starts_with("{\"kind\":\"login\"}"), "a line of the log is the caller's: {line}");
    }
}

#[tokio::test]
async fn the_log_is_filtered_and_paged() {
    let (server, provider) = (Server::start().await, Provider::start().await);
    let admin = server.login_admin().await;
    for llm in ["a", "b"] {
        admin.create_llm(llm, "openai", &provider).await;
    }
    let user = admin.create_user_with(&json!([{"role": "run", "resource": "llms"}])).await;
    for _ in 0..3 {
        admin.infer("a", &ask("a", false)).await.expect(200);
        user.infer("b", &ask("b", false)).await.expect(200);
    }
    let calls = "kind=llm_inference_call";
    let all = eventually("six calls", async || {
        let all = events(&admin, calls).await;
        (all.len() == 6).then_some(all)
    })
    .await;
    let times: Vec<&str> = all.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");
    assert_eq!(events(&admin, &format!("{calls}&llm=a")).await.len(), 3);
    let user_id = events(&admin, &format!("{calls}&llm=b")).await[0]["userId"].as_str().unwrap().to_owned();
    assert_eq!(events(&admin, &format!("{calls}&user={user_id}")).await.len(), 3);
    assert_eq!(events(&admin, &format!("{calls}&user={ADMIN}")).await.len(), 3);
    let since = all[2]["at"].as_str().unwrap();
    let recent = events(&admin, &format!("{calls}&since={since}")).await;
    assert!(
        recent.len() >= 3 && recent.iter().all(|event| event["at"].as_str().unwrap() >= since),
        "{recent:?}"
    );
    assert!(events(&admin, &format!("{calls}&until={since}")).await.len() <= 3);

    let (mut seen, mut path) = (Vec::new(), format!("/api/v1/auditlogs?{calls}&limit=4"));
    loop {
        let page = admin.get(&path).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|event| event["id"].clone()));
        let Some(next) = page["continue"].as_str() else { break };
        path = format!("/api/v1/auditlogs?{calls}&limit=4&continue={next}");
    }
    assert_eq!(seen, all.iter().map(|event| event["id"].clone()).collect::<Vec<_>>());
    for bad in ["since=yesterday", "limit=x", "limit=0", "nonsense=1", "until=1"] {
        let message = admin.get(&format!("/api/v1/auditlogs?{bad}")).await.error(400);
        assert!(message.contains(bad.split('=').next().unwrap()), "{bad}: {message}");
    }
    assert_eq!(admin.post("/api/v1/auditlogs", &json!({})).await.status, 405, "read-only");
}
