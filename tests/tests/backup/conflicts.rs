//! Restoring where something is already.

use std::time::Duration;

use tests::{eventually, wait::within};

use super::*;

async fn model(admin: &Api) -> Value {
    admin.get("/api/v1/llms/gpt").await.expect(200)["model"].clone()
}

/// A server that has gone on since its backup.
async fn gone_on() -> (Server, Api, PathBuf, Value, [Api; 2]) {
    let (server, admin) = logged_in().await;
    let (data, _, tokens) = stock(&server, &admin).await;
    let file = create(&server, &["--with-values"]);
    admin.patch("/api/v1/llms/gpt", &json!({"model": "later"})).await.expect(200);
    let later = unique("sk-later");
    server.canary.keep_secret("a later key", &later);
    admin.patch("/api/v1/secrets/keys", &json!({"data": {"api-key": later}})).await.expect(200);
    admin.delete("/api/v1/llms/small").await.expect(204);
    admin.delete("/api/v1/mcptokens/revoked").await.expect(204);
    (server, admin, file, data, tokens)
}

#[tokio::test]
async fn by_default_nothing_changes() {
    let (server, admin, file, data, _) = gone_on().await;
    let before = everything(&server);
    let refused = try_restore(&server, &file, &[]);
    let told = text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    for part in
        ["restoring llm 'gpt': another is here, and differs in model", "secret 'keys'", "nothing was changed"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("small"), "what is held back only because of others is no error: {told}");
    assert_eq!(everything(&server), before);
    assert_ne!(values(&admin, "keys").await, data);
    admin.get("/api/v1/llms/small").await.error(404);
}

#[tokio::test]
async fn skipping_adds_what_is_missing() {
    let (server, admin, file, data, [live, revoked]) = gone_on().await;
    let dry = restore(&server, &file, &["--on-conflict", "skip", "--dry-run"]);
    assert!(dry.contains("Would create llm: small") && dry.contains("Dry run - would restore"), "{dry}");
    admin.get("/api/v1/llms/small").await.error(404);
    let told = restore(&server, &file, &["--on-conflict", "skip"]);
    assert!(told.contains("created 1, updated 0") && told.contains("skipped 3"), "{told}");
    assert!(told.contains("mcptoken: revoked (it was revoked here, and stays so)"), "{told}");
    assert_eq!(model(&admin).await, "later");
    assert_ne!(values(&admin, "keys").await, data);
    admin.get("/api/v1/llms/small").await.expect(200);
    assert_eq!(status_with_token(&server, &live).await, 200);
    assert_eq!(status_with_token(&server, &revoked).await, 401);
}

#[tokio::test]
async fn replacing_brings_back_what_was() {
    let (server, admin, file, data, [live, revoked]) = gone_on().await;
    let told = restore(&server, &file, &["--on-conflict", "replace"]);
    assert!(told.contains("created 1, updated 2") && told.contains("skipped 1"), "{told}");
    assert_eq!(model(&admin).await, "gpt-4o");
    assert_eq!(values(&admin, "keys").await, data);
    assert_eq!(status_with_token(&server, &live).await, 200);
    assert_eq!(status_with_token(&server, &revoked).await, 401);
    // Another token of the name does not let the old value in again.
    admin.create_token(&json!({"name": "revoked"})).await;
    restore(&server, &file, &["--on-conflict", "replace"]);
    assert_eq!(status_with_token(&server, &revoked).await, 401);
}

#[tokio::test]
async fn a_password_that_is_replaced_ends_sessions_but_never_the_callers_own() {
    let (server, admin) = logged_in().await;
    let (_, password, _) = stock(&server, &admin).await;
    let file = create(&server, &["--with-values"]);
    let (mine, other) = (unique("admins-next-password"), unique("eves-next-password"));
    for text in [&mine, &other] {
        server.canary.keep_secret("a later password", text);
    }
    admin.patch("/api/v1/users/eve@example.com", &json!({"password": other})).await.expect(200);
    let eve = server.client().login("eve@example.com", &other).await;
    let change = json!({"currentPassword": server.admin_password(), "newPassword": mine});
    let changed = admin.request("POST", "/api/v1/auth/password").json(&change).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    succeed(&server, &["login", "--email", ADMIN, "--password-stdin"], &mine);
    restore(&server, &file, &["--on-conflict", "replace"]);
    assert_eq!(status_with_token(&server, &eve).await, 401);
    server.client().login("eve@example.com", &password).await;
    server.client().login(ADMIN, &mine).await;
}

#[tokio::test]
async fn nobody_restores_themselves_out() {
    let (old, _) = logged_in().await;
    let file = create(&old, &[]);
    // There, somebody else is the admin, by a definition of the same name.
    let (new, admin) = logged_in().await;
    let password = unique("chiefs-password");
    admin.create_user("chief@example.com", &password).await;
    let mut definition = admin.get("/api/v1/rbac/admin").await.expect(200);
    definition["subjects"] = json!([{"kind": "User", "name": "chief@example.com"}]);
    let change = json!({"subjects": definition["subjects"]});
    admin.patch("/api/v1/rbac/admin", &change).await.expect(200);
    succeed(&new, &["login", "--email", "chief@example.com", "--password-stdin"], &password);
    let refused = try_restore(&new, &file, &["--on-conflict", "replace"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("you would lack"), "{}", text(&refused));
    let chief = new.client().login("chief@example.com", &password).await;
    chief.get("/api/v1/users").await.expect(200);
}

#[tokio::test]
async fn one_that_is_refused_stops_all() {
    let (old, admin) = logged_in().await;
    stock(&old, &admin).await;
    let good = exported(&admin).await;
    let (new, admin) = logged_in().await;
    let before = everything(&new);
    let place = good.iter().position(|one| one["name"] == "small").unwrap();
    let damaged = |change: &dyn Fn(&mut Value)| {
        let mut all = good.clone();
        change(&mut all[place]);
        json!({"resources": all})
    };
    // What cannot be in a backup is a 400 that names it.
    for (field, value) in [
        ("id", json!("small")),
        ("version", json!(0)),
        ("createdAt", json!("yesterday")),
        ("kind", json!("banana")),
        ("name", json!("NOT A NAME")),
    ] {
        let body = damaged(&|one| one[field] = value.clone());
        let message = admin.post("/api/v1/restore", &body).await.error(400);
        assert!(message.contains(&format!("resources[{place}].{field}")), "{message}");
    }
    let other_id = good.iter().find(|one| one["name"] == "web").unwrap()["id"].clone();
    for (field, value) in [("name", json!("gpt")), ("id", other_id)] {
        let twice = damaged(&|one| one[field] = value.clone());
        let message = admin.post("/api/v1/restore", &twice).await.error(400);
        assert!(message.contains("occurs twice"), "{message}");
    }
    for body in [json!({}), json!({"resources": [], "onConflict": "maybe"}), json!({"resources": [], "x": 1})]
    {
        admin.post("/api/v1/restore", &body).await.error(400);
    }
    // What no rule lets in is told for the one that it is wrong with.
    let admins_id = admin.get("/api/v1/rbac/admin").await.expect(200)["id"].clone();
    for (field, value, part) in [
        ("model", json!(""), "model"),
        ("banana", json!(1), "banana"),
        ("id", admins_id, "its id is that of"),
    ] {
        let body = damaged(&|one| one[field] = value.clone());
        let answer = admin.post("/api/v1/restore", &body).await.expect(200);
        let errors: Vec<&Value> =
            answer["results"].as_array().unwrap().iter().filter(|one| one["outcome"] == "error").collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0]["error"].as_str().unwrap().contains(part), "{errors:?}");
    }
    assert_eq!(everything(&new), before);
}

#[tokio::test]
async fn a_server_that_is_killed_meanwhile_has_all_of_it_or_nothing() {
    let (_old, admin) = logged_in().await;
    let llm = |number| json!({"kind": "llm", "name": format!("l{number}"), "type": "openai", "model": "m"});
    let resources: Vec<Value> = (0..150).map(llm).collect();
    admin.post("/api/v1/apply", &json!({"resources": resources, "atomic": true})).await.expect(200);
    let order = json!({"resources": exported(&admin).await});
    let (mut none, mut all) = (0, 0);
    for round in 0..6_u64 {
        let (mut server, admin) = logged_in().await;
        let (request, client) = (admin.request("POST", "/api/v1/restore").json(&order), admin.clone());
        let answer = tokio::spawn(async move { request.send().await.is_ok() });
        if round == 5 {
            // Not before it has happened.
            let there = async || {
                let reply = client.try_get("/api/v1/llms/l0").await?;
                (reply.status == 200).then_some(())
            };
            eventually("the first is there", there).await;
        } else {
            tokio::time::sleep(Duration::from_millis(20 + 120 * round)).await;
        }
        server.kill9();
        within(Duration::from_secs(30), "the request's end", answer).await.unwrap();
        server.restart().await;
        let admin = server.login_admin().await;
        let count = admin.get("/api/v1/llms").await.expect(200).as_array().unwrap().len();
        assert!([0, 150].contains(&count), "{count} of 150");
        *(if count == 0 { &mut none } else { &mut all }) += 1;
    }
    println!("nothing {none} times, everything {all} times");
    assert!(all > 0);
}
