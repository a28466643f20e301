//! Who may ask the proxy: programs of this machine that hold its token, and no web page.

use std::{fmt, net::IpAddr, str::FromStr};

use http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN},
    uri::Authority,
};
use mcpctl_core::client::is_loopback;
use subtle::ConstantTimeEq as _;
use url::Url;
use zeroize::Zeroizing;

use super::answer::Refusal;

/// A web page's origin on this machine, such as `http://localhost:5173`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected an origin on this machine, such as http://localhost:5173";
        let url = Url::parse(text).map_err(|fault| format!("{fault}; {EXPECTED}"))?;
        let origin = url.origin().ascii_serialization();
        let is_origin = ["http", "https"].contains(&url.scheme()) && text.trim_end_matches('/') == origin;
        if is_origin && is_loopback(&url) { Ok(Self(origin)) } else { Err(EXPECTED.to_owned()) }
    }
}

/// The checks that come before anything else is done with a request.
pub(crate) struct Guard {
    /// The port it listens on, when that is this machine's own: then the name by which it is asked for must be too.
    loopback_port: Option<u16>,
    token: Option<Zeroizing<String>>,
    origins: Vec<Origin>,
}

impl Guard {
    /// Lets in who shows `token`, if there is one, and pages of these origins.
    pub(crate) fn new(
        loopback_port: Option<u16>,
        token: Option<Zeroizing<String>>,
        origins: Vec<Origin>,
    ) -> Self {
        Self { loopback_port, token, origins }
    }

    /// Whether a request may come in. Gives the origin of the page that sent it, if one did that may.
    pub(super) fn admit<'h>(
        &self,
        uri: &Uri,
        headers: &'h HeaderMap,
    ) -> Result<Option<&'h HeaderValue>, Refusal> {
        self.check_host(uri, headers)?;
        self.check_origin(headers)
    }

    /// A page that had its own name point to this machine would be asked for by that name.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(port) = self.loopback_port else { return Ok(()) };
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let fits = |authority: &Authority| is_here(authority, port);
        if host.as_ref().is_some_and(fits) && hosts.next().is_none() && uri.authority().is_none_or(fits) {
            return Ok(());
        }
        let message = format!(
            "the Host header is not this proxy's: ask for it as 127.0.0.1:{port} or localhost:{port}"
        );
        Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", message))
    }

    fn check_origin<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h HeaderValue>, Refusal> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next();
        let is_allowed =
            |origin: &HeaderValue| self.origins.iter().any(|known| known.0.as_bytes() == origin.as_bytes());
        // Browsers leave out the origin of some requests, and say this of them instead.
        let from_elsewhere = headers
            .get("sec-fetch-site")
            .is_some_and(|site| !["same-origin", "none"].iter().any(|fine| site == fine));
        match origin {
            Some(origin) if is_allowed(origin) && origins.next().is_none() => Ok(Some(origin)),
            None if !from_elsewhere => Ok(None),
            _ => {
                let message = "web pages may not use this proxy; `mcpctl proxy --allow-origin` lets in those of \
                               this machine";
                Err(Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message))
            }
        }
    }

    /// Whether the request shows the token.
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let bearers = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
            let (scheme, shown) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(shown)
        });
        let keys = headers.get_all("x-api-key").iter().map(HeaderValue::as_bytes);
        let mut shown = bearers.chain(keys);
        if shown.any(|shown| token.as_bytes().ct_eq(shown).into()) {
            return Ok(());
        }
        let message = "this proxy wants its own token, which `mcpctl proxy` prints when it starts, as a bearer or in \
                       x-api-key";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("loopback_port", &self.loopback_port).finish_non_exhaustive()
    }
}

/// Whether this is a name or an address of this machine alone, and the port.
fn is_here(authority: &Authority, port: u16) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_local = match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let host = host.to_ascii_lowercase();
            host == "localhost" || host.ends_with(".localhost")
        }
    };
    is_local && authority.port_u16().unwrap_or(80) == port && !authority.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        let token = Zeroizing::new("t0p-token".to_owned());
        Guard::new(Some(3101), Some(token), vec!["http://localhost:5173".parse().unwrap()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_names_of_this_machine_with_the_port_are_hosts() {
        let uri = Uri::from_static("/v1/models");
        for (host, expected) in [
            ("127.0.0.1:3101", true),
            ("localhost:3101", true),
            ("LOCALHOST:3101", true),
            ("a.localhost:3101", true),
            ("[::1]:3101", true),
            ("127.0.0.1", false),
            ("127.0.0.1:3102", false),
            ("evil.example:3101", false),
            ("127.0.0.1.evil.example:3101", false),
            ("localhost.evil.example:3101", false),
            ("x@127.0.0.1:3101", false),
            ("10.0.0.1:3101", false),
            ("", false),
        ] {
            let is_admitted = guard().admit(&uri, &headers(&[("host", host)])).is_ok();
            assert_eq!(is_admitted, expected, "{host}");
        }
        assert!(guard().admit(&uri, &headers(&[])).is_err());
        assert!(
            guard().admit(&uri, &headers(&[("host", "127.0.0.1:3101"), ("host", "127.0.0.1:3101")])).is_err()
        );
        let absolute = Uri::from_static("http://evil.example:3101/v1/models");
        assert!(guard().admit(&absolute, &headers(&[("host", "127.0.0.1:3101")])).is_err());
    }

    #[test]
    fn pages_are_refused_unless_they_were_let_in() {
        let uri = Uri::from_static("/v1/models");
        for (pairs, expected) in [
            (&[("origin", "http://localhost:5173")][..], true),
            (&[("origin", "http://localhost:5173"), ("sec-fetch-site", "cross-site")], true),
            (&[("origin", "http://localhost:5174")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1:3101")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], true),
        ] {
            let pairs = [&[("host", "127.0.0.1:3101")], pairs].concat();
            assert_eq!(guard().admit(&uri, &headers(&pairs)).is_ok(), expected, "{pairs:?}");
        }
        for bad in ["*", "null", "https://evil.example", "http://localhost:1/path", "localhost:1"] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_token_is_wanted_in_full() {
        for (pairs, expected) in [
            (&[("authorization", "Bearer t0p-token")][..], true),
            (&[("authorization", "bearer t0p-token")], true),
            (&[("x-api-key", "t0p-token")], true),
            (&[("authorization", "Bearer other"), ("x-api-key", "t0p-token")], true),
            (&[], false),
            (&[("authorization", "Bearer t0p-toke")], false),
            (&[("authorization", "Bearer t0p-token2")], false),
            (&[("authorization", "Basic t0p-token")], false),
            (&[("authorization", "t0p-token")], false),
            (&[("x-api-key", "")], false),
        ] {
            assert_eq!(guard().authenticate(&headers(pairs)).is_ok(), expected, "{pairs:?}");
        }
        assert!(!format!("{:?}", guard()).contains("t0p"));
    }
}
