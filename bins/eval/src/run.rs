//! The images pushed, a few batches ahead of their results, and what was found in each.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use framepipe_accuracy::Found;
use framepipe_client::{Client, Detection, FrameResult, Outcome, PushRequest, ResultsOptions, StreamExt as _};
use serde::Serialize;

use crate::task::Task;

const STREAM: &str = "eval";
/// Images of one push.
const BATCH: usize = 16;
/// Images whose results have not come.
const AHEAD_MAX: usize = 4 * BATCH;
/// For the next result.
const RESULT_WAIT: Duration = Duration::from_secs(300);
/// For room in the pipeline.
const ROOM_WAIT: Duration = Duration::from_secs(60);
/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug)]
pub struct FoundIn {
    /// By image.
    pub images: Vec<Vec<Found>>,
    /// Images that could not be processed: nothing counts as found in them.
    pub failed: Vec<Failed>,
    /// Images of another size than the labels say.
    pub other_size: Vec<String>,
}

/// An image that could not be processed.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// The image.
    pub file: String,
    /// Why.
    pub error: String,
}

/// Pushes every image of the task, and collects what is found.
///
/// # Errors
/// When the pipeline breaks off.
pub async fn run(client: &Client, task: &Task) -> anyhow::Result<FoundIn> {
    let count = task.images.len();
    let mut found = FoundIn { images: vec![Vec::new(); count], failed: Vec::new(), other_size: Vec::new() };
    let mut results = client.results(STREAM, ResultsOptions::default());
    let (mut next, mut ahead, mut done, mut said) = (0, 0, 0, Instant::now());
    while next < count || ahead > 0 {
        if next < count && ahead + BATCH <= AHEAD_MAX {
            let batch = next..(next + BATCH).min(count);
            let read = push(client, task, batch.clone(), &mut found).await?;
            (next, ahead, done) = (batch.end, ahead + read, done + batch.len() - read);
            continue;
        }
        let result = tokio::time::timeout(RESULT_WAIT, results.next()).await;
        let result = result.with_context(|| format!("no result for {RESULT_WAIT:?}"))?;
        found.take(task, result.context("the results ended")??)?;
        (ahead, done) = (ahead - 1, done + 1);
        if said.elapsed() >= PROGRESS || done == count {
            eprintln!("framepipe eval: {done} of {count} images");
            said = Instant::now();
        }
    }
    results.close().await;
    Ok(found)
}

/// Pushes images, each named by its place; those that cannot be read have failed. Returns how many were pushed.
async fn push(
    client: &Client,
    task: &Task,
    batch: std::ops::Range<usize>,
    found: &mut FoundIn,
) -> anyhow::Result<usize> {
    let (mut images, mut names) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    for place in batch {
        let file = &task.images[place].file;
        match fs::read(task.folder.join(file)) {
            Ok(bytes) if bytes.is_empty() => found.fail(file, "the file is empty"),
            Ok(bytes) => {
                images.push(bytes);
                names.push(place.to_string());
            }
            Err(error) => found.fail(file, error),
        }
    }
    if !images.is_empty() {
        client.push(PushRequest::images(&images).names(&names).stream(STREAM).wait(ROOM_WAIT)).await?;
    }
    Ok(images.len())
}

impl FoundIn {
    fn fail(&mut self, file: &str, error: impl ToString) {
        self.failed.push(Failed { file: file.to_owned(), error: error.to_string() });
    }

    fn take(&mut self, task: &Task, result: FrameResult) -> anyhow::Result<()> {
        let place: usize =
            result.name.parse().ok().filter(|place| *place < task.images.len()).context("a strange name")?;
        let image = &task.images[place];
        match result.outcome {
            Some(Outcome::Detections(found)) => {
                if image.size.is_some_and(|size| size != (found.image_width, found.image_height)) {
                    self.other_size.push(image.file.clone());
                }
                self.images[place] = found.detections.iter().filter_map(|one| of(task, one)).collect();
            }
            Some(Outcome::Error(error)) => self.fail(&image.file, format!("{:?}: {}", error.code(), error.message)),
            Some(Outcome::Gap(_)) | None => bail!("an outcome that is no frame's: {:?}", image.file),
        }
        ensure!(self.images[place].iter().all(|one| one.score.is_finite()), "{}: a score is no number", image.file);
        Ok(())
    }
}

/// A detection of a class that the labels have.
fn of(task: &Task, one: &Detection) -> Option<Found> {
    let place = one.r#box.unwrap_or_default();
    let corners = [place.x0, place.y0, place.x1, place.y1].map(f64::from);
    task.places.get(&one.label).map(|class| Found { class: *class, score: one.score.into(), corners })
}
