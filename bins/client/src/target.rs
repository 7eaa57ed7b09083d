//! Which pipeline is meant: by its configuration, or by its address; whether it is on this host; and what a stream may be called.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use framepipe_client::{Client, Error};
use framepipe_pipeline::{Instance, Overrides};

/// Longest time for which a pipeline is taken to come back.
pub const AWAY_MAX: Duration = Duration::from_secs(60);

/// The options that say it.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    #[command(flatten)]
    instance: Instance,
    /// The pipeline's address, HOST:PORT or unix:PATH, instead of its configuration's: no configuration is read then.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<String>,
}

/// A pipeline that takes frames.
pub struct Target {
    /// Where it listens.
    pub address: String,
    /// Its inbox, where the configuration says it.
    pub inbox: Option<PathBuf>,
    /// How one would name it on the command line, for hints.
    pub option: String,
}

impl TargetArgs {
    /// Finds it out.
    pub fn resolve(self) -> anyhow::Result<Target> {
        if let Some(address) = self.address {
            return Ok(Target { option: format!("--address {address}"), address, inbox: None });
        }
        let (config, option) = (self.instance.load(Overrides::default()), self.instance.options());
        let config = config.context("which pipeline is meant? Give its --config, or its --address")?;
        let socket = &config.server.unix;
        // One that is named is meant, and no other that listens at the file's TCP address.
        let is_here = socket.try_exists();
        if self.instance.is_named() && !*is_here.as_ref().map_err(|error| anyhow!("{}: {error}", socket.display()))? {
            bail!(
                "no pipeline is up with {option}: there is no {}. One that has no socket here: --address",
                socket.display()
            );
        }
        // A pipeline that was started elsewhere, or by another user, may have its TCP listener alone in common with the file.
        let address = match config.server.tcp {
            Some(tcp) if !is_here.unwrap_or(false) => tcp,
            _ => format!("unix:{}", socket.display()),
        };
        Ok(Target { address, inbox: config.server.inbox.first().cloned(), option })
    }
}

impl Target {
    /// Connects to it, within a time; images are written into `inbox`, where one is given, else into the configuration's.
    pub async fn connect(&self, inbox: Option<PathBuf>, limit: Duration) -> anyhow::Result<Client> {
        let limit = limit.min(AWAY_MAX);
        let why = match Client::connect_within(&self.address, limit).await {
            Ok(client) => return Ok(self.with_inbox(client.with_reconnect(AWAY_MAX), inbox)),
            Err(Error::Unreachable(why)) => why,
            Err(error) => return Err(error.into()),
        };
        let what_to_do = match self.option.starts_with("--address") {
            true => "is it up there (framepipe up), and is it the --address that it has?".to_owned(),
            false => format!(
                "is it up? framepipe up {}; one that was started with --name or --run-dir wants them here, too, and another's \
                 is --address",
                self.option
            ),
        };
        bail!("no pipeline answers: {why}: {what_to_do}")
    }

    fn with_inbox(&self, client: Client, inbox: Option<PathBuf>) -> Client {
        match inbox.or_else(|| self.inbox.clone()) {
            Some(inbox) => client.with_inbox(inbox),
            None => client,
        }
    }

    /// True where it is on this host by its address alone, so that both see one inbox.
    pub fn is_local(&self) -> bool {
        let address = self.address.split_once("://").map_or(self.address.as_str(), |(_, rest)| rest);
        if address.starts_with("unix:") || self.address.starts_with("unix:") {
            return true;
        }
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip.is_unspecified())
    }
}

/// Reads an address.
fn address(text: &str) -> Result<String, String> {
    match Client::check_address(text) {
        Ok(()) => Ok(text.into()),
        Err(Error::InvalidRequest(words)) => Err(words),
        Err(error) => Err(error.to_string()),
    }
}

/// Longest name of a stream.
const STREAM_BYTES_MAX: usize = 64;

/// Reads the name of a stream.
pub fn stream_name(text: &str) -> Result<String, String> {
    let is_one = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    match text.len() {
        1..=STREAM_BYTES_MAX if text.chars().all(is_one) => Ok(text.into()),
        1..=STREAM_BYTES_MAX => Err("a stream's name has letters (A-Z, a-z), digits, - and _ alone".into()),
        bytes => Err(format!("it has {bytes} characters: a stream's name has 1 to {STREAM_BYTES_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_and_a_loopback_address_are_on_this_host_and_nothing_else_is_known_to_be() {
        let is_local =
            |address: &str| Target { address: address.into(), inbox: None, option: String::new() }.is_local();
        for local in [
            "unix:/run/framepipe/street/grpc.sock",
            "unix:///run/s",
            "localhost:50051",
            "127.0.0.1:50051",
            "http://127.8.0.1:1",
            "[::1]:50051",
            "http://[::1]:50051",
            "0.0.0.0:50051",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in ["inference-host:50051", "10.0.0.7:50051", "http://localhost.example:1", "[2001:db8::1]:50051"] {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn a_streams_name_is_what_the_server_takes() {
        for good in ["a", "cam-1", "A_9", &"x".repeat(64)] {
            assert_eq!(stream_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(stream_name(bad).is_err(), "{bad:?}");
        }
    }
}
