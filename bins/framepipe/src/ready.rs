//! `framepipe status --ready`: whether a frame that is pushed now gets through, as `/readyz` says at `server.http`. For the
//! health checks of container engines, so that an image needs no HTTP client of its own.

use std::fmt;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::{http, log::harmless_lines};

/// As it is ready, and as it is not.
const STATUSES: [u16; 2] = [200, 503];

/// Most letters that are shown of an answer that is none.
const SHOWN_MAX: usize = 200;

/// What `/readyz` says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Readiness {
    pipeline: String,
    /// True while frames get through.
    #[serde(rename = "ready")]
    pub is_ready: bool,
    why: Vec<String>,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_ready { "ready".into() } else { format!("not ready: {}", self.why.join("; ")) };
        f.write_str(&harmless_lines(&format!("{}: {how}", self.pipeline)))
    }
}

/// Asks the gateway that listens at `address`, which must be this pipeline's.
pub fn ask(pipeline: &str, address: Option<&str>) -> anyhow::Result<Readiness> {
    let address = address.context("readiness is told over HTTP, and server.http is \"\": give it an address")?;
    let body = http::get(address, "/readyz", &STATUSES)?;
    let said: Readiness = serde_json::from_str(&body).with_context(|| {
        let begin: String = body.chars().take(SHOWN_MAX).collect();
        format!("what answers at http://{address}/readyz is no framepipe, or of another version: it says {begin:?}")
    })?;
    ensure!(
        said.pipeline == pipeline,
        "the pipeline that answers at {address} (server.http) is {}, and not {pipeline}: is {pipeline} up? Each needs an address of its own",
        said.pipeline
    );
    Ok(said)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Asks one who answers so for a pipeline.
    fn asked(answer: &'static str) -> anyhow::Result<String> {
        let (address, server) = http::answering(answer);
        let said = ask("street", Some(&address));
        assert_eq!(server.join().expect("it answers"), "GET /readyz HTTP/1.0\nHost: localhost");
        said.map(|said| format!("{} {said}", said.is_ready))
    }

    #[test]
    fn it_is_ready_as_its_own_gateway_says_and_nothing_else_is_taken_for_that() {
        let ready = asked("HTTP/1.0 200 OK\r\n\r\n{\"pipeline\":\"street\",\"ready\":true,\"why\":[],\"stages\":[]}\n");
        assert_eq!(ready.expect("an answer"), "true street: ready");
        let not = asked(
            "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"pipeline\":\"street\",\"ready\":false,\"why\":[\"a\\u001b[2J\",\"b\"]}",
        );
        assert_eq!(not.expect("an answer"), "false street: not ready: a\\u{1b}[2J; b");
        for (strange, words) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "is no framepipe"),
            ("SSH-2.0-x 200 OK\r\n", "is no framepipe"),
            ("", "is no framepipe"),
            ("HTTP/1.0 200 OK\r\n\r\n{\"ready\":true,\"why\":[]}", "of another version"),
            ("HTTP/1.0 200 OK\r\n\r\n{\"pipeline\":\"people\",\"ready\":true,\"why\":[]}", "is people, and not street"),
        ] {
            let error = format!("{:#}", asked(strange).expect_err("it is not this pipeline's readiness"));
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_in_the_way_of_asking_is_said() {
        let said = |address| format!("{:#}", ask("street", address).expect_err("nobody is there"));
        assert!(said(None).contains("server.http"));
        assert!(said(Some("here")).contains("give IP:PORT"));
        // Bound, and nobody listens: the port is nobody else's.
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        drop(taken);
        assert!(said(Some(&address)).contains("is the pipeline up?"));
    }
}
