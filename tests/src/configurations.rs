//! Configurations that several tests share.

use std::{fmt::Write as _, net::SocketAddr};

/// A light detector, and a budget of 16 frames and 1 MiB.
pub fn small_budget(name: &str) -> String {
    format!(
        "name = \"{name}\"\n[pipeline]\ndetector = \"tiny-face-416\"\n[server]\nframes_max = 16\nbytes_max = \"1 MiB\"\n"
    )
}

/// Light models, watched at this address; `server` are further lines of `[server]`, whose section comes last.
pub fn watched(name: &str, address: SocketAddr, server: &[(&str, u32)]) -> String {
    let mut config = format!(
        "name = \"{name}\"\n[pipeline]\ndetector = \"tiny-face-416\"\nattributes = [\"face-expression\"]\n[server]\n\
         http = \"{address}\"\n"
    );
    server.iter().for_each(|(key, value)| writeln!(config, "{key} = {value}").expect("a string takes all"));
    config
}
