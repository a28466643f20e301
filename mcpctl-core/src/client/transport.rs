//! Requests and answers: URLs, the credential, limits.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::{Host, Url};

use super::{
    Token,
    failure::{self, Unreachable},
};
use crate::{
    error::{Error, Result},
    resource::Kind,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For everything but inference, which takes as long as the model does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

const BEARER: &str = "Bearer ";

/// A client of one server. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
    /// The user whom the caller acts for.
    acting_for: Option<HeaderValue>,
    observer: Option<Arc<dyn Observer>>,
}

/// Is shown the headers of every answer of the server that is a success: some say more than the answer does.
pub trait Observer: fmt::Debug + Send + Sync {
    /// An answer has begun. This is on the caller's way, and so must not wait.
    fn answered(&self, headers: &HeaderMap);
}

/// How long a request may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Short,
    Endless,
}

impl Client {
    /// A client of the server at `base_url`, with the credential to send.
    ///
    /// # Errors
    ///
    /// Invalid, when the URL is not one ([`parse_base_url`]) or the token cannot be sent in a header.
    pub fn new(base_url: &str, token: Option<Token>) -> Result<Self> {
        let base = parse_base_url(base_url)?;
        let http = http_to(&base, CONNECT_TIMEOUT)?;
        let authorization = token.map(|token| bearer(&token)).transpose()?;
        Ok(Self { http, base, authorization, acting_for: None, observer: None })
    }

    /// A client of the same server that acts for another user, by e-mail address: the caller needs the operation
    /// `impersonate`. The two share connections.
    ///
    /// # Errors
    ///
    /// Invalid, when the address cannot be sent in a header.
    pub fn acting_for(&self, user: &str) -> Result<Self> {
        let user = HeaderValue::from_str(user);
        let user = user.map_err(|_| Error::invalid("the user to act for is no e-mail address"))?;
        // What its answers say on the side is about that user, and an observer would take it for the caller.
        Ok(Self { acting_for: Some(user), observer: None, ..self.clone() })
    }

    /// A client of the same server with another credential. The two share connections.
    ///
    /// # Errors
    ///
    /// Invalid, when the token cannot be sent in a header.
    pub fn with_token(&self, token: Option<Token>) -> Result<Self> {
        let authorization = token.map(|token| bearer(&token)).transpose()?;
        Ok(Self { authorization, ..self.clone() })
    }

    /// A client of the same server that shows its answers to `observer`. The two share connections.
    #[must_use]
    pub fn observed_by(&self, observer: Arc<dyn Observer>) -> Self {
        Self { observer: Some(observer), ..self.clone() }
    }

    /// The same without an observer.
    pub(crate) fn unobserved(&self) -> Self {
        Self { observer: None, ..self.clone() }
    }

    /// The token that it sends, for whoever has to compare it.
    pub(crate) fn token(&self) -> Option<&str> {
        self.authorization.as_ref()?.to_str().ok()?.strip_prefix(BEARER)
    }

    /// Whether it acts for another user.
    pub(crate) fn acts_for_another(&self) -> bool {
        self.acting_for.is_some()
    }

    /// Asks with `HEAD` for one resource: the status tells whether the caller may view it, whatever it is.
    ///
    /// # Errors
    ///
    /// Unavailable, when nothing answers.
    pub async fn probe(&self, kind: Kind, id_or_name: &str) -> Result<StatusCode> {
        let path = ["api", "v1", kind.plural, id_or_name];
        let answer =
            self.exchange(Method::HEAD, &path, &[], |request| request.timeout(ANSWER_TIMEOUT)).await?;
        Ok(answer.status())
    }

    /// The server's URL, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// The URL of `segments` below the base, each encoded, with `query`.
    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        let mut url = self.base.clone();
        // The URL crate drops such segments, and the path left over would mean something else.
        if segments.iter().any(|segment| ["", ".", ".."].contains(segment)) {
            return Err(Error::invalid("a name must not be empty, `.` or `..`"));
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Sends a request and hands back the answer if it is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        patience: Patience,
    ) -> Result<reqwest::Response> {
        let response = self
            .exchange(method, segments, query, |mut request| {
                if let Some(body) = body {
                    request = request.json(body);
                }
                match patience {
                    Patience::Short => request.timeout(ANSWER_TIMEOUT),
                    Patience::Endless => request,
                }
            })
            .await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let headers = response.headers().clone();
        let body = response.bytes().await.map_err(|cause| self.broken(&cause))?;
        Err(failure::of_answer(self.base_url(), status, &headers, &body))
    }

    /// Sends a request that `fill` completes, and hands back the answer, whatever its status.
    pub(super) async fn exchange(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        fill: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response> {
        let mut request = fill(self.http.request(method, self.url(segments, query)?));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(user) = &self.acting_for {
            request = request.header("impersonate-user", user.clone());
        }
        let response = request.send().await.map_err(|cause| self.broken(&cause))?;
        if let Some(observer) = self.observer.as_ref().filter(|_| response.status().is_success()) {
            observer.answered(response.headers());
        }
        Ok(response)
    }

    /// Sends a request and reads the JSON of its answer; null when the answer has no body.
    pub(super) async fn json(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        patience: Patience,
    ) -> Result<Value> {
        let response = self.send(method, segments, query, body, patience).await?;
        let bytes = response.bytes().await.map_err(|cause| self.broken(&cause))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|_| self.not_ours("it answered with something other than JSON"))
    }

    pub(super) fn broken(&self, cause: &reqwest::Error) -> Error {
        failure::of_transport(self.base_url(), cause)
    }

    pub(super) fn not_ours(&self, what: &str) -> Error {
        Unreachable::NotOurs { status: None }.error(self.base_url(), what)
    }

    /// The error for a server that has not answered in the time that the caller gave it.
    pub(crate) fn too_slow(&self) -> Error {
        Unreachable::Timeout.error(self.base_url(), Unreachable::Timeout)
    }
}

/// An HTTP client for what is at `base`: no redirects, no proxy on the way to this very machine.
pub(super) fn http_to(base: &Url, connect_timeout: Duration) -> Result<reqwest::Client> {
    // Fails when the process has one already: then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("mcpctl/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true);
    if is_loopback(base) {
        // A proxy on the way to this very machine is never what is meant.
        builder = builder.no_proxy();
    }
    if base.scheme() == "http" {
        // No TLS will be spoken, so the system's certificates need not be read, nor be there.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|cause| Error::internal(cause).context("preparing the HTTP client"))
}

fn bearer(token: &Token) -> Result<HeaderValue> {
    let text = zeroize::Zeroizing::new(format!("{BEARER}{}", token.reveal()));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Error::invalid("the token has characters that no token has; copy it again"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a server's URL: http or https, with a host, without user-info, query and fragment.
///
/// # Errors
///
/// Invalid, saying what is wrong with it.
pub fn parse_base_url(text: &str) -> Result<Url> {
    const EXAMPLE: &str = "expected one such as http://127.0.0.1:3100";
    let url = Url::parse(text.trim())
        .map_err(|cause| Error::invalid(format!("invalid URL `{text}`: {cause}; {EXAMPLE}")))?;
    let fault = if !["http", "https"].contains(&url.scheme()) {
        "it must begin with http:// or https://"
    } else if !url.username().is_empty() || url.password().is_some() {
        // Not echoed: it holds a credential.
        return Err(Error::invalid(format!(
            "invalid URL: it must not hold a user name or password; {EXAMPLE}"
        )));
    } else if url.query().is_some() || url.fragment().is_some() {
        "it must have no query and no fragment"
    } else {
        return Ok(url);
    };
    Err(Error::invalid(format!("invalid URL `{text}`: {fault}; {EXAMPLE}")))
}

/// Whether a URL's host is this very machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Client {
        Client::new(base, Some(Token::new("t0p"))).unwrap()
    }

    #[test]
    fn urls_are_built_below_the_base_and_names_are_encoded() {
        let url = |base, segments: &[&str], query: &[(&str, &str)]| {
            client(base).url(segments, query).map(|url| url.to_string())
        };
        assert_eq!(url("http://h:1", &["api", "v1"], &[]).unwrap(), "http://h:1/api/v1");
        assert_eq!(url("http://h:1/sub/", &["a/b", "c?d#e"], &[]).unwrap(), "http://h:1/sub/a%2Fb/c%3Fd%23e");
        assert_eq!(url("http://h:1", &["x"], &[("q", "a&b")]).unwrap(), "http://h:1/x?q=a%26b");
        for bad in ["", ".", ".."] {
            assert!(url("http://h:1", &["api", bad], &[]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_plain_base_urls_are_taken_and_credentials_are_not_echoed() {
        for good in ["http://127.0.0.1:3100", "https://mcp.example/prefix/", "http://[::1]:3100"] {
            assert!(parse_base_url(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost:3100", "ftp://h", "http://u:pa55@h", "http://h?x=1", "http://h#x", "/a"] {
            let error = parse_base_url(bad).unwrap_err();
            assert!(!error.message().contains("pa55"), "{error}");
        }
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for (url, expected) in [
            ("http://127.8.8.8", true),
            ("http://[::1]:1", true),
            ("http://localhost", true),
            ("http://127.evil.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn debug_hides_the_token() {
        assert!(!format!("{:?}", client("http://h:1")).contains("t0p"));
    }

    #[test]
    fn a_token_that_fits_no_header_is_refused() {
        assert!(Client::new("http://h:1", Some(Token::new("a\nb"))).is_err());
    }
}
