//! What a pipeline tells over HTTP, asked as any watcher asks it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address of this machine that is free at this moment.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP's number: 200, 503.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends these bytes, and reads until the other side ends.
///
/// # Errors
/// What the system says, and an answer that is none.
pub fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8(answer).map_err(io::Error::other)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {head:?}")))?;
    Ok(Answer { status, head: head.into(), body: body.into() })
}

/// Gets a path.
///
/// # Errors
/// As [`exchange`].
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
}

/// One scrape of `/metrics`: values by their series, as Prometheus writes them: `name{label="value"}`.
#[derive(Clone, Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks for it.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(address: SocketAddr) -> Self {
        let answer = get(address, "/metrics").expect("the gateway answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            (series.to_owned(), value.parse().expect("a number"))
        };
        Self(samples.map(sample).collect())
    }

    /// The value of a series.
    ///
    /// # Panics
    /// Where it has none.
    pub fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} among {:?}", self.0.keys()))
    }

    /// All series whose names begin so, with their values.
    pub fn all(&self, prefix: &str) -> BTreeMap<String, f64> {
        self.0.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(name, value)| (name.clone(), *value)).collect()
    }
}
