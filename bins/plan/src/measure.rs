//! What this machine does: a pipeline of this program's own, bound to so many cores with this program as its client, kept busy with
//! one picture after the other.

use std::{collections::HashSet, io::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use framepipe_client::{
    Client, FrameResult, Outcome, PixelFormat, PushRequest, RawFrameFormat, Results, ResultsOptions, StreamExt as _,
};
use framepipe_pipeline::Config;
use framepipe_temporary::{
    Member, Server,
    clock::{cpus_busy, now_ns},
    steady_rate,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};

use crate::{
    costs::{CpuMs, Crops, Frames, Pixels},
    picture::Encoded,
};

const STREAM: &str = "plan";
/// Frames in one push.
const BATCH: usize = 8;
/// Most frames in flight, for each core: enough that no stage waits for the client.
const IN_FLIGHT_PER_CORE: usize = 32;
/// Under load before anything is counted as frames a second.
const WARM_UP: Duration = Duration::from_secs(1);
/// For one result, while frames are in flight.
const RESULT_WAIT: Duration = Duration::from_secs(60);
/// How far the crops of a frame may be from those that were asked for.
const CROPS_OFF_MAX: f64 = 0.05;

/// What is brought up, and under what.
pub struct Setup<'a> {
    /// The pipeline's configuration, as a file and as it was read.
    pub file: &'a Path,
    /// Read.
    pub config: &'a Config,
    /// More arguments of `framepipe up`.
    pub arguments: Vec<String>,
    /// CPUs to which all is bound.
    pub cores: u32,
    /// What frames are.
    pub frames: Frames,
    /// Crops of each.
    pub crops: u32,
    /// Length of each window.
    pub window: Duration,
}

/// What came of one picture.
#[derive(Clone, Debug)]
pub struct Window {
    /// Frames a second.
    pub fps: f64,
    /// CPU milliseconds of a frame, by kind of process.
    pub cpu_ms: Vec<(String, f64)>,
    /// Part of these CPUs that other programs used.
    pub others: f64,
}

/// Brings the pipeline up and measures each picture.
pub fn measure(setup: &Setup<'_>, pictures: &[&Encoded]) -> anyhow::Result<Vec<Window>> {
    let bound = Bound::to(setup.cores)?;
    let lasts = (WARM_UP + setup.window).as_secs_f64() * pictures.len() as f64;
    eprintln!("measuring on {} cores for {lasts:.0} s, beside the start ...", setup.cores);
    // Made by now, so that its threads are bound too.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut server = Server::start("plan", setup.file, &setup.arguments)?;
    let client = runtime.block_on(async { Client::connect_lazy(&server.address()) })?;
    runtime.block_on(server.wait_ready(&client))?;
    let members = Member::all(&server)?;
    let mut load = Load {
        results: client.results(STREAM, ResultsOptions::default()),
        client,
        in_flight: HashSet::new(),
        in_flight_max: IN_FLIGHT_PER_CORE * setup.cores as usize,
    };
    let mut windows = Vec::new();
    for picture in pictures {
        windows.push(one(setup, &runtime, (&server, &members), &mut load, picture, &bound.cpus)?);
    }
    runtime.block_on(async { drop(load) });
    server.stop()?;
    Ok(windows)
}

fn one(
    setup: &Setup<'_>,
    runtime: &Runtime,
    (server, members): (&Server, &[Member]),
    load: &mut Load,
    picture: &Encoded,
    cpus: &[usize],
) -> anyhow::Result<Window> {
    let blob = Blob::new(&setup.config.server.inbox[0], picture, setup.frames)?;
    let crops_before = crops(server)?;
    let (from, before, busy_before) = (now_ns()?, Member::cpu_by_group(members)?, cpus_busy(cpus)?);
    let begin = from + WARM_UP.as_nanos() as u64;
    let end = begin + setup.window.as_nanos() as u64;
    let completed = runtime.block_on(load.run(&blob, end))?;
    let (to, after, busy_after) = (now_ns()?, Member::cpu_by_group(members)?, cpus_busy(cpus)?);
    let frames = completed.len() as f64;
    check_crops(setup, (crops(server)? - crops_before) as f64 / frames)?;
    let used = |((group, before), (_, after)): ((String, f64), (_, f64))| (group, (after - before) * 1e3 / frames);
    let cpu_ms: Vec<(String, f64)> = before.into_iter().zip(after).map(used).collect();
    let own_s = cpu_ms.iter().map(|(_, ms)| ms).sum::<f64>() * frames / 1e3;
    let cores_s = (to - from) as f64 / 1e9 * cpus.len() as f64;
    let others = (((busy_after - busy_before).as_secs_f64() - own_s) / cores_s).clamp(0.0, 1.0);
    let fps = steady_rate(&completed, begin, end);
    ensure!(fps > 0.0, "no frame was completed within {:?}: give more --seconds", setup.window);
    Ok(Window { fps, cpu_ms, others })
}

/// Crops that attribute models have run on, one a model.
fn crops(server: &Server) -> anyhow::Result<u64> {
    let status = server.status()?;
    let processes = status["processes"].as_array().context("framepipe status names no processes")?;
    let sum = processes.iter().map(|process| process["crops"].as_u64()).sum::<Option<u64>>();
    sum.context("framepipe status does not count crops")
}

fn check_crops(setup: &Setup<'_>, of_all_models: f64) -> anyhow::Result<()> {
    if setup.crops == 0 {
        return Ok(());
    }
    let found = of_all_models / setup.config.attributes.len() as f64;
    ensure!(
        (found - f64::from(setup.crops)).abs() <= CROPS_OFF_MAX,
        "a frame of this picture has {found:.2} crops, each described by every model, and not --crops {}: give a picture with so \
         many objects (--photo, --image), or another number",
        setup.crops
    );
    Ok(())
}

/// This program, and what it starts, bound to the first CPUs of those that it may use. Dropped, to all of them again.
struct Bound {
    before: CpuSet,
    cpus: Vec<usize>,
}

impl Bound {
    fn to(cores: u32) -> anyhow::Result<Self> {
        let own = Pid::from_raw(0);
        let before = sched_getaffinity(own).context("the CPUs that this program may use")?;
        let usable: Vec<usize> = (0..CpuSet::count()).filter(|cpu| before.is_set(*cpu) == Ok(true)).collect();
        ensure!(usable.len() >= cores as usize, "{cores} cores are to be measured, and {} may be used", usable.len());
        let cpus = usable[..cores as usize].to_vec();
        let mut set = CpuSet::new();
        cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
        sched_setaffinity(own, &set).with_context(|| format!("cannot be bound to the CPUs {cpus:?}"))?;
        Ok(Self { before, cpus })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before); // an error: it stays bound to what it may use
    }
}

/// A file of frames in the inbox.
struct Blob {
    file: NamedTempFile,
    frame_bytes: u64,
    raw: Option<RawFrameFormat>,
}

impl Blob {
    fn new(inbox: &Path, picture: &Encoded, frames: Frames) -> anyhow::Result<Self> {
        let file = tempfile::Builder::new().prefix("framepipe-plan.").tempfile_in(inbox);
        let mut file = file.with_context(|| format!("the inbox {}", inbox.display()))?;
        (0..BATCH).try_for_each(|_| file.write_all(&picture.bytes))?;
        let (width, height) = (picture.picture.width, picture.picture.height);
        let raw = RawFrameFormat { format: PixelFormat::Rgb24.into(), width, height, stride: 0 };
        Ok(Self { file, frame_bytes: picture.bytes.len() as u64, raw: (frames == Frames::Raw).then_some(raw) })
    }
}

/// The client: never more than so many frames unanswered.
struct Load {
    client: Client,
    results: Results,
    in_flight: HashSet<u64>,
    in_flight_max: usize,
}

impl Load {
    /// Keeps the pipeline busy until `end`, then waits for what is out. The times at which results came.
    async fn run(&mut self, blob: &Blob, end: u64) -> anyhow::Result<Vec<u64>> {
        let mut completed = Vec::new();
        loop {
            if self.in_flight.len() + BATCH <= self.in_flight_max && now_ns()? < end {
                self.push(blob).await?;
            } else if self.in_flight.is_empty() {
                return Ok(completed);
            } else {
                self.receive().await?;
                completed.push(now_ns()?);
            }
        }
    }

    async fn push(&mut self, blob: &Blob) -> anyhow::Result<()> {
        let location = blob.file.path().to_str().context("the inbox's path is no UTF-8")?;
        let sizes = std::iter::repeat_n(blob.frame_bytes, BATCH);
        let mut request = PushRequest::location(location, sizes).stream(STREAM);
        if let Some(raw) = blob.raw {
            request = request.raw(raw);
        }
        let batch = self.client.push(request).await?;
        self.in_flight.extend((batch.first_frame..).take(BATCH));
        Ok(())
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let next = tokio::time::timeout(RESULT_WAIT, self.results.next()).await;
        let next =
            next.with_context(|| format!("{} frames without a result after {RESULT_WAIT:?}", self.in_flight.len()))?;
        let FrameResult { frame, outcome, .. } = next.context("the stream of results ended")??;
        ensure!(self.in_flight.remove(&frame), "frame {frame}: a second result, or never pushed");
        match outcome {
            Some(Outcome::Detections(_)) => Ok(()),
            Some(Outcome::Error(error)) => bail!("frame {frame}: {:?}: {}", error.code(), error.message),
            Some(Outcome::Gap(_)) | None => bail!("frame {frame}: no result that this client knows"),
        }
    }
}

impl Window {
    fn of(&self, kind: &str) -> anyhow::Result<f64> {
        let found = self.cpu_ms.iter().find(|(name, _)| name == kind);
        found.map(|(_, ms)| *ms).with_context(|| format!("the pipeline has no {kind} process"))
    }
}

/// Costs of windows: of one, or of a picture and its variants.
pub fn costs(windows: &[Window], pictures: &[&Encoded], crops: u32) -> anyhow::Result<CpuMs> {
    let first = windows.first().context("nothing was measured")?;
    let preprocess = match (windows, pictures) {
        ([a, b, c], [of_a, of_b, of_c]) => {
            let ms = |window: &Window| window.of("preprocess");
            Pixels::through([(of_a.picture, ms(a)?), (of_b.picture, ms(b)?), (of_c.picture, ms(c)?)])
        }
        _ => Pixels { frame: first.of("preprocess")?, ..Pixels::default() },
    };
    let attribute = first.of("attribute")?;
    let attribute = match crops {
        0 => Crops { frame: attribute, crop: None },
        crops => Crops { frame: 0.0, crop: Some(attribute / f64::from(crops)) },
    };
    Ok(CpuMs {
        ingest: first.of("ingest")?,
        preprocess,
        detect: first.of("detect")?,
        postprocess: first.of("postprocess")?,
        attribute,
        gateway: first.of("gateway")?,
        keeper: first.of("keeper")?,
        launcher: first.of("launcher")?,
        client: first.of("client")?,
    })
}
