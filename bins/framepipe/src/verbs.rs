//! What a running pipeline is told to do: `framepipe scale`, `restart`, `reload`, `drain` and `model use`.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, error::ErrorKind};
use framepipe_model::ModelRef;
use framepipe_pipeline::{Config, Instance, Overrides, command_line::Offering};

use crate::{
    Cli,
    control::{self, Answer, Request},
    log,
    orders::RestartWhat,
    print, restart, scale,
};

/// Of `framepipe scale`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe scale detect=3 --config config/street.toml
  framepipe scale detect=1 attribute=2

It answers when all new processes are warm and all surplus ones have ended, which finish what they have claimed first. The numbers
stay in force until the pipeline is stopped; a launcher that follows a killed one has them too. Slots in shared memory stay as
they were laid out ([pools]): with many more processes than the pipeline was started with, they may become the bottleneck.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
pub struct ScaleArgs {
    #[command(flatten)]
    instance: Instance,
    /// How many processes a stage shall have, 1 to 64: such as detect=3.
    #[arg(value_name = "STAGE=N", required = true, value_parser = count)]
    processes: Vec<(String, u32)>,
}

/// Of `framepipe restart`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe restart --config config/street.toml
  framepipe restart detect
  framepipe restart gateway
  framepipe restart 'detect[0]'
  framepipe restart 12345

A worker's replacement gets warm first, and the old process finishes what it has claimed then. A replacement that does not get
warm leaves the old one serving. Gateway and keeper are one each: they are told to stop, and the next one starts at once; clients
connect anew.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
pub struct RestartArgs {
    #[command(flatten)]
    instance: Instance,
    /// A stage, gateway, keeper, or one process: its name, such as `detect[0]`, or its pid [default: every stage, one after the
    /// other].
    #[arg(value_name = "STAGE|PROCESS|PID", value_parser = Offering { names: restart::names().collect(), parse: what })]
    what: Option<Named>,
}

/// What a restart is told.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Named {
    What(RestartWhat),
    /// One process, by the name that `status` shows.
    Process(String),
}

/// Of `framepipe reload`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe reload --config config/street.toml
  systemctl reload framepipe

Done at once is what is under [stages]: processes as by `framepipe scale`, the rest by a rolling restart of the stages that it is
about. Whatever else has changed is named, with its old and its new value, and waits for the next start. Numbers of processes that
`framepipe scale` or --auto has put in force stay where the configuration says what it said before. A configuration that is wrong
changes nothing.

Exit status: 0 done; 1 not done, as the message says; 2 wrong usage.")]
pub struct ReloadArgs {
    #[command(flatten)]
    instance: Instance,
}

/// Of `framepipe drain`.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe drain --config config/street.toml

Exit status: 0 it has ended, and every accepted frame has its result; 1 not so, as the message says; 2 wrong usage.")]
pub struct DrainArgs {
    #[command(flatten)]
    instance: Instance,
}

/// Let a model serve in a running pipeline, in place of another version of it, or of another model. No frame is lost, and none
/// waits: the new model gets warm beside the old one, which finishes the frames that were accepted for it.
#[derive(Parser)]
#[command(
    bin_name = "framepipe model use",
    after_help = "Examples:
  framepipe model use nanodet416-4c-int8@2 --config config/street.toml
  framepipe model use nanodet416-4c-fp32 --replace nanodet416-4c-int8

A model that does not get warm is given up, and nothing has changed. What is chosen so serves after a restart too.

Exit status: 0 it serves; 1 it does not, as the message says; 2 wrong usage."
)]
pub struct UseModel {
    #[command(flatten)]
    instance: Instance,
    /// The model: NAME@VERSION, or NAME for its newest version.
    model: ModelRef,
    /// The model that it replaces, where that has another name.
    #[arg(long, value_name = "NAME")]
    replace: Option<String>,
}

fn count(text: &str) -> Result<(String, u32), String> {
    let (stage, count) = text.split_once('=').ok_or("say STAGE=N, such as detect=3")?;
    let count: u32 = count.parse().map_err(|_| format!("{count:?} is no number of processes: say STAGE=N"))?;
    scale::check(&BTreeMap::from([(stage.to_owned(), count)]))?;
    Ok((stage.to_owned(), count))
}

fn what(text: &str) -> Result<Named, String> {
    if let Ok(pid) = text.parse() {
        return Ok(Named::What(RestartWhat::Pid(pid)));
    }
    let numbered = text.strip_suffix(']').and_then(|text| text.split_once('['));
    match numbered.filter(|(_, number)| number.parse::<u32>().is_ok()) {
        Some((stage, _)) => restart::named(stage).map(|_| Named::Process(text.to_owned())),
        None => restart::named(text).map(|_| Named::What(RestartWhat::Stage(text.to_owned()))),
    }
}

/// Numbers by stage, each stage once.
fn counts(processes: &[(String, u32)]) -> Result<BTreeMap<String, u32>, String> {
    let mut counts = BTreeMap::new();
    for (stage, count) in processes {
        if let Some(before) = counts.insert(stage.clone(), *count) {
            return Err(format!("{stage} is named twice, {stage}={before} and {stage}={count}: say it once"));
        }
    }
    Ok(counts)
}

/// `framepipe scale`.
pub fn scale(arguments: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let processes = counts(&arguments.processes).unwrap_or_else(|words| {
        let mut command = Cli::command();
        command.build();
        let scale = command.find_subcommand_mut("scale").expect("it is a command");
        scale.error(ErrorKind::ArgumentConflict, words).exit()
    });
    tell(&arguments.instance, &Request::Scale { processes })
}

/// `framepipe restart`.
pub fn restart(arguments: &RestartArgs) -> anyhow::Result<ExitCode> {
    let config = arguments.instance.load(Overrides::default())?;
    let what = match &arguments.what {
        None => RestartWhat::All,
        Some(Named::What(what)) => what.clone(),
        Some(Named::Process(name)) => {
            control::check_name(&config.run, &arguments.instance)?;
            let running = control::status(&config.run)?.processes;
            let one = running.iter().find(|one| one.title() == *name);
            let one =
                one.with_context(|| format!("there is no process {name}: framepipe status has those that run"))?;
            RestartWhat::Pid(one.pid)
        }
    };
    tell_at(&arguments.instance, &config, &Request::Restart { what })
}

/// `framepipe drain`.
pub fn drain(arguments: &DrainArgs) -> anyhow::Result<ExitCode> {
    tell(&arguments.instance, &Request::Drain)
}

/// `framepipe reload`.
pub fn reload(arguments: &ReloadArgs) -> anyhow::Result<ExitCode> {
    // Read here too, to know which pipeline is meant.
    let config = arguments.instance.load(Overrides::default());
    let config = config.context("the configuration is wrong, and the pipeline goes on with what it has")?;
    tell_at(&arguments.instance, &config, &Request::Reload)
}

/// `framepipe model use`.
pub fn use_model(arguments: UseModel) -> anyhow::Result<ExitCode> {
    let UseModel { instance, model: new, replace } = arguments;
    let request = Request::UseModel { old: replace.unwrap_or_else(|| new.name.clone()), new };
    tell(&instance, &request)
}

/// Tells the launcher something, and says how it goes until it is done, or is not.
fn tell(instance: &Instance, request: &Request) -> anyhow::Result<ExitCode> {
    tell_at(instance, &instance.load(Overrides::default())?, request)
}

fn tell_at(instance: &Instance, config: &Config, request: &Request) -> anyhow::Result<ExitCode> {
    control::check_name(&config.run, instance)?;
    match control::ask(&config.run, request, |words| log::plain(&words))? {
        Answer::Done(words) | Answer::Progress(words) => print(&format!("{words}\n")),
        Answer::Failed(words) => anyhow::bail!("{words}"),
        Answer::Status(_) => anyhow::bail!("the launcher's answer is of another version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_is_named_twice_is_named() {
        let count = |stage: &str, count| (stage.to_owned(), count);
        assert_eq!(counts(&[count("ingest", 2), count("detect", 2)]).map(|counts| counts.len()), Ok(2));
        let said = counts(&[count("detect", 3), count("ingest", 2), count("detect", 1)]).expect_err("it is wrong");
        assert_eq!(said, "detect is named twice, detect=3 and detect=1: say it once");
    }

    #[test]
    fn what_is_restarted_is_a_stage_or_what_stands_in_its_place_or_a_process() {
        ["detect", "gateway", "keeper"].iter().for_each(|name| {
            assert_eq!(what(name), Ok(Named::What(RestartWhat::Stage((*name).to_owned()))));
        });
        assert_eq!(what("12"), Ok(Named::What(RestartWhat::Pid(12))));
        ["detect[0]", "gateway[0]"].iter().for_each(|name| {
            assert_eq!(what(name), Ok(Named::Process((*name).to_owned())));
        });
        for (wrong, stage) in [("foo", "foo"), ("", ""), ("-1", "-1"), ("detect[x]", "detect[x]"), ("x[0]", "x")] {
            let said = what(wrong).expect_err(wrong);
            let names = "gateway, keeper, one of a stage's (detect[0]), or a pid";
            assert!(said.contains(&format!("no stage {stage:?}")) && said.ends_with(names), "{said}");
        }
        assert!(what("launcher").is_err_and(|said| said.contains("framepipe drain, and framepipe up then")));
    }
}
