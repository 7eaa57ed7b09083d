//! What must be there before any process starts: folders, lock, listeners, and the segment, made anew or taken over
//! from a launcher that died.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, MetadataExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, bail};
use framepipe_cache::{Area, ArenaKind, Use};
use framepipe_frame::Request;
use framepipe_model::Manifest;
use framepipe_pipeline::{Config, Generation, Generations, Plan, Protocol, Slab, cache_folder, discarded, start_again};
use framepipe_shm::{Access, Blame, FileLock, Gate, Geometry, Segment, SegmentError};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal},
};
use tracing::{info, warn};

use crate::proc_stat::start_time;
use crate::{
    activation::{Inherited, Purpose},
    cgroup::Groups,
    child::Handed,
    gpu::Gpu,
    slabs, swap,
};

/// The house, kept while the launcher lives.
pub struct House {
    /// The segment.
    pub segment: &'static Segment,
    /// The cache, as far as the launcher looks at it.
    pub area: &'static Area,
    /// The listeners, handed to each gateway, and what is spoken there.
    pub listeners: Vec<(Protocol, OwnedFd)>,
    /// Whether the Unix socket is a service manager's, whose file it is.
    is_socket_inherited: bool,
    /// The slabs of its handed pools, handed to each stage that reads or writes one.
    pub slabs: Vec<Slab>,
    /// The pipeline's GPU, where it has one; what shares it ends with the house.
    pub gpu: Option<Gpu>,
    /// The segment's generations of models.
    pub generations: Generations,
    /// The socket that `framepipe status` asks.
    pub control: UnixListener,
    config: Config,
    _locks: [FileLock; 2],
    _segment_lock: FileLock,
}

/// For a process to end that still has the address and is in no table.
const ADDRESS_WAIT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Folder, in the run folder, of the sockets by which new processes reach the launcher.
const CHANNELS: &str = "new";
/// What ipc-channel puts below it.
const CHANNEL_NAME_BYTES: usize = "/.tmp123456/socket".len();
/// Longest path of a socket: `sun_path` and its end.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Name of the control socket in the run folder.
pub const CONTROL_SOCKET: &str = "control.sock";

impl House {
    /// Makes everything.
    pub fn make(config: &Config, discard: bool, inherited: Inherited) -> anyhow::Result<Self> {
        let is_socket_inherited = inherited.has(Purpose::GrpcUnix);
        make_folder(&config.run, 0o755)?;
        make_folder(&config.state, 0o700)?;
        make_folder(&config.spill(), 0o700)?;
        let locks = [lock(&config.run, "--run-dir")?, lock(&config.state, "--state-dir")?];
        make_channels(&config.run)?;
        for inbox in &config.server.inbox {
            // Like /tmp: any client may store, nobody may remove another's. Each file's own mode says who may read it.
            make_folder(inbox, 0o1777)?;
        }
        let control = unix_listener(&config.run.join(CONTROL_SOCKET), 0o600)?;
        // Before the listeners, which a killed launcher's gateway has until it is dead: taking the segment over ends it.
        let Made { segment, lock: segment_lock, generations } = segment(config, discard)?;
        let made = || {
            let area = area(segment, config, &generations)?;
            // First of all that opens the GPU, and after the dead launcher's processes, which had it open.
            let gpu = Gpu::open(config)?;
            let slabs = slabs::make(config, gpu.as_ref(), segment.geometry())?;
            anyhow::Ok((area, gpu, slabs, listeners(config, inherited)?))
        };
        let (area, gpu, slabs, listeners) = made().inspect_err(|_| {
            if !holds_frames(segment) {
                let _ = Segment::remove(segment.folder()); // the reason is the one to tell
            }
        })?;
        Ok(Self {
            segment,
            area,
            listeners,
            is_socket_inherited,
            slabs,
            gpu,
            generations,
            control,
            config: config.clone(),
            _locks: locks,
            _segment_lock: segment_lock,
        })
    }

    /// What processes inherit.
    pub fn handed<'a>(&'a self, groups: &'a Groups) -> Handed<'a> {
        Handed { listeners: &self.listeners, slabs: &self.slabs, gpu: self.gpu.as_ref(), groups }
    }

    /// True while accepted frames are in the segment.
    pub fn holds_frames(&self) -> bool {
        holds_frames(self.segment)
    }

    /// Removes sockets, and the segment unless a later launcher must take its frames over.
    pub fn clear(self, keep_segment: bool) -> anyhow::Result<()> {
        let _ = fs::remove_file(self.config.run.join(CONTROL_SOCKET)); // gone already: as well
        if !self.is_socket_inherited {
            let _ = fs::remove_file(&self.config.server.unix);
        }
        let _ = fs::remove_dir_all(self.config.run.join(CHANNELS));
        if !keep_segment {
            Segment::remove(self.segment.folder())
                .with_context(|| format!("cannot remove {}", self.segment.folder().display()))?;
        }
        Ok(())
    }
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        // Another user's folder may hold, or become, anything.
        let trusted = metadata.is_dir() && [0, geteuid().as_raw()].contains(&metadata.uid());
        anyhow::ensure!(
            trusted,
            "{} is no folder of this user's or root's: remove it, or name another",
            path.display()
        );
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(mode & 0o777).create(path);
    made.with_context(|| format!("cannot make the folder {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(|| path.display().to_string())
}

/// Takes the lock of a folder of this instance's; `flag` names another one.
fn lock(folder: &Path, flag: &str) -> anyhow::Result<FileLock> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let lock = FileLock::take(file).with_context(|| format!("cannot lock {}", path.display()))?;
    lock.ok_or_else(|| {
        anyhow!("a pipeline runs already from {}: stop it, or give this one another --name or {flag}", folder.display())
    })
}

/// Makes the folder of the control channels' sockets. A killed launcher has left those there of processes that were just
/// starting: the lock says that nobody needs them.
fn make_channels(run: &Path) -> anyhow::Result<()> {
    let folder = run.join(CHANNELS);
    let bytes = folder.as_os_str().len() + CHANNEL_NAME_BYTES;
    anyhow::ensure!(
        bytes <= SOCKET_PATH_BYTES_MAX,
        "{} is {} bytes too long a path for sockets: name another (paths.run, --run-dir) or a shorter --name",
        run.display(),
        bytes - SOCKET_PATH_BYTES_MAX
    );
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot clear {}", folder.display()));
        }
        _ => make_folder(&folder, 0o700)?,
    }
    // By default ipc-channel makes them in $TMPDIR, where nobody would clear them away.
    tempfile::env::override_temp_dir(&folder)
        .map_err(|other| anyhow!("sockets are made in {} already", other.display()))
}

fn holds_frames(segment: &Segment) -> bool {
    let [free, ..] = segment.job_census();
    free < segment.frame_jobs() as usize
}

/// The listeners that each gateway gets: those that a service manager has opened, and those that it has not.
fn listeners(config: &Config, mut inherited: Inherited) -> anyhow::Result<Vec<(Protocol, OwnedFd)>> {
    let mut listeners = Vec::new();
    let mut take = |purpose: Purpose| {
        let taken = inherited.of_purpose(purpose);
        let is_any = !taken.is_empty();
        for (address, listener) in taken {
            info!("listening on {address}, which the service manager has opened");
            listeners.push((purpose.protocol(), listener));
        }
        is_any
    };
    let [has_tcp, has_unix, has_http] = [Purpose::Grpc, Purpose::GrpcUnix, Purpose::Http].map(&mut take);
    if let Some(address) = config.server.tcp.as_ref().filter(|_| !has_tcp) {
        let listener = tcp_listener(address).map_err(|error| {
            let advice = advice(&error, "another pipeline, or another server, may be there");
            anyhow!("cannot listen on {address} (server.tcp, --tcp): {error}: {advice}")
        })?;
        info!("listening on {}", listener.local_addr()?);
        listeners.push((Protocol::Grpc, listener.into()));
    }
    if !has_unix {
        listeners.push((Protocol::Grpc, unix_listener(&config.server.unix, 0o666)?.into()));
        info!("listening on unix:{}", config.server.unix.display());
    }
    if let Some(address) = config.server.http.as_ref().filter(|_| !has_http) {
        let listener = tcp_listener(address).map_err(|error| {
            let taken =
                "another pipeline, or another server, may be there; give this one another port, or \"\" for none";
            let advice = advice(&error, taken);
            anyhow!("cannot listen on {address} for metrics and readiness (server.http, --http): {error}: {advice}")
        })?;
        info!("metrics and readiness at http://{}/metrics and /readyz", listener.local_addr()?);
        listeners.push((Protocol::Http, listener.into()));
    }
    Ok(listeners)
}

/// What to do about an address that cannot be listened at.
fn advice(error: &io::Error, taken: &'static str) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => taken,
        ErrorKind::AddrNotAvailable => {
            "it is no address of this host (ip address): give one, or 0.0.0.0 for all of them"
        }
        ErrorKind::PermissionDenied => {
            "this user may not listen there: give a port above 1023, or the launcher CAP_NET_BIND_SERVICE"
        }
        _ => "give another address",
    }
}

/// Waits a little for an address in use: a gateway that a launcher was about to start when it was killed is in no table.
fn tcp_listener(address: &str) -> io::Result<TcpListener> {
    let deadline = Instant::now() + ADDRESS_WAIT;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => thread::sleep(LOOK),
            bound => return bound,
        }
    }
}

fn unix_listener(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        make_folder(folder, 0o755)?;
    }
    let _ = fs::remove_file(path); // a former launcher's: the lock says that it is dead
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The cores that a segment was laid out for which a dead launcher left, where there is one that can be read.
pub fn cores_of_left(config: &Config) -> Option<u32> {
    Generations::read(&config.segment()).ok().flatten().map(|generations| generations.cores)
}

/// A segment, locked, and the generations whose workers it needs.
struct Made {
    segment: &'static Segment,
    lock: FileLock,
    generations: Generations,
}

/// Makes the segment, or takes over the one that a dead launcher left.
fn segment(config: &Config, discard: bool) -> anyhow::Result<Made> {
    let folder = config.segment();
    let first = swap::first_generation(config)?;
    let plan = plan_of(config, &first)?;
    let of_first = || Generations::of(config, first.clone());
    let (segment, lock, generations) = match create(&folder, &plan) {
        Err(SegmentError::Exists(_)) => match take_over(config, &folder, &plan, discard)? {
            (segment, lock, Some(generations)) => (segment, lock, generations),
            (segment, lock, None) => (segment, lock, of_first()),
        },
        made => (made?, lock_segment(&folder)?, of_first()),
    };
    generations.write(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    // It lives as long as this process: threads and tables refer to it.
    Ok(Made { segment: Box::leak(Box::new(segment)), lock, generations })
}

/// Makes the cache that belongs to the segment, or takes it over with it. A process that starts finds it there.
fn area(segment: &Segment, config: &Config, generations: &Generations) -> anyhow::Result<&'static Area> {
    let (folder, plan) = (cache_folder(segment.folder()), Plan::of(&generations.made_for.applied_to(config))?);
    Area::make(&folder, plan.cache)?;
    Ok(Box::leak(Box::new(Area::open(&folder, Use::NONE.reads(ArenaKind::Images))?)))
}

/// The plan of a generation, whose models are those that their manifests say.
fn plan_of(config: &Config, generation: &Generation) -> anyhow::Result<Plan> {
    let plan = Plan::of(&generation.applied_to(config))?;
    plan.models().try_for_each(Manifest::verify)?;
    Ok(plan)
}

fn lock_segment(folder: &Path) -> anyhow::Result<FileLock> {
    Segment::lock(folder)?.ok_or_else(|| belongs_to_another(folder))
}

fn belongs_to_another(folder: &Path) -> anyhow::Error {
    anyhow!("{} belongs to a running pipeline: give this one another --name", folder.display())
}

/// A new segment. Its frames' numbers begin above those of every former one, whose results may still be unread: at a
/// million a second since 1970, which stays below 2^53.
fn create(folder: &Path, plan: &Plan) -> Result<Segment, SegmentError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Segment::create(folder, plan.geometry, now.as_nanos() as u64, now.as_secs() << 20)
}

/// Takes a segment over, with its generations; without them where it is made anew, or was never served.
fn take_over(
    config: &Config,
    folder: &Path,
    plan: &Plan,
    discard: bool,
) -> anyhow::Result<(Segment, FileLock, Option<Generations>)> {
    // Whoever has the lock is running; held from here on, nobody else takes the segment over.
    let lock = Segment::lock(folder);
    if let Ok(None) = lock {
        return Err(belongs_to_another(folder));
    }
    let ways = format!(
        "start with the configuration and the version that made it (they finish its frames), or give --discard, which \
         answers each frame in {} with an error",
        folder.display()
    );
    let segment = match Segment::open(folder, Access::All) {
        Ok(segment) => segment,
        Err(error) if discard => {
            warn!("discarding {}, whose frames nobody can read, and so none is answered: {error}", folder.display());
            return remake(folder, plan);
        }
        Err(error) => return Err(error).context(ways),
    };
    let orphans = end_processes(&segment)?;
    let expected = match expected(config, folder, plan, &segment) {
        Err(error) if !discard => return Err(error).context(ways),
        expected => expected.ok().filter(|(geometry, _)| segment.geometry() == geometry),
    };
    let Some((_, generations)) = expected else {
        if discard {
            let Discarded { answered, unreadable } = note_discarded(&segment, &config.state)?;
            warn!(
                "discarding {} of another configuration; its {answered} frames are answered with an error",
                folder.display()
            );
            if unreadable > 0 {
                warn!("another {unreadable} accepted frames are of another version: none of them is answered");
            }
            return remake(folder, plan);
        }
        bail!(
            "{} was left by a launcher with another configuration (models, inboxes, frames_max, [pools], or sizes in memory \
             in [cache]): {ways}",
            folder.display()
        );
    };
    // The slabs have died with the processes that had them.
    let repair = segment.recover_without_slabs(|queue| start_again(queue, segment.geometry().handed));
    info!("took over {} from a launcher that died ({orphans} orphans ended): {repair:?}", folder.display());
    Ok((segment, lock?.ok_or_else(|| belongs_to_another(folder))?, generations))
}

/// What the configuration expects of a segment that a dead launcher left: that it was made for the models that served first,
/// which may be others than those that serve by now.
fn expected(
    config: &Config,
    folder: &Path,
    plan: &Plan,
    segment: &Segment,
) -> anyhow::Result<(Geometry, Option<Generations>)> {
    let found = Generations::read(folder).with_context(|| format!("the generations in {}", folder.display()))?;
    let Some(mut generations) = found.filter(|found| found.configured == Generations::configured(config)) else {
        return Ok((plan.geometry, None));
    };
    generations.settle(segment.entry_queue());
    for generation in &generations.living {
        plan_of(config, generation)
            .with_context(|| format!("frames in {} were accepted for a model that is not there", folder.display()))?;
    }
    Ok((Plan::of(&generations.made_for.applied_to(config))?.geometry, Some(generations)))
}

/// How many accepted frames a discarded segment held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Discarded {
    /// The gateway will answer them.
    answered: usize,
    /// Their requests are none of this version's.
    unreadable: usize,
}

/// Notes the accepted frames of a segment that is about to go, for the gateway to answer.
fn note_discarded(segment: &Segment, state: &Path) -> anyhow::Result<Discarded> {
    segment.recover(Blame::Nobody); // which says of each frame whether it was accepted
    let mut requests: Vec<Request> = Vec::new();
    let mut unreadable = 0;
    let is_readable = segment.geometry().request_bytes == size_of::<Request>() as u64;
    Gate::new(segment, 0).for_each_accepted(|request| match is_readable {
        true => requests.push(bytemuck::pod_read_unaligned(request)),
        false => unreadable += 1,
    });
    discarded::note(state, segment.run(), &requests)
        .with_context(|| format!("cannot note the discarded frames in {}", state.display()))?;
    Ok(Discarded { answered: requests.len(), unreadable })
}

fn remake(folder: &Path, plan: &Plan) -> anyhow::Result<(Segment, FileLock, Option<Generations>)> {
    Segment::remove(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok((create(folder, plan)?, lock_segment(folder)?, None))
}

/// Kills every process that the table still names, waits for its death, and vacates the table.
fn end_processes(segment: &Segment) -> anyhow::Result<usize> {
    let mut ended = 0;
    for entry in segment.processes().iter().filter(|entry| entry.owner() != 0) {
        let (_, _, pid, start) = entry.identity();
        let alive = || start_time(pid) == Some(start);
        if let Some(pid) = Pid::from_raw(pid as i32).filter(|_| pid != 0 && alive()) {
            let pidfd = pidfd_open(pid, PidfdFlags::empty());
            // Looked at again: between the look and the open the pid may have become another's.
            if let Ok(pidfd) = pidfd.as_ref().map_err(drop).and_then(|fd| if alive() { Ok(fd) } else { Err(()) }) {
                match pidfd_send_signal(pidfd, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {} // or it has ended meanwhile
                    Err(error) => return Err(error).context("cannot end an orphan"),
                }
                let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut fds, None)?;
                ended += 1;
            }
        }
        entry.vacate();
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_about_to_be_free_is_waited_for_and_another_servers_is_not_for_long() {
        let orphan = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = orphan.local_addr().expect("it is bound").to_string();
        let refused = tcp_listener(&address).expect_err("it is another's");
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
        let dies = thread::spawn(move || {
            thread::sleep(ADDRESS_WAIT / 10);
            drop(orphan);
        });
        tcp_listener(&address).expect("it was waited for");
        dies.join().expect("it ended");
    }

    #[test]
    fn discarded_frames_that_nobody_can_read_are_counted_and_not_called_answered() {
        let state = tempfile::tempdir().expect("a folder");
        for (request_bytes, expected) in [
            (size_of::<Request>(), Discarded { answered: 3, unreadable: 0 }),
            (size_of::<Request>() + 8, Discarded { answered: 0, unreadable: 3 }),
        ] {
            let folder = Path::new("/dev/shm").join(format!("framepipe-test-discard-{}", std::process::id()));
            let geometry = Geometry {
                pipeline: 0,
                jobs: 4,
                reserved: 0,
                queues: 1,
                processes: 1,
                request_bytes: request_bytes as u64,
                descriptor_bytes: 8,
                keys: 0,
                key_bytes: 0,
                handed: 0,
                pools: Default::default(),
            };
            let segment = Segment::create(&folder, geometry, 1, 0).expect("a small segment fits");
            segment.processes()[0].occupy(1, 0, 0);
            let gate = Gate::new(&segment, 1);
            let mut draft = gate.draft(3).expect("jobs are free");
            (0..3).for_each(|place| draft.write(place, &vec![0; request_bytes], &[0; 8]));
            gate.accept(draft, None).expect("the gateway lives");
            segment.processes()[0].vacate();
            let noted = note_discarded(&segment, state.path());
            Segment::remove(&folder).expect("the test's own");
            assert_eq!(noted.expect("noted"), expected);
        }
        assert_eq!(discarded::noted(state.path()).expect("read").len(), 3);
    }
}
