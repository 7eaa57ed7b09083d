//! `framepipe status --ready`: whether a frame that is pushed now gets through, as `/readyz` says at `server.http`. For the
//! health checks of container engines, so that an image needs no HTTP client of its own.

use anyhow::Context as _;

use crate::{http, log::harmless_lines};

/// As it is ready, and as it is not.
const STATUSES: [u16; 2] = [200, 503];

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
    let http::Answer { status, body } = http::get(address, "/readyz", &STATUSES)?;
    Ok(Readiness { is_ready: status == STATUSES[0], words: harmless_lines(body.trim_end()) })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Asks one who answers so.
    fn asked(answer: &'static str) -> anyhow::Result<Readiness> {
        let (address, server) = http::answering(answer);
        let said = ask(Some(&address));
        assert_eq!(server.join().expect("it answers"), "GET /readyz HTTP/1.0\nHost: localhost");
        said
    }

    #[test]
    fn it_is_ready_as_the_gateway_says_and_nothing_else_is_taken_for_that() {
        let ready = asked("HTTP/1.0 200 OK\r\ncontent-length: 15\r\n\r\n{\"ready\":true}\n").expect("an answer");
        assert_eq!(ready, Readiness { is_ready: true, words: "{\"ready\":true}".into() });
        let not = asked("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"why\":[]}\x1b[2J").expect("an answer");
        assert_eq!(not, Readiness { is_ready: false, words: "{\"why\":[]}\\u{1b}[2J".into() });
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
