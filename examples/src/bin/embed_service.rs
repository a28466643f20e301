//! A service of your own, with its own routes, and the gateway inside: its users know nothing of mcpctl, of Llms or of
//! keys. `POST /ask` takes a question as plain text, and streams the model's words back as they come.
//!
//! ```sh
//! cargo run -p examples --bin embed_service             # asks itself once, and ends
//! cargo run -p examples --bin embed_service -- 8080     # serves: curl -N -d 'Where do keys live?' 127.0.0.1:8080/ask
//! ```

use std::{convert::Infallible, error::Error, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Channel, Either, Full, Limited, channel::Sender};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use mcpctl_core::{
    Principal, Registry,
    gateway::{AnswerBody, Gateway, GatewaySettings, Target},
    resource::{Spec, kinds},
    store::MemoryStore,
    wire::SseDecoder,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const MAX_QUESTION: usize = 64 << 10;

type Body = Either<Full<Bytes>, Channel<Bytes>>;

/// What the routes share. Cheap to clone: the gateway is.
#[derive(Clone)]
struct Service {
    gateway: Gateway,
    /// In whose name the gateway is called. A service that knows its users has one for each.
    who: Principal,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).map(|port| port.parse()).transpose()?;
    let service = Service::open().await?;
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port.unwrap_or(0)))).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    let serving = serve(listener, service);
    if port.is_some() {
        return Ok(serving.await?);
    }
    tokio::spawn(serving);
    let answer = ask(address, "Where do keys live?").await?;
    println!("{answer}");
    if answer.contains("Keys ") && answer.contains("server") {
        Ok(())
    } else {
        Err("that is no answer".into())
    }
}

impl Service {
    /// The core over a store in memory, with one Llm. A store that stays is `SqlStore::open("sqlite://…")`.
    async fn open() -> Result<Self, Box<dyn Error>> {
        let registry = Registry::builder(Arc::new(MemoryStore::new())).open().await?;
        let who = registry.root("ask-service");
        let provider = examples::start_stub_provider().await?;
        let secret = json!({"name": "provider", "data": {"key": "sk-very-secret"}});
        registry.create(&who, kinds::SECRETS, body(secret)).await?;
        let llm = json!({"name": "house-model", "type": "vllm", "model": "stub-1", "url": format!("http://{provider}"),
                         "apiKeyRef": {"name": "provider", "key": "key"}});
        registry.create(&who, kinds::LLMS, body(llm)).await?;
        Ok(Self { gateway: Gateway::new(registry, GatewaySettings::default())?, who })
    }

    /// The routes.
    async fn route(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        Ok(match (request.method(), request.uri().path()) {
            (&Method::POST, "/ask") => self.ask(request).await,
            (&Method::GET, "/healthz") => plain(StatusCode::OK, "well\n"),
            _ => plain(StatusCode::NOT_FOUND, "try POST /ask\n"),
        })
    }

    async fn ask(self, request: Request<Incoming>) -> Response<Body> {
        let Ok(question) = Limited::new(request.into_body(), MAX_QUESTION).collect().await else {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, "that is too long\n");
        };
        let question = String::from_utf8_lossy(&question.to_bytes()).into_owned();
        let request =
            json!({"messages": [{"role": "user", "content": question}], "stream": true}).to_string();
        match self.gateway.chat(&self.who, Target::Named("house-model"), request.into()).await {
            Ok(answer) if answer.status.is_success() => {
                let (words, body) = Channel::new(8);
                tokio::spawn(relay(answer.body, words));
                Response::new(Either::Right(body))
            }
            // The provider refused. Its words are for us, not for our users.
            Ok(answer) => {
                eprintln!("the provider answered {}", answer.status);
                plain(StatusCode::BAD_GATEWAY, "the model is not well\n")
            }
            Err(error) => {
                eprintln!("{error}");
                plain(StatusCode::BAD_GATEWAY, "the model is not well\n")
            }
        }
    }
}

/// Hands on the model's words. When the caller leaves, this ends, and with it the provider's request.
async fn relay(mut answer: AnswerBody, mut words: Sender<Bytes, Infallible>) {
    let mut decoder = SseDecoder::new();
    while let Some(Ok(frame)) = answer.frame().await {
        let Ok(bytes) = frame.into_data() else { continue };
        if decoder.push(&bytes).is_err() {
            return;
        }
        while let Some(event) = decoder.next_event() {
            let chunk: Value = serde_json::from_str(&event.data).unwrap_or_default();
            let text = chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
            if !text.is_empty() && words.send_data(text.into()).await.is_err() {
                return;
            }
        }
    }
}

async fn serve(listener: TcpListener, service: Service) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        let routes = service_fn(move |request| service.clone().route(request));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), routes),
        );
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(text)));
    *response.status_mut() = status;
    response
}

/// A user of the service, who needs nothing but HTTP.
async fn ask(address: SocketAddr, question: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    let length = question.len();
    let request =
        format!("POST /ask HTTP/1.0\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n{question}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn body(value: Value) -> Spec {
    value.as_object().cloned().unwrap_or_default()
}
