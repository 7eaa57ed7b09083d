//! `framepipe quarantine retry`: pushes a frame that killed its stage once more, on a stream of its own, and says what came
//! of it.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use framepipe_client::{Client, ErrorCode, Outcome, PushRequest, RawFrameFormat, ResultsOptions, StreamExt as _};
use framepipe_pipeline::quarantine::{Entry, Quarantine};

/// For the result to come, its stage's deaths and restarts included.
const RESULT_WAIT: Duration = Duration::from_secs(300);
/// Exit status: the frame killed its stage again.
const POISON_AGAIN: u8 = 3;

/// Push a frame of the quarantine once more, on a stream of its own.
#[derive(Parser)]
#[command(name = "framepipe quarantine retry", version)]
struct Cli {
    /// Address of the running pipeline.
    #[arg(long)]
    address: String,
    /// Its inbox.
    #[arg(long, value_name = "DIR")]
    inbox: PathBuf,
    /// Its state folder.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The frame's number.
    frame: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match retry(Cli::parse()).await {
        Ok(status) => status,
        Err(error) => {
            eprintln!("framepipe quarantine retry: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn retry(cli: Cli) -> anyhow::Result<ExitCode> {
    let quarantine = Quarantine::new(&cli.state);
    let entry = quarantine.entry(cli.frame).with_context(|| format!("frame {} is not in quarantine", cli.frame))?;
    ensure!(entry.is_kept, "the bytes of frame {} were not kept: push {} again yourself", cli.frame, entry.path);
    let place = quarantine.bytes_place(cli.frame);
    let bytes = fs::read(&place).with_context(|| place.display().to_string())?;
    let client = Client::connect(&cli.address).await?.with_inbox(&cli.inbox);
    let batch = client.push(request(&entry, &[&bytes])).await?;
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let mut results = client.results(&batch.stream, options);
    let result = tokio::time::timeout(RESULT_WAIT, results.next());
    let result = result.await.with_context(|| format!("no result after {RESULT_WAIT:?}"))?;
    let result = result.context("the stream ended without the result")??;
    client.ack(&batch.stream, result.sequence).await.context("the result came, but cannot be acknowledged")?;
    results.close().await;
    match result.outcome {
        Some(Outcome::Error(error)) if error.code() == ErrorCode::Poison => {
            println!("frame {} killed its stage again, as frame {}: {}", cli.frame, batch.first_frame, error.message);
            if quarantine.entry(batch.first_frame).is_some() {
                quarantine.drop_entry(cli.frame)?; // what is known of it now stands in the new entry
                println!("its entry is that of frame {} now", batch.first_frame);
            }
            return Ok(ExitCode::from(POISON_AGAIN));
        }
        Some(Outcome::Error(error)) => {
            println!("frame {}: {:?}: {}", cli.frame, error.code(), error.message);
            println!("whether it passed the stage that it had killed is not known: it stays in quarantine");
            return Ok(ExitCode::FAILURE);
        }
        Some(Outcome::Detections(found)) => {
            println!("frame {}: {} detections", cli.frame, found.detections.len());
            for one in found.detections {
                let place = one.r#box.unwrap_or_default();
                println!(
                    "  {} {:.2} at {:.0},{:.0} to {:.0},{:.0}",
                    one.label, one.score, place.x0, place.y0, place.x1, place.y1
                );
            }
        }
        Some(Outcome::Gap(_)) | None => bail!("an outcome that is no frame's: {result:?}"),
    }
    quarantine.drop_entry(cli.frame)?;
    println!("it killed no stage, and is out of quarantine");
    Ok(ExitCode::SUCCESS)
}

fn request<'a>(entry: &Entry, images: &[&'a [u8]]) -> PushRequest<'a> {
    let request = PushRequest::images(images.iter().copied()).names([entry.name.as_str()]);
    match entry.raw {
        None => request,
        Some(raw) => request.raw(RawFrameFormat {
            format: raw.format as i32, // one numbering, the protocol's
            width: raw.width,
            height: raw.height,
            stride: raw.stride,
        }),
    }
}
