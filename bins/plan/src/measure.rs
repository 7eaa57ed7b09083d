//! What this machine does: a pipeline of this program's own, bound to so many cores with this program as its client, kept busy with
//! one picture after the other. Its inbox, too, is its own: no image lies beside others'.

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
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    costs::{CpuMs, Crops, Frames, Pixels, Upkeep},
    picture::Encoded,
};

const STREAM: &str = "plan";
/// Frames in one push.
const BATCH: usize = 8;
/// Most frames in flight, for each core: enough that no stage waits for the client.
const IN_FLIGHT_PER_CORE: usize = 32;
/// Under load, at least, before anything is counted as frames a second.
const WARM_UP: Duration = Duration::from_secs(1);
/// For one result, while frames are in flight.
const RESULT_WAIT: Duration = Duration::from_secs(60);
/// How far the crops of a frame may be from those that were asked for.
const CROPS_OFF_MAX: f64 = 0.05;
/// Processes through which no frame goes: what they use goes with time.
const UPKEEP: [&str; 2] = ["keeper", "launcher"];

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
    /// Part of these CPUs that other programs used.
    pub others: f64,
    /// CPU seconds, by kind of process.
    used_s: Vec<(String, f64)>,
    /// Frames that came meanwhile, by that rate.
    frames: f64,
    /// Seconds.
    lasted_s: f64,
}

/// What was used by then.
struct Used {
    at_ns: u64,
    /// CPU seconds, by kind of process.
    by_kind: Vec<(String, f64)>,
    /// Of these CPUs, by whatever.
    cpus: Duration,
}

impl Used {
    fn by_now(members: &[Member], cpus: &[usize]) -> anyhow::Result<Self> {
        Ok(Self { at_ns: now_ns()?, by_kind: Member::cpu_by_group(members)?, cpus: cpus_busy(cpus)? })
    }
}

/// Brings the pipeline up and measures each picture.
pub fn measure(setup: &Setup<'_>, pictures: &[&Encoded]) -> anyhow::Result<Vec<Window>> {
    let (windows, seconds, cores) = (pictures.len(), setup.window.as_secs(), setup.cores);
    eprintln!("measuring, bound to {cores} CPUs: {windows} windows of {seconds} s, each when the pipeline is full ...");
    let mut running = Running::start(setup)?;
    let windows: anyhow::Result<Vec<Window>> = pictures.iter().map(|picture| running.measure(setup, picture)).collect();
    let stopped = running.stop();
    let windows = windows?;
    stopped?;
    Ok(windows)
}

/// A pipeline that is up, and its client.
struct Running {
    load: Load,
    /// Ctrl-C: an error like others, so that all is taken down and removed.
    interrupt: Signal,
    /// Nothing of the client runs outside its `block_on`.
    runtime: Runtime,
    server: Server,
    members: Vec<Member>,
    inbox: TempDir,
    bound: Bound,
}

impl Running {
    fn start(setup: &Setup<'_>) -> anyhow::Result<Self> {
        let bound = Bound::to(setup.cores)?;
        // Made by now, so that its threads are bound too.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
        let memory = &setup.config.shm;
        let inbox = tempfile::Builder::new().prefix("framepipe-plan-inbox-").tempdir_in(memory);
        let inbox = inbox.with_context(|| format!("cannot make a folder in {} (paths.shm)", memory.display()))?;
        let mut arguments = setup.arguments.clone();
        let path = inbox.path().to_str().context("the path of paths.shm is no UTF-8")?;
        arguments.extend(["--inbox".to_owned(), path.to_owned()]);
        let mut server = Server::start("plan", setup.file, &arguments)?;
        let client = runtime.block_on(async { Client::connect_lazy(&server.address()) })?;
        runtime.block_on(unless(&mut interrupt, server.wait_ready(&client)))?;
        let members = Member::all(&server)?;
        let load = Load {
            results: client.results(STREAM, ResultsOptions::default()),
            client,
            in_flight: HashSet::new(),
            in_flight_max: IN_FLIGHT_PER_CORE * setup.cores as usize,
        };
        Ok(Self { load, interrupt, runtime, server, members, inbox, bound })
    }

    fn measure(&mut self, setup: &Setup<'_>, picture: &Encoded) -> anyhow::Result<Window> {
        let Self { load, interrupt, runtime, server, members, inbox, bound } = self;
        let blob = Blob::new(inbox.path(), picture, setup.frames)?;
        let crops_before = crops(server)?;
        let by_now = || Used::by_now(members, &bound.cpus);
        let (completed, [before, after]) =
            runtime.block_on(unless(interrupt, load.run(&blob, setup.window, by_now)))?;
        check_crops(setup, (crops(server)? - crops_before) as f64 / completed.len() as f64)?;
        let fps = steady_rate(&completed, before.at_ns, after.at_ns);
        let lasted_s = (after.at_ns - before.at_ns) as f64 / 1e9;
        let used = |((kind, before), (_, after)): ((String, f64), (_, f64))| (kind, after - before);
        let used_s: Vec<(String, f64)> = before.by_kind.into_iter().zip(after.by_kind).map(used).collect();
        let own_s: f64 = used_s.iter().map(|(_, seconds)| seconds).sum();
        let others_s = (after.cpus - before.cpus).as_secs_f64() - own_s;
        let others = (others_s / (lasted_s * bound.cpus.len() as f64)).clamp(0.0, 1.0);
        ensure!(fps > 0.0, "no frame was completed within {:?}: give more --seconds", setup.window);
        Ok(Window { fps, others, used_s, frames: fps * lasted_s, lasted_s })
    }

    /// Takes it down.
    fn stop(self) -> anyhow::Result<()> {
        let Self { load, runtime, mut server, .. } = self;
        runtime.block_on(async { drop(load) });
        server.stop()
    }
}

/// What comes of it, unless Ctrl-C comes first.
async fn unless<T>(interrupt: &mut Signal, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => bail!("interrupted"),
    }
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
    /// Keeps the pipeline busy until a window has passed, then waits for what is out. The window begins when the pipeline is full:
    /// when as many frames have come back as are in flight. The times at which results came, and what was used by the window's begin
    /// and by its end.
    async fn run(
        &mut self,
        blob: &Blob,
        length: Duration,
        used: impl Fn() -> anyhow::Result<Used>,
    ) -> anyhow::Result<(Vec<u64>, [Used; 2])> {
        let mut completed = Vec::new();
        let warm = now_ns()? + WARM_UP.as_nanos() as u64;
        while now_ns()? < warm || completed.len() < self.in_flight_max {
            self.step(blob, &mut completed).await?;
        }
        let before = used()?;
        let end = before.at_ns + length.as_nanos() as u64;
        while now_ns()? < end {
            self.step(blob, &mut completed).await?;
        }
        let after = used()?;
        while !self.in_flight.is_empty() {
            completed.push(self.receive().await?);
        }
        Ok((completed, [before, after]))
    }

    /// Pushes where there is room; else takes a result.
    async fn step(&mut self, blob: &Blob, completed: &mut Vec<u64>) -> anyhow::Result<()> {
        if self.in_flight.len() + BATCH <= self.in_flight_max {
            return self.push(blob).await;
        }
        completed.push(self.receive().await?);
        Ok(())
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

    /// Waits for a result; when it came.
    async fn receive(&mut self) -> anyhow::Result<u64> {
        let next = tokio::time::timeout(RESULT_WAIT, self.results.next()).await;
        let next =
            next.with_context(|| format!("{} frames without a result after {RESULT_WAIT:?}", self.in_flight.len()))?;
        let FrameResult { frame, outcome, .. } = next.context("the stream of results ended")??;
        let now = now_ns()?;
        ensure!(self.in_flight.remove(&frame), "frame {frame}: a second result, or never pushed");
        match outcome {
            Some(Outcome::Detections(_)) => Ok(now),
            Some(Outcome::Error(error)) => bail!("frame {frame}: {:?}: {}", error.code(), error.message),
            Some(Outcome::Gap(_)) | None => bail!("frame {frame}: no result that this client knows"),
        }
    }
}

impl Window {
    /// CPU milliseconds of a frame, of all processes that it goes through.
    pub fn frame_ms(&self) -> f64 {
        let goes_through = self.used_s.iter().filter(|(kind, _)| !UPKEEP.contains(&kind.as_str()));
        goes_through.map(|(_, seconds)| seconds).sum::<f64>() * 1e3 / self.frames
    }

    /// So many of these cores were busy, with whatever.
    pub fn busy_cores(&self, cores: u32) -> f64 {
        let own_s: f64 = self.used_s.iter().map(|(_, seconds)| seconds).sum();
        (own_s / self.lasted_s + self.others * f64::from(cores)).min(cores.into())
    }

    /// CPU milliseconds of a frame, of one kind of process.
    fn ms(&self, kind: &str) -> anyhow::Result<f64> {
        Ok(self.used_s(kind)? * 1e3 / self.frames)
    }

    /// Cores that one kind of process used.
    fn cores(&self, kind: &str) -> anyhow::Result<f64> {
        Ok(self.used_s(kind)? / self.lasted_s)
    }

    fn used_s(&self, kind: &str) -> anyhow::Result<f64> {
        let found = self.used_s.iter().find(|(name, _)| name == kind);
        found.map(|(_, seconds)| *seconds).with_context(|| format!("the pipeline has no {kind} process"))
    }
}

/// Costs of windows: of one, or of a picture's variants and itself, the last.
pub fn costs(windows: &[Window], pictures: &[&Encoded], crops: u32) -> anyhow::Result<(CpuMs, Upkeep)> {
    let asked = windows.last().context("nothing was measured")?;
    let preprocess = match (windows, pictures) {
        ([fewer, smaller, _], [of_fewer, of_smaller, of_asked]) => {
            let ms = |window: &Window| window.ms("preprocess");
            let of_asked = (of_asked.picture, ms(asked)?);
            Pixels::through([of_asked, (of_fewer.picture, ms(fewer)?), (of_smaller.picture, ms(smaller)?)])
        }
        _ => Pixels { frame: asked.ms("preprocess")?, ..Pixels::default() },
    };
    let attribute = asked.ms("attribute")?;
    let attribute = match crops {
        0 => Crops { frame: attribute, crop: None },
        crops => Crops { frame: 0.0, crop: Some(attribute / f64::from(crops)) },
    };
    let cpu_ms = CpuMs {
        ingest: asked.ms("ingest")?,
        preprocess,
        detect: asked.ms("detect")?,
        postprocess: asked.ms("postprocess")?,
        attribute,
        gateway: asked.ms("gateway")?,
        client: asked.ms("client")?,
    };
    Ok((cpu_ms, Upkeep { keeper: asked.cores("keeper")?, launcher: asked.cores("launcher")? }))
}
