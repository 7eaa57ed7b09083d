//! What the gateway tells over HTTP (`server.http`), asked from its own machine: no other HTTP client is needed for it.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// For the gateway to take the connection, then the request, then for each part of its answer.
const WAIT: Duration = Duration::from_secs(2);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Gets a path from the gateway that listens at `address` (IP:PORT), which answers with one of these numbers.
///
/// # Errors
/// What is in the way of asking; an answer with another number, or none of HTTP's.
pub fn get(address: &str, path: &str, statuses: &[u16]) -> anyhow::Result<String> {
    let listening: SocketAddr = address.parse().with_context(|| format!("server.http is {address}: give IP:PORT"))?;
    let answer = answer_of(reachable(listening), path);
    let answer = answer.with_context(|| {
        format!(
            "nothing answers at http://{address}{path}: is the pipeline up? Where it was started with another --http, \
             FRAMEPIPE_SERVER__HTTP says so here, and the --http of framepipe status --ready"
        )
    })?;
    understood(&answer, statuses).with_context(|| format!("what answers at http://{address}{path} is no framepipe"))
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

fn answer_of(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    // Of HTTP/1.0: one answer, and the end of the connection with it.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The body of an answer.
fn understood(answer: &str, statuses: &[u16]) -> anyhow::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let said = head.lines().next().unwrap_or_default();
    let mut words = said.split(' ');
    let (protocol, status) = (words.next().unwrap_or_default(), words.next().and_then(|word| word.parse::<u16>().ok()));
    let is_one = protocol.starts_with("HTTP/1.") && status.is_some_and(|status| statuses.contains(&status));
    ensure!(is_one, "it says {said:?}");
    Ok(body.to_owned())
}

/// For tests: an address where one asker is answered so, and what he asked.
#[cfg(test)]
pub fn answering(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    use std::io::BufRead as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("one comes");
        let lines = io::BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        let asked: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        stream.write_all(answer.as_bytes()).expect("it listens");
        asked.join("\n")
    });
    (format!("0.0.0.0:{port}"), server)
}
