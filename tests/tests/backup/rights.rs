//! Who may back up, and who may restore.

use super::*;

async fn with(admin: &Api, bindings: Value) -> Api {
    admin.create_user_with(&bindings).await
}

#[tokio::test]
async fn a_backup_takes_the_operation_and_values_take_more() {
    let (_server, admin) = logged_in().await;
    stock(&_server, &admin).await;
    let (plain, values) = (json!({}), json!({"withValues": true}));
    let viewer =
        with(&admin, json!([{"role": "edit", "resource": "*"}, {"role": "run", "resource": "*"}])).await;
    let told = viewer.post("/api/v1/backup", &plain).await.error(403);
    assert!(told.contains("missing permission `backup`"), "{told}");
    let keeper = with(&admin, json!([{"role": "run", "action": "backup"}])).await;
    let answer = keeper.request("POST", "/api/v1/backup").json(&plain).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    let all = answer["resources"].as_array().unwrap();
    assert!(all.iter().all(|one| one.get("data").is_none()), "values that nobody asked for");
    let told = keeper.post("/api/v1/backup", &values).await.error(403);
    assert!(told.contains("missing permission `edit:secrets:"), "{told}");
    let half =
        json!([{"role": "run", "action": "backup"}, {"role": "edit", "resource": "secrets", "name": "keys"}]);
    let told = with(&admin, half).await.post("/api/v1/backup", &values).await.error(403);
    assert!(told.contains("missing permission `edit:secrets:"), "{told}");
    admin.post("/api/v1/backup", &json!({"withValue": true})).await.error(400);
}

#[tokio::test]
async fn a_restore_takes_everything_there_is() {
    let (server, admin) = logged_in().await;
    let file = create(&server, &[]);
    let order = json!({"resources": []});
    let all = json!([{"role": "edit", "resource": "*"}, {"role": "run", "resource": "*"}]);
    let told = with(&admin, all).await.post("/api/v1/restore", &order).await.error(403);
    assert!(told.contains("missing permission `restore`"), "{told}");
    // A file can carry any right, so the operation alone would give everything.
    let alone = with(&admin, json!([{"role": "run", "action": "restore"}])).await;
    let told = alone.post("/api/v1/restore", &order).await.error(403);
    assert!(told.contains("nobody can give or take over what they do not hold"), "{told}");
    admin.post("/api/v1/restore", &order).await.expect(200);
    // Neither can a token with less than its owner has.
    let less = json!([{"role": "run", "action": "restore"}, {"role": "edit", "resource": "*"}]);
    let (_, token) = admin.create_token(&json!({"name": "less", "roleBindings": less})).await;
    token.post("/api/v1/restore", &order).await.error(403);
    let refused = {
        let password = unique("weak-password");
        admin.create_user("weak@example.com", &password).await;
        succeed(&server, &["login", "--email", "weak@example.com", "--password-stdin"], &password);
        try_restore(&server, &file, &[])
    };
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("missing permission `restore`"), "{}", text(&refused));
}
