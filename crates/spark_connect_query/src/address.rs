//! Parses a cluster's address and checks that a Spark Connect server can be behind it.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::error::{Error, Result};

/// How long a server may take to accept a connection, and to send its first bytes.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The first bytes of an HTTP/2 client (RFC 9113, section 3.4): its preface and an empty SETTINGS
/// frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a SETTINGS frame, the fourth byte of its header.
const SETTINGS: u8 = 4;

/// Returns `HOST:PORT` of `sc://HOST:PORT/;OPTION=VALUE…`, and whether the connection uses TLS.
///
/// # Errors
///
/// [`Error::Address`] if the scheme, the host or the port is missing or invalid.
pub(crate) fn parse(remote: &str) -> Result<(String, bool)> {
    let wrong = |reason: &str| Error::Address { address: remote.into(), reason: reason.into() };
    let rest = remote.strip_prefix("sc://").ok_or_else(|| wrong("it does not start with sc://"))?;
    let (place, options) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = place.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(wrong("its port is not a number from 1 to 65535"));
    }
    Ok((place.to_owned(), options.contains("use_ssl=true")))
}

/// Connects to `HOST:PORT` by TCP.
///
/// # Errors
///
/// [`Error::NoServer`] if no process listens there.
pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let failed = |error: std::io::Error| Error::NoServer {
        address: address.into(),
        reason: error.to_string(),
    };
    let mut last = std::io::Error::other("the name has no address");
    for place in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&place, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Checks that the server at `HOST:PORT` supports HTTP/2, the transport of Spark Connect.
///
/// # Errors
///
/// [`Error::NoServer`] if no process listens there; [`Error::WrongProtocol`] if the reply is not HTTP/2.
pub(crate) fn check_http2(address: &str) -> Result<()> {
    let mut stream = connect(address)?;
    let mut header = [0; 9];
    let reply = stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(PREFACE))
        .and_then(|()| stream.read_exact(&mut header));
    let reason = match reply {
        Ok(()) if header[3] == SETTINGS => return Ok(()),
        Ok(()) => format!("its reply starts with {}", header.escape_ascii()),
        Err(error) => format!("no reply to an HTTP/2 client: {error}"),
    };
    Err(Error::WrongProtocol { address: address.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_needs_scheme_host_and_port() {
        assert_eq!(parse("sc://127.0.0.1:15002").unwrap(), ("127.0.0.1:15002".into(), false));
        let (place, tls) = parse("sc://cluster:443/;use_ssl=true;token=x").unwrap();
        assert_eq!((place.as_str(), tls), ("cluster:443", true));
        for wrong in ["", "127.0.0.1:1", "sc://", "sc://host", "sc://:1", "sc://h:0", "sc://h:x"] {
            assert!(matches!(parse(wrong), Err(Error::Address { .. })), "{wrong}");
        }
    }

    #[test]
    fn missing_server_and_other_protocol_are_different_errors() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let error = check_http2(&address).unwrap_err();
        assert!(matches!(error, Error::WrongProtocol { .. }), "{error}");
        server.join().unwrap();
        let error = check_http2(&address).unwrap_err();
        assert!(matches!(error, Error::NoServer { .. }), "{error}");
    }
}
