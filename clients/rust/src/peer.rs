//! What is at a server's address: which addresses there may be, and in plain words how a call to one failed.

use std::{
    error::Error as StdError,
    io::{self, ErrorKind},
    iter::successors,
};

use h2::Reason;
use tonic::{Code, ConnectError, Status, transport::Endpoint};

/// The endpoint of "http://host:port", "host:port" or "unix:/path"; or why it is none.
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    let invalid = |why: &str| format!("address {address}: {why}: give HOST:PORT, or unix:PATH");
    let is_unix = address.starts_with("unix:");
    let uri = match address.split_once("://") {
        Some(("http" | "unix", _)) => address.to_owned(),
        Some((scheme, _)) => return Err(invalid(&format!("framepipe does not speak {scheme:?}"))),
        None if is_unix => address.to_owned(),
        None => format!("http://{address}"),
    };
    if is_unix && address.trim_start_matches("unix:").trim_start_matches("//").is_empty() {
        return Err(invalid("it has no path"));
    }
    let endpoint = Endpoint::from_shared(uri).map_err(|error| invalid(&error.to_string()))?;
    if !is_unix && endpoint.uri().port_u16().is_none_or(|port| port == 0) {
        return Err(invalid("it has no port, 1 to 65535"));
    }
    Ok(endpoint)
}

/// What a failure says of who is at the address.
pub fn seen(address: &str, error: &(dyn StdError + 'static)) -> String {
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let words = match kind.filter(|_| !was_reached(error)) {
        Some(ErrorKind::ConnectionRefused) => "nothing listens there",
        Some(ErrorKind::NotFound) => "there is no such socket",
        Some(ErrorKind::PermissionDenied) => "this user may not connect to it",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "no way leads there",
        Some(ErrorKind::TimedOut) => "nobody answers there",
        _ => return format!("{address}: {}", with_causes(error)),
    };
    format!("{address}: {words}")
}

/// False where a connection could not even be made, so that nothing was sent.
pub fn was_reached(error: &(dyn StdError + 'static)) -> bool {
    !causes(error).any(|cause| cause.is::<ConnectError>())
}

/// Whether who answers a question for framepipe's health is another: by gRPC, which knows no framepipe then, or by something that is
/// no HTTP/2. That is for this end to notice: what the other end says of it, such as that it goes away, is HTTP/2.
pub fn is_another(status: &Status) -> bool {
    let is_malformed = |error: &h2::Error| {
        error.is_library() && matches!(error.reason(), Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR))
    };
    matches!(status.code(), Code::Unimplemented | Code::NotFound)
        || causes(status).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(is_malformed)
}

/// An error and what lies behind it: tonic's own words are often only "transport error".
pub fn with_causes(error: &(dyn StdError + 'static)) -> String {
    causes(error).skip(1).map(ToString::to_string).fold(error.to_string(), |words, cause| {
        // An error's own words may have those of its cause at their end already.
        if words.ends_with(&cause) { words } else { format!("{words}: {cause}") }
    })
}

/// An error, and what lies behind it.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |cause: &&'a (dyn StdError + 'static)| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_or_is_a_sockets_path() {
        for good in ["localhost:1", "http://10.0.0.7:50051", "[::1]:50051", "unix:/run/s", "unix:///run/s"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for (wrong, words) in [
            ("localhost", "it has no port, 1 to 65535"),
            ("http://localhost", "it has no port, 1 to 65535"),
            ("localhost:99999", "localhost:99999"),
            ("localhost:0", "it has no port, 1 to 65535"),
            ("http://[::1]:0", "it has no port, 1 to 65535"),
            ("unix:", "it has no path"),
            ("unix://", "it has no path"),
            ("ftp://localhost:1", "does not speak \"ftp\""),
            ("https://localhost:1", "does not speak \"https\""),
            ("", "address "),
        ] {
            let said = endpoint(wrong).expect_err(wrong);
            assert!(said.contains(words) && said.ends_with("give HOST:PORT, or unix:PATH"), "{said}");
        }
    }
}
