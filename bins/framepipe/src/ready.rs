//! `framepipe status --ready`: whether a frame that is pushed now gets through, as `/readyz` says at `server.http`. For the
//! health checks of container engines, so that an image needs no HTTP client of its own.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

/// For the gateway to take the connection, then the request, then for each part of its answer.
const WAIT: Duration = Duration::from_secs(2);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// One answer, and the end of the connection with it.
const REQUEST: &[u8] = b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n";

/// What `/readyz` said.
#[derive(Debug, PartialEq, Eq)]
pub struct Readiness {
    /// True while frames get through.
    pub is_ready: bool,
    /// Its line of JSON, which says why not.
    pub words: String,
}

/// Asks the gateway that listens at `address`.
pub fn ask(address: Option<&str>) -> anyhow::Result<Readiness> {
    let address = address.context("readiness is told over HTTP, and server.http is \"\": give it an address")?;
    let listening: SocketAddr = address.parse().with_context(|| format!("server.http is {address}: give IP:PORT"))?;
    let answer = answer_of(reachable(listening));
    let answer = answer.with_context(|| format!("nothing answers at http://{address}/readyz: is the pipeline up?"))?;
    understood(&answer).with_context(|| format!("what answers at http://{address}/readyz is no framepipe"))
}

/// Who listens everywhere is asked here.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let here = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(here, listening.port())
}

fn answer_of(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    stream.write_all(REQUEST)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

fn understood(answer: &str) -> anyhow::Result<Readiness> {
    let (head, words) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut status = head.lines().next().unwrap_or_default().split(' ');
    let (protocol, code) = (status.next().unwrap_or_default(), status.next().unwrap_or_default());
    let is_ready = match (protocol.starts_with("HTTP/1."), code) {
        (true, "200") => true,
        (true, "503") => false,
        _ => bail!("it says {:?}", head.lines().next().unwrap_or_default()),
    };
    Ok(Readiness { is_ready, words: words.trim_end().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Asks one who answers so.
    fn asked(answer: &'static str) -> anyhow::Result<Readiness> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one comes");
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request).expect("it asks");
            stream.write_all(answer.as_bytes()).expect("it listens");
            request
        });
        let said = ask(Some(&format!("0.0.0.0:{port}")));
        assert_eq!(server.join().expect("it answers"), REQUEST);
        said
    }

    #[test]
    fn it_is_ready_as_the_gateway_says_and_nothing_else_is_taken_for_that() {
        let ready = asked("HTTP/1.0 200 OK\r\ncontent-length: 15\r\n\r\n{\"ready\":true}\n").expect("an answer");
        assert_eq!(ready, Readiness { is_ready: true, words: "{\"ready\":true}".into() });
        let not = asked("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"why\":[]}").expect("an answer");
        assert_eq!(not, Readiness { is_ready: false, words: "{\"why\":[]}".into() });
        for strange in ["HTTP/1.1 404 Not Found\r\n\r\n", "SSH-2.0-x 200 OK\r\n", ""] {
            let error = format!("{:#}", asked(strange).expect_err("it is no readiness"));
            assert!(error.contains("is no framepipe"), "{error}");
        }
    }

    #[test]
    fn what_is_in_the_way_of_asking_is_said() {
        let said = |address| format!("{:#}", ask(address).expect_err("nobody is there"));
        assert!(said(None).contains("server.http"));
        assert!(said(Some("here")).contains("give IP:PORT"));
        // Bound, and nobody listens: the port is nobody else's.
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        drop(taken);
        assert!(said(Some(&address)).contains("is the pipeline up?"));
    }
}
