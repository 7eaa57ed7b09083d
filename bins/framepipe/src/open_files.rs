//! The limit of open files, which every process of the pipeline inherits from the launcher.

use anyhow::Context as _;
use framepipe_pipeline::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the gateway opens beside one file a stream and one a connection: listeners, the segment, clients' files.
const RESERVE: u64 = 256;

/// Files that the gateway may have open at once, which has most of them.
pub fn needed(config: &Config) -> u64 {
    u64::from(config.journal.streams_max) + u64::from(config.server.connections_max) + RESERVE
}

/// Raises the limit as far as it goes, and looks whether the configuration's streams and connections fit into it.
pub fn raise_limit(config: &Config) -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")?;
    let (streams, connections) = (config.journal.streams_max, config.server.connections_max);
    let (needed, most) = (needed(config), maximum.unwrap_or(u64::MAX));
    anyhow::ensure!(
        needed <= most,
        "journal.streams_max = {streams} and server.connections_max = {connections} take {needed} open files ({RESERVE} of \
         them for all else), and a process may have {most} here: raise that (`ulimit -Hn {needed}` as root, `docker run \
         --ulimit nofile={needed}`, LimitNOFILE= of the systemd unit) or lower one of the two"
    );
    Ok(())
}
