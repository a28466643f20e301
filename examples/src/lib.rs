//! What the examples share: a provider that needs no key and no network, and a store of their own.

mod file_store;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Channel, Either, Full, channel::Sender};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use file_store::FileStore;

/// Starts a provider on a free port of this machine that answers every chat, and shows which key it was sent.
///
/// # Errors
///
/// When no port is free.
pub async fn start_stub_provider() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    Ok(address)
}

type Body = Either<Full<Bytes>, Channel<Bytes>>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let key = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("none");
    println!("  (the provider was sent {}: {key})", request.uri().path());
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if body["stream"] == true {
        let (sender, channel) = Channel::new(4);
        tokio::spawn(send_chunks(sender, model));
        let response = Response::builder().header("content-type", "text/event-stream");
        return Ok(response.body(Either::Right(channel)).unwrap_or_default_response());
    }
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Either::Left(Full::from(answer.to_string()))).unwrap_or_default_response())
}

async fn send_chunks(mut sender: Sender<Bytes, Infallible>, model: String) {
    let chunk = |choices: Value| json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": model, "choices": choices});
    let text = ["Keys ", "stay ", "on ", "the ", "server", "."];
    let mut chunks: Vec<Value> = text
        .iter()
        .map(|word| chunk(json!([{"index": 0, "delta": {"content": word}, "finish_reason": null}])))
        .collect();
    chunks.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])));
    let mut usage = chunk(json!([]));
    usage["usage"] = json!({"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15});
    chunks.push(usage);
    for chunk in chunks {
        // A reader that has left is no fault of ours.
        if sender.send_data(format!("data: {chunk}\n\n").into()).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let _ = sender.send_data("data: [DONE]\n\n".into()).await;
}

/// A response that could not be built is a bug of the example; an empty one shows it.
trait OrDefault {
    fn unwrap_or_default_response(self) -> Response<Body>;
}

impl OrDefault for Result<Response<Body>, hyper::http::Error> {
    fn unwrap_or_default_response(self) -> Response<Body> {
        self.unwrap_or_else(|_| Response::new(Either::Left(Full::default())))
    }
}
