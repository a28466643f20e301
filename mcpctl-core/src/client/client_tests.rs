//! The client against sockets: what it sends, and what it makes of the answers.

use std::{
    error::Error as _,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread::JoinHandle,
};

use serde_json::json;

use super::*;
use crate::{
    error::{Error, ErrorKind},
    resource::kinds::LLMS,
};

/// A server that gives one answer per connection; joining it gives the requests it saw.
fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !whole(&request) {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "the request broke off");
                request.extend_from_slice(&buffer[..read]);
            }
            seen.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        seen
    });
    (url, seen)
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn client(url: &str) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(url, Some(Token::new("t0p"))).unwrap()
}

fn cause(error: &Error) -> Option<Unreachable> {
    error.source().and_then(|cause| cause.downcast_ref::<Unreachable>()).copied()
}

#[tokio::test]
async fn pages_are_put_together_and_the_token_is_sent() {
    let first = answer("200 OK", "", &json!({"items": [{"name": "a"}], "continue": "x&y"}).to_string());
    let second = answer("200 OK", "", &json!({"items": [{"name": "b"}]}).to_string());
    let (url, seen) = server(vec![first, second]);
    let all = client(&url).list(LLMS, &[("limit", "1")]).await.unwrap();
    assert_eq!(all.iter().map(|llm| llm["name"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("GET /api/v1/llms?limit=1 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("authorization: Bearer t0p\r\n"), "{}", seen[0]);
    assert!(seen[1].starts_with("GET /api/v1/llms?limit=1&continue=x%26y HTTP/1.1\r\n"), "{}", seen[1]);
}

#[tokio::test]
async fn an_update_carries_the_version_it_was_made_from() {
    let (url, seen) = server(vec![answer("409 Conflict", "", r#"{"error": "too late"}"#)]);
    let body = json!({"tier": "fast"}).as_object().cloned().unwrap();
    let error = client(&url).put(LLMS, "a b", body, Some(3)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, "too late"));
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("PUT /api/v1/llms/a%20b HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with(r#"{"tier":"fast","version":3}"#), "{}", seen[0]);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    target.set_nonblocking(true).unwrap();
    let location = format!("location: http://{}/\r\n", target.local_addr().unwrap());
    let (url, _) = server(vec![answer("302 Found", &location, "")]);
    let error = client(&url).whoami().await.unwrap_err();
    assert_eq!(cause(&error), Some(Unreachable::NotOurs { status: Some(302) }));
    assert!(target.accept().is_err(), "the redirect was followed");
}

#[tokio::test]
async fn each_way_of_not_being_there_has_its_own_words() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = client(&format!("http://{free}")).healthz().await.unwrap_err();
    assert_eq!(cause(&refused), Some(Unreachable::Refused), "{refused}");
    let (url, _) = server(vec![answer("200 OK", "", "<html>hello</html>")]);
    let other = client(&url).list(LLMS, &[]).await.unwrap_err();
    assert_eq!(cause(&other), Some(Unreachable::NotOurs { status: None }), "{other}");
    let (url, _) = server(vec!["SSH-2.0-OpenSSH_9\r\n".to_owned()]);
    let ssh = client(&url).healthz().await.unwrap_err();
    assert_eq!(cause(&ssh), Some(Unreachable::NotOurs { status: None }), "{ssh}");
    let (url, _) = server(vec!["HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_owned()]);
    let broken = client(&url).list(LLMS, &[]).await.unwrap_err();
    assert_eq!(cause(&broken), Some(Unreachable::Broken), "{broken}");
    for error in [refused, other, ssh, broken] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains("http://127.0.0.1:") && !error.message().contains("t0p"), "{error}");
    }
}

#[tokio::test]
async fn a_stream_is_asked_for_and_read() {
    let events = "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n";
    let (url, seen) = server(vec![answer("200 OK", "content-type: text/event-stream\r\n", events)]);
    let mut stream = client(&url).infer_stream("gpt", &json!({"messages": []})).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(chunk) = stream.next().await {
        numbers.push(chunk.unwrap()["n"].clone());
    }
    assert_eq!(numbers, [1, 2]);
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("POST /api/v1/llms/gpt/infer HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].ends_with(r#"{"messages":[],"stream":true}"#), "{}", seen[0]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_a_failure_and_a_refusal_keeps_its_status() {
    let broken = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\ndata: {\"n\":1}\n\n";
    let refusal = answer("501 Not Implemented", "", r#"{"error": "Unsupported LLM provider: gemini-cli"}"#);
    let (url, _) = server(vec![broken.to_owned(), refusal]);
    let client = client(&url);
    let mut stream = client.infer_stream("gpt", &json!({})).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.message().starts_with("the answer broke off"), "{error}");
    assert!(stream.next().await.is_none());
    let error = client.infer_stream("g", &json!({})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotImplemented);
}
