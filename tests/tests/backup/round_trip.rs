//! What is backed up and restored is as it was.

use std::{fs, time::Instant};

use tests::{OpenBao, ServerOptions, postgres::Postgres};

use super::*;

#[tokio::test]
async fn a_new_server_becomes_the_old_one() {
    becomes_the_old_one(Server::start().await).await;
}

#[tokio::test]
async fn what_was_in_sqlite_moves_to_postgresql() {
    let Some(postgres) = Postgres::shared() else { return };
    let database_url = Some(postgres.create_database());
    becomes_the_old_one(Server::start_with(ServerOptions { database_url, ..ServerOptions::default() }).await)
        .await;
}

async fn becomes_the_old_one(new: Server) {
    let (old, admin) = logged_in().await;
    let (data, password, [live, revoked]) = stock(&old, &admin).await;
    admin.delete("/api/v1/mcptokens/revoked").await.expect(204);
    let file = create(&old, &["--with-values"]);
    let (wanted, before) = (everything(&old), exported(&admin).await);

    log_in(&new);
    let admin = new.login_admin().await;
    let told = restore(&new, &file, &[]);
    assert!(told.contains("skipped 0") && told.contains("your own password stays"), "{told}");
    assert_eq!(everything(&new), wanted);
    assert_eq!(values(&admin, "keys").await, data);
    assert_eq!(values(&admin, "elsewhere").await, json!({}));
    // Ids, versions and times are those of then, but of what the first start makes.
    for (was, is) in before.iter().zip(&exported(&admin).await) {
        assert_eq!((&was["kind"], &was["name"]), (&is["kind"], &is["name"]));
        if !["default", "admin", ADMIN].contains(&was["name"].as_str().unwrap()) {
            assert_eq!(was, is);
        }
    }
    let eve = new.client().login("eve@example.com", &password).await;
    eve.get("/api/v1/llms/gpt").await.expect(200);
    assert_eq!(status_with_token(&new, &live).await, 200);
    assert_eq!(status_with_token(&new, &revoked).await, 401);
    // The session that restored goes on, and so does its owner's password.
    admin.get("/api/v1/users").await.expect(200);
    new.login_admin().await;
    // Once more, and nothing is left to do.
    let again = restore(&new, &file, &["--on-conflict", "fail"]);
    assert!(again.contains("created 0, updated 0,") && again.contains("skipped 0"), "{again}");
    let events = admin.get("/api/v1/auditlogs?kind=resource_change&limit=1000").await.expect(200);
    let made = events["items"].as_array().unwrap().iter().filter(|event| event["name"] == "gpt").count();
    assert_eq!(made, 1, "a change in the trail for each that was made, and none for none");
}

#[tokio::test]
async fn the_file_shows_nothing_and_verify_needs_no_server() {
    let (server, admin) = logged_in().await;
    let (data, password, [live, _]) = stock(&server, &admin).await;
    let file = create(&server, &["--with-values"]);
    assert!(is_private(&file));
    let bytes = fs::read(&file).unwrap();
    let hash = exported(&admin).await.iter().find_map(|one| one["passwordHash"].as_str().map(str::to_owned));
    let hidden = ["gpt-4o", "eve@example.com", &password, live.token(), data["api-key"].as_str().unwrap()];
    for text in hidden.into_iter().chain(hash.as_deref()) {
        assert!(memchr::memmem::find(&bytes, text.as_bytes()).is_none(), "{text} is in the file");
    }
    let path = file.to_str().unwrap();
    let verify = ["backup", "verify", path, "--passphrase-stdin", "--daemon-url", "http://127.0.0.1:9"];
    let told = succeed(&server, &verify, PASSPHRASE);
    for part in ["(whole)", "Values:   included", "llms            2", "mcptokens       2"] {
        assert!(told.contains(part), "{told}");
    }
    let told = succeed(&server, &[&verify[..], &["-o", "json"]].concat(), PASSPHRASE);
    let manifest: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&manifest["withValues"], &manifest["counts"]["users"]), (&json!(true), &json!(3)));
    // That values were taken is in the trail, as when they are shown.
    let reveals = admin.get("/api/v1/auditlogs?kind=secret_reveal").await.expect(200);
    assert!(reveals["items"].as_array().unwrap().iter().any(|event| event["name"] == "keys"), "{reveals}");
    let backups = admin.get("/api/v1/auditlogs?kind=backup").await.expect(200);
    assert_eq!(backups["items"][0]["withValues"], true, "{backups}");
}

#[tokio::test]
async fn without_values_secrets_come_back_empty_and_it_is_said() {
    let (old, admin) = logged_in().await;
    stock(&old, &admin).await;
    let file = file_of(&old);
    let args = ["backup", "create", "--passphrase-stdin", "-f", file.to_str().unwrap()];
    let made = mcpctl(&old, &args, PASSPHRASE);
    assert!(
        made.status.success() && text(&made).contains("the values of 2 Secrets are not in it"),
        "{}",
        text(&made)
    );
    let (new, admin) = logged_in().await;
    let told = restore(&new, &file, &[]);
    assert!(told.contains("Created secret: keys (without its values"), "{told}");
    assert_eq!(values(&admin, "keys").await, json!({}));
    let llm = admin.get("/api/v1/llms/gpt").await.expect(200);
    assert_eq!(llm["apiKeyRef"], json!({"name": "keys", "key": "api-key"}), "the reference is kept");
    // Where the values are, they stay.
    let told = restore(&old, &file, &[]);
    assert!(told.contains("created 0, updated 0") && !told.contains("without its values"), "{told}");
}

#[tokio::test]
async fn files_are_overwritten_on_demand_and_never_half_there() {
    let (server, _) = logged_in().await;
    let file = file_of(&server);
    fs::write(&file, "precious").unwrap();
    let args = ["backup", "create", "--passphrase-stdin", "-f", file.to_str().unwrap()];
    let refused = mcpctl(&server, &args, PASSPHRASE);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    create(&server, &[]);
    assert_ne!(fs::read(&file).unwrap(), b"precious");
    let weak = mcpctl(&server, &[&args[..], &["--force"]].concat(), "short");
    assert_eq!(weak.status.code(), Some(1));
    assert!(text(&weak).contains("at least 12 characters"), "{}", text(&weak));
    let none = mcpctl(&server, &["backup", "create", "-f", "x"], "");
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
    let left = fs::read_dir(server.folder())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_thousand_take_seconds() {
    let (old, admin) = logged_in().await;
    let mut resources = vec![json!({"kind": "secret", "name": "s", "data": {"k": "v"}})];
    let at = json!({"name": "s", "key": "k"});
    let llm = |number| json!({"kind": "llm", "name": format!("l{number}"), "type": "openai", "model": "m", "apiKeyRef": at});
    resources.extend((0..500).map(llm));
    resources.extend((0..499).map(|number| json!({"kind": "project", "name": format!("p{number}")})));
    admin.post("/api/v1/apply", &json!({"resources": resources, "atomic": true})).await.expect(200);
    let began = Instant::now();
    let file = create(&old, &["--with-values"]);
    let (created, size) = (began.elapsed(), fs::metadata(&file).unwrap().len());
    let (new, _) = logged_in().await;
    let began = Instant::now();
    restore(&new, &file, &[]);
    println!("1,000 resources: {size} bytes created in {created:?}, restored in {:?}", began.elapsed());
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    assert_eq!(everything(&new), everything(&old));
}

#[tokio::test]
async fn values_elsewhere_are_written_back_or_referred_to() {
    let Some(bao) = OpenBao::shared().await else { return };
    let (old, admin) = logged_in().await;
    let (prefix, data) = (unique("prefix"), json!({"k": unique("far-value")}));
    bao.backend(&admin, "bao", &prefix, &bao.root).await;
    old.canary.keep_secret("a far value", data["k"].as_str().unwrap());
    admin.create("secrets", &json!({"name": "far", "backend": "bao", "data": data})).await;
    // It has to come after the backend, and that after the Secret with its token.
    admin.patch("/api/v1/secretbackends/bao", &json!({"isDefault": true})).await.expect(200);
    let wanted = everything(&old);
    let at = format!("{prefix}/far");
    let all = exported(&admin).await;

    // While they are where they were, a reference is enough: of the token alone, the server itself has the value.
    let references: Vec<Value> = all
        .iter()
        .cloned()
        .map(|mut one| {
            if one["name"] == "far" {
                one.as_object_mut().unwrap().shift_remove("data");
            }
            one
        })
        .collect();
    let (_second, other) = logged_in().await;
    other.post("/api/v1/restore", &json!({"resources": references})).await.expect(200);
    assert_eq!(values(&other, "far").await, data);

    let file = create(&old, &["--with-values"]);
    admin.delete("/api/v1/secrets/far").await.expect(204);
    assert_eq!(bao.read("secret", &at).await, None);
    let (third, other) = logged_in().await;
    // What is refused leaves nothing there, and neither does what is only tried out.
    let mut bad = all.clone();
    bad.push(
        json!({"kind": "llm", "name": "bad", "type": "openai", "model": "", "id": "c00000000000000000000000b",
                    "version": 1, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"}),
    );
    let answer = other.post("/api/v1/restore", &json!({"resources": bad})).await.expect(200);
    assert!(answer["results"].as_array().unwrap().iter().any(|one| one["outcome"] == "error"), "{answer}");
    assert_eq!(bao.read("secret", &at).await, None);
    restore(&third, &file, &["--dry-run"]);
    assert_eq!(bao.read("secret", &at).await, None);
    restore(&third, &file, &[]);
    assert_eq!(bao.read("secret", &at).await.as_ref(), Some(&data));
    assert_eq!(values(&other, "far").await, data);
    assert_eq!(everything(&third), wanted);
}
