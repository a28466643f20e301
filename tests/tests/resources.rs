//! Every kind alike: create, read, list, change, delete, versions, validation.

use serde_json::{Value, json};
use tests::{Api, Server};

/// A kind, how to make one named `thing`, and a field with another value for it.
fn kinds() -> Vec<(&'static str, Value, (&'static str, Value))> {
    let bindings = json!([{"role": "view", "resource": "llms"}]);
    let subjects = json!([{"kind": "User", "name": tests::server::ADMIN}]);
    let llm = json!({"name": "thing", "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"});
    vec![
        ("secretbackends", json!({"name": "thing", "type": "plaintext"}), ("description", "new".into())),
        ("secrets", json!({"name": "thing", "data": {"k": "value-of-thing"}}), ("description", "new".into())),
        ("llms", llm, ("tier", "heavy".into())),
        (
            "users",
            json!({"name": "thing@example.com", "password": "long-enough-1"}),
            ("displayName", "T".into()),
        ),
        (
            "rbac",
            json!({"name": "thing", "subjects": subjects, "roleBindings": bindings}),
            ("roleBindings", json!([{"role": "run", "resource": "llms"}])),
        ),
    ]
}

fn llm(name: &str) -> Value {
    json!({"name": name, "type": "ollama", "model": "m", "url": "http://127.0.0.1:1"})
}

async fn names(api: &Api, path: &str) -> Vec<String> {
    let list = api.get(path).await.expect(200);
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn assert_common_fields(thing: &Value, name: &Value, version: i64) {
    let id = thing["id"].as_str().unwrap();
    let rest = id.strip_prefix('c').unwrap();
    assert!(rest.len() == 24 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{id}");
    assert_eq!(&thing["name"], name);
    assert_eq!(thing["version"], version);
    for time in ["createdAt", "updatedAt"] {
        let text = thing[time].as_str().unwrap();
        assert!(text.len() >= 20 && text.contains('T') && text.ends_with('Z'), "{time}: {text}");
    }
}

#[tokio::test]
async fn every_kind_is_made_read_changed_and_deleted() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    for (kind, body, (field, changed)) in kinds() {
        let made = admin.create(kind, &body).await;
        assert_common_fields(&made, &body["name"], 1);
        let (id, name) = (made["id"].as_str().unwrap(), body["name"].as_str().unwrap());
        let by_name = admin.get(&format!("/api/v1/{kind}/{name}")).await;
        let by_id = admin.get(&format!("/api/v1/{kind}/{id}")).await;
        assert_eq!(by_name.expect(200), made, "{kind}: what was answered is what is stored");
        assert_eq!(by_id.expect(200), made);
        assert!(names(&admin, &format!("/api/v1/{kind}")).await.contains(&name.to_owned()));

        let path = format!("/api/v1/{kind}/{name}");
        let head = admin.send(admin.request("HEAD", &path)).await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("etag"), by_name.header("etag"));

        let put = admin.put(&path, &json!({field: changed})).await;
        assert_common_fields(&put.expect(200), &body["name"], 2);
        assert_eq!(put.json()[field], changed);
        assert_ne!(put.header("etag"), by_name.header("etag"));
        let patched = admin.patch(&path, &json!({"description": "patched"})).await.expect(200);
        assert_common_fields(&patched, &body["name"], 3);
        assert_eq!(patched["description"], "patched");
        assert!(
            field == "description" || patched[field] == put.json()[field],
            "{kind}: the rest is as it was"
        );
        assert_eq!((&patched["id"], &patched["createdAt"]), (&made["id"], &made["createdAt"]));

        let deleted = admin.delete(&path).await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        for gone in [admin.get(&path).await, admin.delete(&path).await] {
            assert!(gone.error(404).contains(name));
        }
        assert_eq!(admin.send(admin.request("HEAD", &path)).await.status, 404);
        assert_eq!(admin.put(&path, &json!({field: changed})).await.status, 404);
    }
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    assert_eq!(admin.get("/api/v1/llms").await.expect(200), json!([]));
    for name in ["mid", "zed", "abc", "b-2", "b-10"] {
        admin.create("llms", &llm(name)).await;
    }
    let sorted = ["abc", "b-10", "b-2", "mid", "zed"];
    assert_eq!(names(&admin, "/api/v1/llms").await, sorted);

    admin.patch("/api/v1/llms/mid", &json!({"tier": "heavy"})).await.expect(200);
    assert_eq!(names(&admin, "/api/v1/llms?tier=heavy").await, ["mid"]);
    assert_eq!(names(&admin, "/api/v1/llms?tier=fast").await, ["abc", "b-10", "b-2", "zed"]);

    let (mut seen, mut path, mut pages) = (Vec::new(), "/api/v1/llms?limit=2".to_owned(), 0);
    loop {
        let page = admin.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2, "{page}");
        seen.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(next) = page["continue"].as_str() else { break };
        path = format!("/api/v1/llms?limit=2&continue={next}");
    }
    assert_eq!((seen.as_slice(), pages), (sorted.map(str::to_owned).as_slice(), 3));
    for bad in ["limit=0", "limit=-1", "limit=x", "limit=2&continue=%00", "tier=gold&tire=x", "nonsense=1"] {
        let reply = admin.get(&format!("/api/v1/llms?{bad}")).await;
        let word = bad.split(['=', '&']).rev().nth(1).unwrap();
        assert!(reply.error(400).contains(word), "{bad}: {}", reply.text());
    }
}

#[tokio::test]
async fn every_fault_is_named_at_once() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let body = json!({"name": "Bad Name", "type": "openia", "model": "", "url": "ftp://x", "tier": "slow",
                      "description": "d".repeat(501), "extraConfig": [], "teir": "fast"});
    let message = admin.post("/api/v1/llms", &body).await.error(400);
    for field in ["name", "type", "model", "url", "tier", "description", "extraConfig", "teir"] {
        assert!(message.contains(&format!("{field}:")), "{field} is not in {message:?}");
    }
    let message = admin.post("/api/v1/llms", &json!({})).await.error(400);
    assert!(["name", "type", "model"].iter().all(|field| message.contains(field)), "{message}");
    assert_eq!(admin.get("/api/v1/llms").await.expect(200), json!([]), "nothing was stored");
}

#[tokio::test]
async fn unknown_and_forbidden_fields_are_refused_by_name() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    for (kind, body, _) in kinds() {
        for field in ["role", "isAdmin", "passwordHash", "id", "createdAt", "nmae", "__proto__"] {
            let mut bad = body.clone();
            bad[field] = "x".into();
            let message = admin.post(&format!("/api/v1/{kind}"), &bad).await.error(400);
            assert!(message.contains(field), "{kind}.{field}: {message}");
        }
        admin.create(kind, &body).await;
        let path = format!("/api/v1/{kind}/{}", body["name"].as_str().unwrap());
        for field in ["role", "isAdmin", "passwordHash", "nmae"] {
            for reply in
                [admin.put(&path, &json!({field: "x"})).await, admin.patch(&path, &json!({field: "x"})).await]
            {
                assert!(reply.error(400).contains(field), "{kind}.{field}: {}", reply.text());
            }
        }
        assert_eq!(admin.get(&path).await.expect(200)["version"], 1, "{kind} is as it was");
    }
}

#[tokio::test]
async fn only_good_names_are_taken() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let long = "a".repeat(101);
    let bad = ["", " ", "A", "a b", "a/b", "a.b", "ü", "a\u{0}", "a\n", "*", "a*", "..", "a_b", &long];
    for name in bad {
        let message = admin.post("/api/v1/llms", &llm(name)).await.error(400);
        assert!(message.contains("name:"), "{name:?}: {message}");
    }
    for wrong in [json!(7), json!(null), json!(["a"]), json!({"a": 1})] {
        let mut body = llm("x");
        body["name"] = wrong;
        assert!(admin.post("/api/v1/llms", &body).await.error(400).contains("name:"));
    }
    for name in ["a", "0", "-", "a-1", &long[..100]] {
        admin.create("llms", &llm(name)).await;
        assert_eq!(admin.get(&format!("/api/v1/llms/{name}")).await.expect(200)["name"], name);
    }
    for email in ["x", "@x", "x@", "a b@c.d", "x@y@z", ""] {
        let body = json!({"name": email, "password": "long-enough-1"});
        assert!(admin.post("/api/v1/users", &body).await.error(400).contains("name:"), "{email}");
    }
}

#[tokio::test]
async fn urls_that_lead_where_no_provider_lives_are_refused() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let bad = [
        "x",
        "/v1",
        "ftp://a",
        "file:///etc/passwd",
        "javascript:1",
        "http://",
        "http://u:p@a",
        "http://u@a",
        "http://169.254.169.254",
        "http://169.254.169.254./",
        "http://2852039166",
        "http://0xA9FEA9FE",
        "http://0251.0376.0251.0376",
        "http://[::ffff:169.254.169.254]",
        "http://[fe80::1]",
        "http://0.0.0.0",
        "http://metadata.google.internal",
        "http://METADATA.google.internal.",
        "http://a?x=1",
        "http://a#x",
    ];
    for url in bad {
        let mut body = llm("x");
        body["url"] = url.into();
        let reply = admin.post("/api/v1/llms", &body).await;
        assert!(reply.error(400).contains("url:"), "{url}: {}", reply.text());
    }
    let message =
        admin.post("/api/v1/llms", &json!({"name": "x", "type": "vllm", "model": "m"})).await.error(400);
    assert!(message.contains("url:"), "vllm has no default: {message}");
    for ty in ["openai", "anthropic", "deepseek", "gemini-cli"] {
        let made = admin.create("llms", &json!({"name": ty, "type": ty, "model": "m"})).await;
        assert_eq!(
            (&made["url"], &made["tier"], &made["apiKeyRef"]),
            (&json!(""), &json!("fast"), &Value::Null)
        );
        assert_eq!((&made["extraConfig"], &made["description"]), (&json!({}), &json!("")));
    }
}

#[tokio::test]
async fn what_cannot_change_is_refused_and_what_is_the_same_is_not() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let made = admin.create("llms", &llm("a")).await;
    for (field, value) in [("type", json!("openai")), ("name", json!("b")), ("id", json!("c123"))] {
        for reply in [
            admin.put("/api/v1/llms/a", &json!({field: value})).await,
            admin.patch("/api/v1/llms/a", &json!({field: value})).await,
        ] {
            assert!(reply.error(400).contains(field), "{}", reply.text());
        }
    }
    let mut whole = made.clone();
    whole["description"] = "new".into();
    let put = admin.put("/api/v1/llms/a", &whole).await.expect(200);
    assert_eq!(
        (&put["description"], &put["version"]),
        (&json!("new"), &json!(2)),
        "the whole resource is a body"
    );
}

#[tokio::test]
async fn a_merge_patch_merges_and_null_takes_away() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let mut body = llm("a");
    body["extraConfig"] = json!({"timeoutMs": 5000, "mine": {"a": 1, "b": [1, 2]}});
    body["description"] = "text".into();
    admin.create("llms", &body).await;
    let patch = json!({"extraConfig": {"timeoutMs": null, "mine": {"a": 2, "c": 3}}, "description": null});
    let patched = admin.patch("/api/v1/llms/a", &patch).await.expect(200);
    assert_eq!(patched["extraConfig"], json!({"mine": {"a": 2, "b": [1, 2], "c": 3}}));
    assert_eq!(patched["description"], "");
    let put = admin.put("/api/v1/llms/a", &json!({"extraConfig": {"mine": 1}})).await.expect(200);
    assert_eq!(put["extraConfig"], json!({"mine": 1}), "PUT replaces the field");
    assert!(admin.patch("/api/v1/llms/a", &json!({"model": null})).await.error(400).contains("model"));
    assert!(admin.patch("/api/v1/llms/a", &json!(["x"])).await.error(400).contains("object"));
}

#[tokio::test]
async fn a_stale_version_changes_nothing() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create("llms", &llm("a")).await;
    let path = "/api/v1/llms/a";
    let first = admin.get(path).await.header("etag").to_owned();
    assert!(first.starts_with('"') && first.ends_with('"'), "{first}");
    let with = |etag: &str, method: &str| admin.request(method, path).header("if-match", etag);

    let fresh = admin.send(with(&first, "PUT").json(&json!({"model": "two"}))).await;
    assert_eq!(fresh.expect(200)["version"], 2);
    for method in ["PUT", "PATCH"] {
        let stale = admin.send(with(&first, method).json(&json!({"model": "three"}))).await;
        assert!(stale.error(409).contains("version"), "{}", stale.text());
    }
    assert_eq!(admin.send(with(&first, "DELETE")).await.status, 409);
    for body in [json!({"model": "three", "version": 1}), json!({"model": "three", "version": 3})] {
        admin.put(path, &body).await.error(409);
        admin.patch(path, &body).await.error(409);
    }
    for wrong in [json!(0), json!(-1), json!("2"), json!(1.5), json!(null)] {
        assert!(
            admin.put(path, &json!({"model": "x", "version": wrong})).await.error(400).contains("version")
        );
    }
    let now = admin.get(path).await;
    assert_eq!((&now.json()["model"], &now.json()["version"]), (&json!("two"), &json!(2)));
    assert_eq!(now.header("etag"), fresh.header("etag"));
    admin.put(path, &json!({"model": "three", "version": 2})).await.expect(200);
}

#[tokio::test]
async fn of_many_writers_on_one_version_one_wins() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    admin.create("llms", &llm("a")).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..20 {
        let admin = admin.clone();
        writers.spawn(async move {
            let body = json!({"model": format!("m-{writer}"), "version": 1});
            (writer, admin.put("/api/v1/llms/a", &body).await)
        });
    }
    let done = writers.join_all().await;
    let won: Vec<_> = done.iter().filter(|(_, reply)| reply.status == 200).collect();
    assert_eq!(won.len(), 1, "{done:?}");
    assert!(done.iter().all(|(_, reply)| [200, 409].contains(&reply.status)), "{done:?}");
    let stored = admin.get("/api/v1/llms/a").await.expect(200);
    assert_eq!((&stored["model"], &stored["version"]), (&json!(format!("m-{}", won[0].0)), &json!(2)));
}

#[tokio::test]
async fn of_many_creates_of_one_name_one_wins() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let admin = admin.clone();
        writers.spawn(async move { admin.post("/api/v1/llms", &llm("same")).await.status });
    }
    let mut statuses = writers.join_all().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1..].to_vec()), (201, vec![409; 39]));
    assert_eq!(names(&admin, "/api/v1/llms").await, ["same"]);
    let message = admin.post("/api/v1/llms", &llm("same")).await.error(409);
    assert!(message.contains("same"), "{message}");
}

#[tokio::test]
async fn an_id_wins_over_a_name_and_a_name_like_an_id_works() {
    let server = Server::start().await;
    let admin = server.login_admin().await;
    let id = admin.create("llms", &llm("plain")).await["id"].as_str().unwrap().to_owned();
    let like_an_id = "c00000000000000000000000a";
    admin.create("llms", &llm(like_an_id)).await;
    assert_eq!(admin.get(&format!("/api/v1/llms/{like_an_id}")).await.expect(200)["name"], like_an_id);
    admin.create("llms", &llm(&id)).await;
    assert_eq!(admin.get(&format!("/api/v1/llms/{id}")).await.expect(200)["name"], "plain");
}
