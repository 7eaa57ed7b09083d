//! `framepipe pull`: prints the results of a stream.

use anyhow::Context as _;
use clap::Args;
use framepipe_client::ResultsOptions;

use crate::{
    Ending,
    output::{Output, OutputArgs},
    progress::counted,
    reader::{Reader, is_error},
    signals::Signals,
    target::{AWAY_MAX, TargetArgs, stream_name},
};

/// Print the results of a stream as they come, from the first one that nobody has acknowledged.
#[derive(Args)]
#[command(after_help = "Examples:
  framepipe pull --stream door --until-drained
  framepipe pull --stream door --json | jq .name
  framepipe pull --stream door --limit 10 --no-ack

The pipeline is found as by framepipe push: by --config, with the --name or --run-dir that it was started with, or by
--address. A stream has one reader: this command takes the place of one that reads it already. What was printed is acknowledged, and the server
forgets it; with --no-ack it comes again to the next reader. Without --until-drained and --limit it waits for more, until Ctrl-C.

Exit status: 0 printed, and no result is an error; 1 could not, as the message says; 2 wrong usage; 3 some results are errors, or
were dropped unread for their age; 130 interrupted.")]
pub struct PullArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The stream: the one that push was told, or that it said.
    #[arg(long, value_name = "NAME", value_parser = stream_name)]
    stream: String,
    /// End once everything that was accepted is printed.
    #[arg(long)]
    until_drained: bool,
    /// End after so many results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Acknowledge nothing: the server keeps all of it for the next reader.
    #[arg(long)]
    no_ack: bool,
    /// Begin behind this sequence; what lies before is acknowledged, too, unless --no-ack is given.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    after: u64,
}

/// Does it.
pub async fn pull(arguments: PullArgs) -> anyhow::Result<Ending> {
    let mut signals = Signals::take()?;
    let target = arguments.target.resolve()?;
    let client = tokio::select! {
        client = target.connect(None, AWAY_MAX) => client?,
        () = signals.wanted() => {
            eprintln!("framepipe pull: interrupted: 0 results");
            return Ok(Ending::Interrupted);
        }
    };
    let mut output = Output::new(arguments.output);
    let options = ResultsOptions {
        after: arguments.after,
        until_drained: arguments.until_drained,
        acknowledge: !arguments.no_ack,
        ..ResultsOptions::default()
    };
    let mut reader = Reader::new(&client, &arguments.stream, options);
    let (mut printed, mut errors, mut is_interrupted) = (0, 0, false);
    while arguments.limit.is_none_or(|limit| printed < limit) {
        let next = tokio::select! {
            next = reader.next() => next,
            () = signals.wanted() => {
                is_interrupted = true;
                break;
            }
        };
        let Some(result) = next else { break };
        let result = result.with_context(|| format!("cannot read stream {}", arguments.stream))?;
        output.result(&result).context("cannot write to standard output")?;
        printed += 1;
        errors += u64::from(is_error(&result));
        output.progress.at(printed, errors);
    }
    output.progress.end();
    reader.close().await.context("what was printed may come again: it could not be acknowledged")?;
    output.progress.say(&format!("{}, {}", counted(printed, "result"), counted(errors, "error")));
    Ok(match (is_interrupted, errors) {
        (true, _) => Ending::Interrupted,
        (false, 0) => Ending::Good,
        (false, _) => Ending::SomeErrors,
    })
}
