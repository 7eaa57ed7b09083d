//! Listeners that a service manager has opened and that this process inherits (socket activation: `LISTEN_PID`,
//! `LISTEN_FDS`, `LISTEN_FDNAMES`). Their names say what they are for; the launcher takes them in place of its own, and
//! leaves their files to the manager.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, bail, ensure};
use framepipe_pipeline::Protocol;
use rustix::net::{
    AddressFamily, SocketType, getsockname,
    sockopt::{socket_acceptconn, socket_domain, socket_type},
};

/// What a listener serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// gRPC over TCP, in place of `server.tcp`.
    Grpc,
    /// gRPC over a Unix socket, in place of `server.unix`.
    GrpcUnix,
    /// Metrics and readiness over HTTP, in place of `server.http`.
    Http,
}

impl Purpose {
    /// Each, with the name that the manager gives it.
    const ALL: [(&str, Self); 3] = [("grpc", Self::Grpc), ("grpc-unix", Self::GrpcUnix), ("http", Self::Http)];

    fn is_of(self, family: AddressFamily) -> bool {
        match self {
            Self::Grpc | Self::Http => [AddressFamily::INET, AddressFamily::INET6].contains(&family),
            Self::GrpcUnix => family == AddressFamily::UNIX,
        }
    }

    /// What is spoken there.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Grpc | Self::GrpcUnix => Protocol::Grpc,
            Self::Http => Protocol::Http,
        }
    }
}

/// The inherited listeners.
#[derive(Default)]
pub struct Inherited(Vec<(Purpose, OwnedFd)>);

impl Inherited {
    /// Takes those that were meant for this process. To be called once, before anything else is opened.
    ///
    /// # Errors
    /// Where one has a name that framepipe does not know, or is no listening socket of that name's kind.
    pub fn take() -> anyhow::Result<Self> {
        let named = sd_notify::listen_fds_with_names().context("the listeners of LISTEN_FDS")?;
        let sockets = named.map(|(number, name)| (name, adopt(number)));
        Self::of(sockets)
    }

    fn of(sockets: impl Iterator<Item = (String, OwnedFd)>) -> anyhow::Result<Self> {
        let checked = sockets.map(|(name, socket)| {
            let known = Purpose::ALL.into_iter().find(|(known, _)| *known == name);
            let Some((_, purpose)) = known else {
                let names = Purpose::ALL.map(|(name, _)| name).join(", ");
                bail!("a listener was inherited under the name {name:?}: give it one of these (FileDescriptorName=): {names}");
            };
            let (family, is_listening) = (socket_domain(&socket), socket_acceptconn(&socket));
            let is_stream = socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
            ensure!(
                is_stream && is_listening.unwrap_or(false) && family.is_ok_and(|family| purpose.is_of(family)),
                "what was inherited under the name {name:?} is no listening socket of its kind: \"grpc\" and \"http\" are TCP, and \
                 \"grpc-unix\" a Unix stream socket (ListenStream=)"
            );
            Ok((purpose, socket))
        });
        Ok(Self(checked.collect::<anyhow::Result<_>>()?))
    }

    /// True where there is one for this purpose.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.0.iter().any(|(of, _)| *of == purpose)
    }

    /// Takes those of a purpose, each with the address to tell.
    pub fn of_purpose(&mut self, purpose: Purpose) -> Vec<(String, OwnedFd)> {
        let (wanted, others) = std::mem::take(&mut self.0).into_iter().partition(|(of, _)| *of == purpose);
        self.0 = others;
        let wanted: Vec<(Purpose, OwnedFd)> = wanted;
        wanted.into_iter().map(|(_, socket)| (address(&socket), socket)).collect()
    }
}

/// Where it listens, for people.
fn address(socket: &OwnedFd) -> String {
    let Ok(any) = getsockname(socket) else { return "an unknown address".into() };
    if let Ok(internet) = std::net::SocketAddr::try_from(any.clone()) {
        return internet.to_string();
    }
    match rustix::net::SocketAddrUnix::try_from(any) {
        Ok(unix) => {
            unix.path().map_or("a socket without a name".into(), |path| format!("unix:{}", path.to_string_lossy()))
        }
        Err(_) => "an unknown address".into(),
    }
}

/// A descriptor that the manager's `LISTEN_FDS` names.
#[allow(unsafe_code, reason = "a file descriptor passed by number")]
fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: the manager passed this descriptor to this process for this use, as LISTEN_PID says, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    fn inherited(sockets: Vec<(&str, OwnedFd)>) -> anyhow::Result<Inherited> {
        Inherited::of(sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)))
    }

    #[test]
    fn listeners_are_taken_by_name_and_what_is_none_of_its_kind_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.sock");
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let unix = OwnedFd::from(UnixListener::bind(&path).expect("a socket"));
        let mut both = inherited(vec![("grpc-unix", unix), ("grpc", tcp())]).expect("both are known");
        assert!(both.has(Purpose::Grpc) && both.has(Purpose::GrpcUnix));
        let taken = both.of_purpose(Purpose::GrpcUnix);
        assert_eq!(taken[0].0, format!("unix:{}", path.display()));
        assert!(both.has(Purpose::Grpc) && !both.has(Purpose::GrpcUnix));

        let said = |result: anyhow::Result<Inherited>| result.err().expect("it is refused").to_string();
        assert!(said(inherited(vec![("grcp", tcp())])).contains("\"grcp\""));
        assert!(said(inherited(vec![("grpc-unix", tcp())])).contains("no listening socket"));
        let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        assert!(said(inherited(vec![("grpc", client)])).contains("no listening socket"));
    }
}
