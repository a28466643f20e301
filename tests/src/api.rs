//! A client of the server's HTTP API that knows little, so that tests see what is really answered.

use std::{
    net::SocketAddr,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{AUTHORIZATION, HeaderMap},
    redirect::Policy,
};
use serde_json::{Value, json};

use crate::{Canary, Provider, http1, server::unique, wait::within};

/// The longest any answer of the server may take in a test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client with one token, or none.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    client: Client,
    token: Option<String>,
    canary: Canary,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What was asked, for messages of failure.
    pub asked: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer whose body is still coming.
#[derive(Debug)]
pub struct Stream {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    asked: String,
    response: Response,
    seen: Vec<u8>,
    canary: Canary,
}

impl Api {
    /// A client of the server at `address` that shows no token.
    pub fn new(address: SocketAddr, canary: Canary) -> Self {
        static CRYPTO: Once = Once::new();
        CRYPTO.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { address, client, token: None, canary }
    }

    /// The same with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same without a token.
    pub fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// What must not show, and what was seen.
    pub fn canary(&self) -> Canary {
        self.canary.clone()
    }

    /// The token.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("this client has no token")
    }

    /// A request with this client's token, to add to.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let stream = self.open(request).await;
        let asked = stream.asked.clone();
        within(PATIENCE, &format!("the whole answer to {asked}"), stream.rest()).await
    }

    /// Sends a request and returns with the answer's head.
    pub async fn open(&self, request: RequestBuilder) -> Stream {
        let request = request.build().unwrap();
        let query = request.url().query().map(|query| format!("?{query}")).unwrap_or_default();
        let asked = format!("{} {}{query}", request.method(), request.url().path());
        let response = within(PATIENCE, &asked, self.client.execute(request)).await;
        let response = response.unwrap_or_else(|error| panic!("{asked}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let seen = format!("{status} {headers:?}\n").into_bytes();
        let canary = self.canary.clone();
        canary.saw(asked.clone(), seen);
        Stream { status, headers, asked, response, seen: Vec::new(), canary }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    /// `GET path`, or `None` when nobody answers.
    pub async fn try_get(&self, path: &str) -> Option<Reply> {
        let response = self.request("GET", path).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.ok()?;
        Some(Reply { asked: format!("GET {path}"), status, headers, body })
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request("DELETE", path)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request("POST", path).json(body)).await
    }

    /// `PUT path` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request("PUT", path).json(body)).await
    }

    /// `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request("PATCH", path).json(body)).await
    }

    /// `POST path` with a JSON body, up to the answer's head.
    pub async fn stream(&self, path: &str, body: &Value) -> Stream {
        self.open(self.request("POST", path).json(body)).await
    }

    /// Sends bytes as they are on a connection of their own. `{token}` in `head` becomes this client's token.
    pub async fn raw(&self, head: &str, body: &[u8]) -> Option<http1::RawReply> {
        let head = head.replace("{token}", self.token.as_deref().unwrap_or_default());
        let reply = http1::exchange(self.address, &[head.as_bytes(), body].concat()).await?;
        let line = head.lines().next().unwrap_or_default();
        self.canary.saw(line, format!("{:?} {}", reply.head, reply.text()));
        Some(reply)
    }

    /// A client with the token of a new session.
    pub async fn login(&self, email: &str, password: &str) -> Self {
        let body = json!({"email": email, "password": password});
        let (_, session) = self.anonymous().new_token("auth/login", &body, 200).await;
        session
    }

    /// Makes an McpToken: the resource, and a client with the token.
    pub async fn create_token(&self, body: &Value) -> (Value, Self) {
        self.new_token("mcptokens", body, 201).await
    }

    /// Asks for something that is answered with a new token. The answer is not noted: it holds the token, as it must.
    async fn new_token(&self, path: &str, body: &Value, expected: u16) -> (Value, Self) {
        let request = self.request("POST", &format!("/api/v1/{path}")).json(body);
        let response = within(PATIENCE, path, request.send()).await.unwrap();
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, expected, "{path} {body}: {answer}");
        let token = answer["token"].as_str().expect("a token").to_owned();
        self.canary.keep_secret("a token", &token);
        (answer, self.with_token(token))
    }

    /// Makes a Secret; its values must show nowhere from now on.
    pub async fn create_secret(&self, name: &str, data: &Value) -> Value {
        for (key, value) in data.as_object().unwrap() {
            self.canary.keep_secret(&format!("{key} of secret {name}"), value.as_str().unwrap());
        }
        self.create("secrets", &json!({"name": name, "data": data})).await
    }

    /// Makes a resource and returns it.
    pub async fn create(&self, kind: &str, body: &Value) -> Value {
        self.post(&format!("/api/v1/{kind}"), body).await.expect(201)
    }

    /// Makes an Llm of type `ty` at `provider`, with a Secret of its own, and returns the provider's key.
    pub async fn create_llm(&self, name: &str, ty: &str, provider: &Provider) -> String {
        self.create_llm_at(name, ty, &provider.url(), json!({})).await
    }

    /// The same with a URL and `extraConfig`.
    pub async fn create_llm_at(&self, name: &str, ty: &str, url: &str, extra: Value) -> String {
        let key = unique("sk-provider-key");
        let secret = format!("{name}-key");
        self.create_secret(&secret, &json!({"api-key": key})).await;
        let reference = json!({"name": secret, "key": "api-key"});
        let llm = json!({"name": name, "type": ty, "model": format!("{name}-model"), "url": url,
                         "apiKeyRef": reference, "extraConfig": extra});
        self.create("llms", &llm).await;
        key
    }

    /// Makes a user with these role bindings and nothing else, and logs in.
    pub async fn create_user_with(&self, bindings: &Value) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let (email, password) = (format!("user-{number}@example.com"), unique("user-password"));
        self.create_user(&email, &password).await;
        if bindings.as_array().is_some_and(|bindings| !bindings.is_empty()) {
            let name = format!("rbac-of-user-{number}");
            let subjects = json!([{"kind": "User", "name": email}]);
            self.create("rbac", &json!({"name": name, "subjects": subjects, "roleBindings": bindings})).await;
        }
        self.login(&email, &password).await
    }

    /// Makes a user who may nothing yet.
    pub async fn create_user(&self, email: &str, password: &str) -> Value {
        self.canary.keep_secret(&format!("the password of {email}"), password);
        self.create("users", &json!({"name": email, "password": password})).await
    }

    /// Asks the Llm `name` something, in OpenAI's format, over its own route.
    pub async fn infer(&self, name: &str, body: &Value) -> Reply {
        self.post(&format!("/api/v1/llms/{name}/infer"), body).await
    }
}

impl Stream {
    /// The next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        let chunk = within(PATIENCE, &format!("more of {}", self.asked), self.response.chunk()).await;
        let chunk = chunk.unwrap_or_else(|error| panic!("{}: {error:?}", self.asked))?;
        self.seen.extend_from_slice(&chunk);
        Some(chunk)
    }

    /// Reads until `text` has come.
    pub async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            assert!(self.next().await.is_some(), "{} ended before {text:?}", self.asked);
        }
    }

    /// Everything up to the end.
    pub async fn rest(mut self) -> Reply {
        while self.next().await.is_some() {}
        let Self { asked, status, headers, .. } = &self;
        Reply {
            asked: asked.clone(),
            status: *status,
            headers: headers.clone(),
            body: self.seen.clone().into(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let meant_to_show = self.asked.ends_with("/login") || self.asked.ends_with("showValues=true");
        if !(meant_to_show && self.status == 200) {
            self.canary.saw(format!("{} (body)", self.asked), self.seen.clone());
        }
    }
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{}: {} with a body that is no JSON ({error}): {:?}", self.asked, self.status, self.text())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Asserts the status, and gives the body as JSON: null when it is empty.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Asserts an error of the management API, `{"error": "<message>"}` and nothing else, and gives its message.
    pub fn error(&self, status: u16) -> String {
        let body = self.expect(status);
        let message = body["error"].as_str();
        let message = message.unwrap_or_else(|| panic!("{}: no error message in {body}", self.asked));
        assert_eq!(body.as_object().unwrap().len(), 1, "{}: more than `error` in {body}", self.asked);
        assert!(!message.is_empty(), "{}: an empty error message", self.asked);
        message.to_owned()
    }

    /// Asserts an error in OpenAI's form, and gives its message.
    pub fn openai_error(&self, status: u16) -> String {
        let body = self.expect(status);
        let message = body["error"]["message"].as_str();
        message.unwrap_or_else(|| panic!("{}: no error.message in {body}", self.asked)).to_owned()
    }

    /// Asserts an error in Anthropic's form and with the type of its status, and gives its message.
    pub fn anthropic_error(&self, status: u16) -> String {
        let body = self.expect(status);
        let ty = match status {
            400 | 405 | 415 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            _ => "api_error",
        };
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(ty)), "{body}");
        let message = body["error"]["message"].as_str();
        message.unwrap_or_else(|| panic!("{}: no error.message in {body}", self.asked)).to_owned()
    }
}
