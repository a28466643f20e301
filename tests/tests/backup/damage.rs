//! A file that is not what it was, or a passphrase that is not its own: a clear sentence, and no request.

use std::{fs, io::ErrorKind, net::TcpListener};

use super::*;

#[tokio::test]
async fn nothing_is_asked_of_the_server_before_the_whole_file_is_proven() {
    let (server, admin) = logged_in().await;
    let llm = |number| {
        json!({"kind": "llm", "name": format!("l{number}"), "type": "openai", "model": "m",
                                "description": "d".repeat(500)})
    };
    let resources: Vec<Value> = (0..300).map(llm).collect();
    admin.post("/api/v1/apply", &json!({"resources": resources, "atomic": true})).await.expect(200);
    let file = create(&server, &[]);
    let good = fs::read(&file).unwrap();
    assert!(good.len() > 2 * 64 * 1024, "more than two chunks");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (mut flipped, mut early) = (good.clone(), good.clone());
    *flipped.last_mut().unwrap() ^= 1;
    early[100] ^= 0x80;
    let wrong = "the passphrase is wrong, or the backup is damaged";
    let damaged = "the backup is damaged or cut off";
    let cases = [
        (good.clone(), "another passphrase", wrong),
        (early, PASSPHRASE, wrong),
        (flipped, PASSPHRASE, damaged),
        (good[..good.len() - 1].to_vec(), PASSPHRASE, damaged),
        (good[..77 + 64 * 1024 + 16].to_vec(), PASSPHRASE, wrong),
        (good[..30].to_vec(), PASSPHRASE, "the backup is cut off"),
        (b"kind: llm".to_vec(), PASSPHRASE, "this is no backup"),
        (Vec::new(), PASSPHRASE, "this is no backup"),
    ];
    for (bytes, passphrase, part) in cases {
        fs::write(&file, bytes).unwrap();
        for command in ["restore", "verify"] {
            let args =
                ["backup", command, file.to_str().unwrap(), "--passphrase-stdin", "--daemon-url", &url];
            let output = mcpctl(&server, &args, passphrase);
            let told = text(&output);
            assert_eq!(output.status.code(), Some(1), "{told}");
            assert!(told.contains(part) && told.lines().count() == 1, "{command}: {told}");
        }
    }
    let nobody = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock), "the server was asked something");
    let none = mcpctl(&server, &["restore", "/nowhere/x.backup", "--passphrase-stdin"], PASSPHRASE);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none).contains("reading /nowhere/x.backup"), "{}", text(&none));
}
