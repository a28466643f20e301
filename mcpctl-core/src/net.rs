//! What everything that connects to other hosts shares: from names to addresses, and faults in words.

use std::{error::Error, io, net::SocketAddr};

use crate::resource::is_metadata_address;

/// The addresses of a host, by the system's resolver.
///
/// # Errors
///
/// When there are none, or one is an address at which nothing lives that a server should call for somebody.
pub(crate) async fn lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
    if found.iter().any(|address| is_metadata_address(address.ip())) {
        return Err(io::Error::other("the host resolves to a link-local or metadata address"));
    }
    Ok(found)
}

/// What went wrong with a connection, in words that are safe to show: no URL, no header.
pub(crate) fn describe(fault: &(dyn Error + 'static)) -> String {
    let mut innermost = fault;
    let mut io_fault = None;
    loop {
        if let Some(io) = innermost.downcast_ref::<io::Error>() {
            io_fault = Some(io.kind());
        }
        match innermost.source() {
            Some(next) => innermost = next,
            None => break,
        }
    }
    match io_fault {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => "connection reset".to_owned(),
        Some(io::ErrorKind::TimedOut) => "connection timed out".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "connection closed early".to_owned(),
        _ => innermost.to_string(),
    }
}
