//! What a running pipeline is told to do: `framepipe scale`, `restart`, `reload` and `drain`.

use std::{collections::BTreeMap, convert::Infallible, process::ExitCode};

use anyhow::Context as _;
use clap::Args;
use framepipe_pipeline::{Config, Overrides};

use crate::{
    Instance,
    control::{self, Answer, Request},
    log,
    orders::RestartWhat,
    print, scale,
};

/// Of `framepipe scale`.
#[derive(Args)]
pub struct ScaleArgs {
    #[command(flatten)]
    instance: Instance,
    /// How many processes a stage shall have, 1 to 64: such as detect=3.
    #[arg(value_name = "STAGE=N", required = true, value_parser = count)]
    processes: Vec<(String, u32)>,
}

/// Of `framepipe restart`.
#[derive(Args)]
pub struct RestartArgs {
    #[command(flatten)]
    instance: Instance,
    /// A stage, gateway, keeper, or the pid of one process [default: every stage, one after the other].
    #[arg(value_name = "STAGE|PID", value_parser = what)]
    what: Option<RestartWhat>,
}

/// Of the verbs that say nothing more.
#[derive(Args)]
pub struct PlainArgs {
    #[command(flatten)]
    instance: Instance,
}

fn count(text: &str) -> Result<(String, u32), String> {
    let (stage, count) = text.split_once('=').ok_or("say STAGE=N, such as detect=3")?;
    let count: u32 = count.parse().map_err(|_| format!("{count:?} is no number of processes: say STAGE=N"))?;
    scale::check(&BTreeMap::from([(stage.to_owned(), count)]))?;
    Ok((stage.to_owned(), count))
}

fn what(text: &str) -> Result<RestartWhat, Infallible> {
    Ok(text.parse().map_or_else(|_| RestartWhat::Stage(text.to_owned()), RestartWhat::Pid))
}

/// `framepipe scale`.
pub fn scale(arguments: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let processes: BTreeMap<String, u32> = arguments.processes.iter().cloned().collect();
    anyhow::ensure!(processes.len() == arguments.processes.len(), "a stage is named twice");
    tell(&arguments.instance, &Request::Scale { processes })
}

/// `framepipe restart`.
pub fn restart(arguments: &RestartArgs) -> anyhow::Result<ExitCode> {
    let what = arguments.what.clone().unwrap_or(RestartWhat::All);
    tell(&arguments.instance, &Request::Restart { what })
}

/// `framepipe drain`.
pub fn drain(arguments: &PlainArgs) -> anyhow::Result<ExitCode> {
    tell(&arguments.instance, &Request::Drain)
}

/// `framepipe reload`.
pub fn reload(arguments: &PlainArgs) -> anyhow::Result<ExitCode> {
    // Read here too, to know which pipeline is meant.
    let config = arguments.instance.load(Overrides::default());
    tell_at(&config.context("the configuration is wrong, and the pipeline goes on with what it has")?, &Request::Reload)
}

/// Tells the launcher something, and says how it goes until it is done, or is not.
pub fn tell(instance: &Instance, request: &Request) -> anyhow::Result<ExitCode> {
    tell_at(&instance.load(Overrides::default())?, request)
}

fn tell_at(config: &Config, request: &Request) -> anyhow::Result<ExitCode> {
    match control::ask(&config.run, request, |words| log::plain(&words))? {
        Answer::Done(words) | Answer::Progress(words) => print(&format!("{words}\n")),
        Answer::Failed(words) => anyhow::bail!("{words}"),
        Answer::Status(_) => anyhow::bail!("the launcher's answer is of another version"),
    }
}
