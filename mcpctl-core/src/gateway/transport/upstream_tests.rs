use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use rustls::RootCertStore;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::{super::way::ProviderBody, *};

/// A provider that closes each connection after `answers` answers, and counts the connections.
async fn provider(answers: usize) -> (Uri, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/v1/chat", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, answers));
        }
    });
    (uri, connections)
}

/// Answers as many requests of HTTP/1.1, and closes the connection.
pub(super) async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, answers: usize) {
    for _ in 0..answers {
        let mut request = Vec::new();
        while !request.ends_with(b"hello") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        assert!(request.starts_with(b"POST /v1/chat HTTP/1.1\r\n"));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

pub(super) fn hello(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from("hello"));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri.clone();
    request
}

pub(super) async fn ask(upstream: &Upstream, uri: &Uri) -> Bytes {
    match upstream.send(hello(uri)).await {
        Ok(response) => response.into_body().collect().await.unwrap().to_bytes(),
        Err(Fault::Connect(fault)) => panic!("no connection: {fault}"),
        Err(Fault::Exchange(fault)) => panic!("no answer: {fault}"),
    }
}

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

fn upstream(uri: &Uri) -> Upstream {
    counted(uri, Arc::default())
}

fn counted(uri: &Uri, counts: Arc<Connections>) -> Upstream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    Upstream::new(uri, PATIENCE, Arc::new(tls), counts).unwrap()
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let (uri, connections) = provider(usize::MAX).await;
    let upstream = upstream(&uri);
    for _ in 0..5 {
        assert_eq!(ask(&upstream, &uri).await, "hi");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_the_provider_closed_meanwhile_is_replaced() {
    let (uri, connections) = provider(1).await;
    let upstream = upstream(&uri);
    for asked in 1..=5 {
        assert_eq!(ask(&upstream, &uri).await, "hi");
        // The provider's goodbye is on its way: whether it is here yet must not matter for long.
        while upstream.pool.free().idle.iter_mut().any(|(_, connection)| connection.is_free()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(connections.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_takes_its_connection_with_it() {
    let (uri, connections) = provider(usize::MAX).await;
    let upstream = upstream(&uri);
    let response = upstream.send(hello(&uri)).await.ok().unwrap();
    drop(response);
    assert!(upstream.pool.free().idle.is_empty());
    assert_eq!(ask(&upstream, &uri).await, "hi");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

/// A provider that sends the end of each answer only when told to. Counts the connections.
async fn slow_to_end() -> (Uri, Arc<AtomicUsize>, mpsc::UnboundedSender<&'static [u8]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/v1/chat", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (ends, mut told) = mpsc::unbounded_channel::<&'static [u8]>();
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.unwrap_or(0) > 0 {
                if std::mem::take(&mut request).ends_with(b"hello") {
                    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
                    stream.write_all(head).await.unwrap();
                    stream.write_all(told.recv().await.unwrap()).await.unwrap();
                }
            }
        }
    });
    (uri, connections, ends)
}

/// Reads the content of an answer, but not its end.
async fn content(upstream: &Upstream, uri: &Uri) -> ProviderBody {
    let mut body = ProviderBody::Http(upstream.send(hello(uri)).await.ok().unwrap().into_body());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "hi");
    body
}

#[tokio::test]
async fn an_answer_that_is_left_gives_its_connection_back_once_it_ends() {
    let (uri, connections, ends) = slow_to_end().await;
    let upstream = upstream(&uri);
    for _ in 0..3 {
        let body = content(&upstream, &uri).await;
        body.leave();
        ends.send(b"0\r\n\r\n").unwrap();
        while upstream.pool.free().idle.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_that_goes_on_after_it_was_left_is_cut_off() {
    let (uri, connections, ends) = slow_to_end().await;
    let upstream = upstream(&uri);
    for connection in 1..3 {
        content(&upstream, &uri).await.leave();
        ends.send(b"4\r\nmore\r\n").unwrap();
        // The provider takes the next connection when this one is closed.
        let body = content(&upstream, &uri).await;
        assert_eq!(connections.load(Ordering::Relaxed), 2 * connection);
        drop(body);
        ends.send(b"0\r\n\r\n").unwrap();
    }
}

#[tokio::test]
async fn connections_are_counted_from_their_beginning_to_their_end() {
    let (uri, _) = provider(usize::MAX).await;
    let counts = Arc::new(Connections::default());
    let upstream = counted(&uri, counts.clone());
    let now = || {
        let plain = &counts.plain;
        (
            plain.connects.load(Ordering::Relaxed),
            plain.open.load(Ordering::Relaxed),
            plain.idle.load(Ordering::Relaxed),
        )
    };
    assert_eq!(now(), (0, 0, 0));
    for _ in 0..3 {
        assert_eq!(ask(&upstream, &uri).await, "hi");
        assert_eq!(now(), (1, 1, 1));
    }
    let response = upstream.send(hello(&uri)).await.ok().unwrap();
    assert_eq!(now(), (1, 1, 0));
    drop(response);
    assert_eq!(now(), (1, 0, 0));
    assert_eq!(ask(&upstream, &uri).await, "hi");
    assert_eq!(now(), (2, 1, 1));
    drop(upstream);
    assert_eq!(now(), (2, 0, 0));
}

#[tokio::test]
async fn connections_that_fail_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let counts = Arc::new(Connections::default());
    let upstream = counted(&uri, counts.clone());
    assert!(matches!(upstream.send(hello(&uri)).await, Err(Fault::Connect(_))));
    let plain = &counts.plain;
    assert_eq!((plain.failures.load(Ordering::Relaxed), plain.open.load(Ordering::Relaxed)), (1, 0));
}
