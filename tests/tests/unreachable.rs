//! Each way in which a server cannot be reached is told in a sentence of its own.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use tests::{Server, server::free_address};

use crate::journey::{mcpctl, text};

/// Something that answers every request with these bytes.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind(free_address()).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[tokio::test]
async fn each_cause_is_named_and_the_exit_status_is_1() {
    let server = Server::start().await;
    let html = answering(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi",
    );
    let ssh = answering("SSH-2.0-OpenSSH_9.2\r\n");
    let moved = answering(
        "HTTP/1.1 302 Found\r\nlocation: https://login.example/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    let old = answering(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 25\r\nconnection: close\r\n\r\n\
         {\"error\":\"no such route\"}",
    );
    let hangs_up = answering("");
    let tls = server.url().replace("http:", "https:");
    for (url, word) in [
        ("http://127.0.0.1:1", "connection refused; start mcpctl-server there"),
        ("http://nowhere.invalid", "unknown host"),
        (&tls, "the TLS handshake failed"),
        (&html, "something other than JSON"),
        (&ssh, "what answered is not mcpctl-server"),
        (&moved, "redirects to https://login.example/"),
        (&hangs_up, "the connection broke off"),
        (&old, "older than this program"),
    ] {
        let output = mcpctl(&server, &["--daemon-url", url, "get", "llms"], "");
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{url}: {said}");
        assert!(
            said.contains(word) && said.starts_with("error: ") && output.stdout.is_empty(),
            "{url}: {said}"
        );
        assert!(said.contains("\nhint: "), "{url}: {said}");
    }
    for url in ["localhost:3100", "ftp://h", "http://user:pa55@h"] {
        let output = mcpctl(&server, &["--daemon-url", url, "get", "llms"], "");
        assert_eq!(output.status.code(), Some(2), "{url}: {}", text(&output));
    }
}

#[tokio::test]
async fn typos_get_a_suggestion() {
    let server = Server::start().await;
    for (line, status, word) in [
        ("gett llms", 2, "'get'"),
        ("create lm x", 2, "'llm'"),
        ("bananas", 2, "subcommands are login"),
        ("get lms", 2, "did you mean `llms`?"),
        ("get llms --no-heders", 2, "'--no-headers'"),
        ("get llms -o yml", 2, "did you mean `yaml`?"),
        ("create llm x --type opanai --model m", 2, "'openai'"),
        ("explain llm.modle", 2, "did you mean `model`?"),
    ] {
        let output = mcpctl(&server, &line.split(' ').collect::<Vec<_>>(), "");
        let said = text(&output);
        assert!(output.status.code() == Some(status) && said.contains(word), "{line}: {said}");
    }
}
