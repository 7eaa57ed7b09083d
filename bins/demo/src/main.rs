//! `framepipe demo`: brings a pipeline up, pushes photos through it as any client would, prints what it found, draws it
//! into the photos, and shuts down.

mod draw;
mod print;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use framepipe_client::{Client, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_pipeline::{Config, ConfigFile, Overrides, command_line};
use framepipe_temporary::Server;

use crate::print::Totals;

/// For all results to come: the demo's photos take seconds.
const RESULTS_WAIT: Duration = Duration::from_secs(300);
const STREAM: &str = "demo";

/// Bring a pipeline up, push photos, print the results, write annotated PNGs, shut down.
#[derive(Parser)]
#[command(
    name = "framepipe demo",
    version,
    after_help = "Examples:
  framepipe demo --config config/street.toml photos/bus.jpg
  framepipe demo --config config/faces.toml --out /tmp/faces ~/Pictures/*.jpg

Exit status: 0 every photo has its result; 1 one has not, or the pipeline did not start, as the message says; 2 wrong usage."
)]
struct Cli {
    #[command(flatten)]
    file: ConfigFile,
    /// Folder for the annotated PNGs.
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Also write the totals to a JSON file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Photos: JPEG, PNG, WebP or BMP files.
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demo(command_line::parse::<Cli>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("framepipe demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(cli: Cli) -> anyhow::Result<()> {
    let config = Config::load(&cli.file.config, &Overrides::default())?;
    let images = cli.photos.iter().map(|photo| read(photo)).collect::<anyhow::Result<Vec<_>>>()?;
    fs::create_dir_all(&cli.out).with_context(|| format!("cannot make {}", cli.out.display()))?;

    println!("bringing up {} ({} and {} attribute models)", config.name, config.detector, config.attributes.len());
    let mut server = Server::start("demo", &cli.file.config, &[])?;
    let client = Client::connect_lazy(&server.address())?.with_inbox(&config.server.inbox[0]);
    let ready_ms = server.wait_ready(&client).await?;

    let names: Vec<String> = cli.photos.iter().map(|photo| file_name(photo)).collect();
    client.push(PushRequest::images(&images).names(&names).stream(STREAM)).await?;
    let results = tokio::time::timeout(RESULTS_WAIT, collect(&client, images.len()));
    let mut results = results.await.with_context(|| format!("no results after {RESULTS_WAIT:?}"))??;
    results.sort_by_key(|result| result.batch_index);

    let mut totals = Totals::new(ready_ms);
    for result in &results {
        print::print(result);
        totals.add(result);
        if let Some(Outcome::Detections(found)) = &result.outcome {
            let place = result.batch_index as usize;
            let path = cli.out.join(Path::new(&names[place]).with_extension("png"));
            draw::annotate(&images[place], found, &path)?;
            println!("  drawn to {}", path.display());
        }
    }
    println!("{totals}");
    if let Some(path) = &cli.json {
        fs::write(path, totals.json()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    server.stop()?;
    ensure!(totals.errors == 0, "{} photos could not be read: their errors are above", totals.errors);
    Ok(())
}

async fn collect(client: &Client, count: usize) -> anyhow::Result<Vec<FrameResult>> {
    let mut results = client.results(STREAM, ResultsOptions { until_drained: true, ..ResultsOptions::default() });
    let mut collected = Vec::with_capacity(count);
    while let Some(result) = results.next().await {
        collected.push(result?);
    }
    results.close().await;
    ensure!(collected.len() == count, "{} results for {count} photos", collected.len());
    Ok(collected)
}

fn read(photo: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(photo).with_context(|| format!("cannot read {}", photo.display()))
}

fn file_name(photo: &Path) -> String {
    photo.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
