use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Barrier, mpsc},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    tests::{PATIENCE, answer, ask, hello},
    *,
};

/// A provider with TLS.
struct Provider {
    uri: Uri,
    certificate: CertificateDer<'static>,
    /// Connections so far.
    connections: Arc<AtomicUsize>,
    restart: mpsc::UnboundedSender<(&'static [u8], Answers)>,
}

/// What a provider does with a connection.
#[derive(Clone)]
enum Answers {
    /// So many answers in HTTP/1.1.
    Whole(usize),
    /// The beginning of one. What is sent here says that the caller is gone.
    Begun(mpsc::UnboundedSender<()>),
    /// Answers in HTTP/2, once so many requests are there.
    Many(Arc<Barrier>),
}

impl Provider {
    /// One that speaks `protocol`; none is named in the handshake when that is empty.
    async fn start(protocol: &'static [u8], answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}/v1/chat", listener.local_addr().unwrap()).parse().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let acceptor = {
            let certificate = certificate.clone();
            move |protocol: &[u8]| {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                let crypto = Arc::new(rustls::crypto::ring::default_provider());
                let config = ServerConfig::builder_with_provider(crypto);
                let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
                let mut config = config.with_single_cert(vec![certificate.clone()], key.into()).unwrap();
                config.alpn_protocols =
                    Some(protocol.to_vec()).filter(|name| !name.is_empty()).into_iter().collect();
                TlsAcceptor::from(Arc::new(config))
            }
        };
        let (restart, mut restarts) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            let (mut acceptor_now, mut answers) = (acceptor(protocol), answers);
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    Some((protocol, next)) = restarts.recv() => {
                        running.shutdown().await;
                        (acceptor_now, answers) = (acceptor(protocol), next);
                    }
                    Ok((stream, _)) = listener.accept() => {
                        counted.fetch_add(1, Ordering::Relaxed);
                        running.spawn(serve(acceptor_now.clone(), stream, answers.clone()));
                    }
                }
            }
        });
        Self { uri, certificate, connections, restart }
    }

    /// Closes every connection, and goes on like this.
    fn restart(&self, protocol: &'static [u8], answers: Answers) {
        self.restart.send((protocol, answers)).unwrap();
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A way to this provider, and the counts of its connections.
    fn upstream(&self) -> (Upstream, Arc<Connections>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().unwrap();
        let mut tls = tls.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        let counts = Arc::new(Connections::default());
        (Upstream::new(&self.uri, PATIENCE, Arc::new(tls), counts.clone()).unwrap(), counts)
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answers: Answers) {
    // A client that does not trust us goes away.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    match answers {
        Answers::Whole(count) => answer(stream, count).await,
        Answers::Begun(gone) => begin(stream, gone).await,
        Answers::Many(together) => {
            let service = service_fn(move |request: Request<Incoming>| {
                let together = together.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/chat");
                    assert!(request.uri().authority().is_some() && !request.headers().contains_key(HOST));
                    assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "hello");
                    together.wait().await;
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hi")))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        }
    }
}

/// Begins an answer, and says when the caller is gone.
async fn begin(mut stream: TlsStream<TcpStream>, gone: mpsc::UnboundedSender<()>) {
    let mut request = Vec::new();
    while !request.ends_with(b"hello") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
    }
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    stream.write_all(head).await.unwrap();
    stream.flush().await.unwrap();
    while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
    gone.send(()).unwrap();
}

/// Waits until no connection can take a request.
async fn nothing_free(upstream: &Upstream) {
    let wait = async {
        let is_free = || {
            let mut free = upstream.pool.free();
            free.idle.iter_mut().any(|(_, driven)| driven.is_free()) || free.share().is_some()
        };
        while is_free() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn a_connection_with_tls_serves_one_request_after_another() {
    for protocol in [&b"http/1.1"[..], b""] {
        let provider = Provider::start(protocol, Answers::Whole(usize::MAX)).await;
        let (upstream, counts) = provider.upstream();
        for _ in 0..5 {
            assert_eq!(ask(&upstream, &provider.uri).await, "hi");
            let tls = &counts.tls;
            assert_eq!((tls.open.load(Ordering::Relaxed), tls.idle.load(Ordering::Relaxed)), (1, 1));
        }
        assert_eq!(provider.connections(), 1);
        drop(upstream);
        assert_eq!(counts.tls.open.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn a_connection_with_tls_that_the_provider_closed_meanwhile_is_replaced() {
    let provider = Provider::start(b"http/1.1", Answers::Whole(1)).await;
    let (upstream, _) = provider.upstream();
    for asked in 1..=5 {
        assert_eq!(ask(&upstream, &provider.uri).await, "hi");
        nothing_free(&upstream).await;
        assert_eq!(provider.connections(), asked);
    }
}

#[tokio::test]
async fn leaving_in_the_middle_of_an_answer_closes_the_connection_with_tls() {
    let (gone, mut is_gone) = mpsc::unbounded_channel();
    let provider = Provider::start(b"http/1.1", Answers::Begun(gone)).await;
    let (upstream, counts) = provider.upstream();
    let mut body = upstream.send(hello(&provider.uri)).await.ok().unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    assert_eq!(counts.tls.open.load(Ordering::Relaxed), 1);
    drop(body);
    timeout(PATIENCE, is_gone.recv()).await.unwrap().unwrap();
    assert_eq!(counts.tls.open.load(Ordering::Relaxed), 0);
    assert!(upstream.pool.free().idle.is_empty());
}

#[tokio::test]
async fn requests_in_http2_share_a_connection() {
    let provider = Provider::start(HTTP2, Answers::Many(Arc::new(Barrier::new(8)))).await;
    let (upstream, counts) = provider.upstream();
    let upstream = Arc::new(upstream);
    let mut made = 0;
    for _ in 0..3 {
        // No answer comes before all requests are there.
        let mut bodies = JoinSet::new();
        for _ in 0..8 {
            let (upstream, uri) = (upstream.clone(), provider.uri.clone());
            bodies.spawn(async move { ask(&upstream, &uri).await });
        }
        assert!(timeout(PATIENCE, bodies.join_all()).await.unwrap().iter().all(|body| body == "hi"));
        // The first had no connection to share yet; whatever they made, one is left.
        let one_left = async {
            while counts.tls.open.load(Ordering::Relaxed) > 1 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, one_left).await.unwrap();
        let before = std::mem::replace(&mut made, provider.connections());
        assert!(before == 0 || before == made);
    }
}

#[tokio::test]
async fn a_provider_may_change_its_protocol_when_it_starts_again() {
    let many = || Answers::Many(Arc::new(Barrier::new(1)));
    let provider = Provider::start(HTTP2, many()).await;
    let (upstream, _) = provider.upstream();
    for expected in 1..=3 {
        for _ in 0..2 {
            assert_eq!(ask(&upstream, &provider.uri).await, "hi");
        }
        provider.restart(b"http/1.1", Answers::Whole(usize::MAX));
        nothing_free(&upstream).await;
        for _ in 0..2 {
            assert_eq!(ask(&upstream, &provider.uri).await, "hi");
        }
        provider.restart(HTTP2, many());
        nothing_free(&upstream).await;
        assert_eq!(provider.connections(), 2 * expected);
    }
}

#[tokio::test]
async fn a_provider_that_never_ends_the_handshake_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let provider = Provider::start(b"http/1.1", Answers::Whole(1)).await;
    let (mut upstream, counts) = provider.upstream();
    upstream.origin = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    upstream.connect_timeout = Duration::from_millis(50);
    let sent = timeout(PATIENCE, upstream.send(hello(&provider.uri))).await.unwrap();
    assert!(matches!(sent, Err(Fault::Connect(_))));
    assert_eq!(counts.tls.failures.load(Ordering::Relaxed), 1);
}
