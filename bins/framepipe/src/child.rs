//! One process of the pipeline: spawned, heard and commanded; and the last lines that it said.

use std::{
    ffi::OsString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use command_fds::{CommandFdExt as _, FdMapping};
use crossbeam_channel::{Receiver, Sender};
use framepipe_pipeline::{
    Command as Order, InheritedListener, NO_TELEMETRY, Protocol, Report, Slab, StageRow, StartOrder,
    log::LEVEL_VARIABLE,
};
use ipc_channel::ipc::{IpcOneShotServer, IpcSender};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::{
    cgroup::Groups,
    cpus::{self, Cpus},
    gpu::{self, Gpu},
    last_words::LastWords,
    log, notify,
};

/// First descriptor number of what a child inherits beyond the standard three.
const FIRST_INHERITED: i32 = 3;

/// What the launcher has that processes inherit.
#[derive(Clone, Copy)]
pub struct Handed<'a> {
    /// The gateway's listeners, and what is spoken there.
    pub listeners: &'a [(Protocol, OwnedFd)],
    /// The slabs of handed pools.
    pub slabs: &'a [Slab],
    /// The pipeline's GPU.
    pub gpu: Option<&'a Gpu>,
    /// The control groups that each goes into one of, where they were delegated.
    pub groups: &'a Groups,
}

/// What one process inherits.
pub struct Inheritance<'a> {
    listeners: Vec<&'a (Protocol, OwnedFd)>,
    slabs: Vec<&'a Slab>,
    /// What its environment says of GPUs.
    environment: Vec<(&'static str, OsString)>,
    /// The CPUs that it is bound to.
    cpus: Option<&'a Cpus>,
}

impl<'a> Handed<'a> {
    /// A stage's: the slabs of the pools that it reads or writes, and the GPU, where it uses one.
    pub fn of_stage(self, row: &StageRow) -> Inheritance<'a> {
        let is_used = |slab: &&Slab| row.reads.contains(&slab.pool) || row.writes.contains(&slab.pool);
        let gpu = self.gpu.filter(|_| row.uses_gpu);
        Inheritance {
            slabs: self.slabs.iter().filter(is_used).collect(),
            listeners: Vec::new(),
            environment: gpu.map_or_else(gpu::no_gpu, Gpu::environment),
            cpus: gpu.and_then(|gpu| gpu.cpus.as_ref()),
        }
    }

    /// The keeper's: nothing.
    pub fn of_keeper(self) -> Inheritance<'a> {
        Inheritance { listeners: Vec::new(), slabs: Vec::new(), environment: gpu::no_gpu(), cpus: None }
    }

    /// The gateway's.
    pub fn of_gateway(self) -> Inheritance<'a> {
        Inheritance { listeners: self.listeners.iter().collect(), ..self.of_keeper() }
    }
}

impl<'a> Inheritance<'a> {
    /// Bound to these CPUs, where some are asked for.
    pub fn bound_to(self, cpus: Option<&'a Cpus>) -> Self {
        Self { cpus: cpus.or(self.cpus), ..self }
    }

    /// Gives each descriptor a number in the child, and notes them in its order.
    fn number(&self, order: StartOrder) -> anyhow::Result<(Vec<FdMapping>, StartOrder)> {
        let descriptors =
            self.listeners.iter().map(|(_, socket)| socket).chain(self.slabs.iter().map(|slab| &slab.memory));
        let mappings = descriptors
            .zip(FIRST_INHERITED..)
            .map(|(descriptor, number)| anyhow::Ok(FdMapping { parent_fd: descriptor.try_clone()?, child_fd: number }));
        let mut numbers = FIRST_INHERITED..;
        let inherited =
            |((protocol, _), number): (&&(Protocol, OwnedFd), i32)| InheritedListener { protocol: *protocol, number };
        let listeners = self.listeners.iter().zip(numbers.by_ref()).map(inherited).collect();
        let slabs = self.slabs.iter().zip(numbers).map(|(slab, number)| slab.inherited_as(number)).collect();
        Ok((mappings.collect::<anyhow::Result<_>>()?, StartOrder { listeners, slabs, ..order }))
    }
}

/// Reports that the launcher's loop has not heard yet, of all processes. Where there are so many, whoever reports more waits for the
/// loop, which takes them all each time round: none is lost, unless its process dies meanwhile.
pub const WORDS_MAX: usize = 256;

/// What a child said.
pub struct Word {
    /// Its pid.
    pub pid: u32,
    /// What it said.
    pub report: Report,
}

/// A running process.
pub struct Child {
    /// Its pid.
    pub pid: u32,
    process: std::process::Child,
    pidfd: OwnedFd,
    address: String,
    order: Option<StartOrder>,
    commands: Option<IpcSender<Order>>,
    /// Disconnected once all its reports are heard.
    end: Receiver<()>,
    /// What it said last.
    pub last_words: LastWords,
    /// The newest generation that it was told of as it started.
    pub encodes: Option<u64>,
    /// True once it takes frames.
    pub is_ready: bool,
    /// True once it said that it cannot go on.
    pub has_failed: bool,
    /// True once it was told to end, or was killed before it could hear that.
    pub is_told: bool,
    /// True once it was killed for a fault of the GPU that another process met.
    pub is_condemned: bool,
}

/// An executable beside this one.
pub fn sibling(binary: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    let path = own.with_file_name(binary);
    anyhow::ensure!(path.is_file(), "{} is missing: it belongs beside {}", path.display(), own.display());
    Ok(path)
}

impl Child {
    /// Starts a process, called `title` in the log. What it says goes to `words`, and `wake` is told. To be called from the main thread: the
    /// kernel's notice of the parent's death to the child is bound to the thread that spawned it.
    pub fn spawn(
        (binary, title): (&str, String),
        order: StartOrder,
        inheritance: &Inheritance<'_>,
        words: Sender<Word>,
        wake: OwnedFd,
    ) -> anyhow::Result<Self> {
        let (server, address) = IpcOneShotServer::<Report>::new().context("a control channel")?;
        let (mappings, order) = inheritance.number(order)?;
        let mut command = Command::new(sibling(binary)?);
        command.arg(&address).arg(std::process::id().to_string());
        command.fd_mappings(mappings)?;
        command.env(NO_TELEMETRY.0, NO_TELEMETRY.1).env(LEVEL_VARIABLE, order.config.log.level.name());
        command.stderr(Stdio::piped());
        command.envs(inheritance.environment.iter().cloned());
        notify::hide(&mut command);
        let mut process =
            cpus::bound_to(inheritance.cpus, || command.spawn()).with_context(|| format!("cannot start {binary}"))?;
        let pid = process.id();
        let stderr = process.stderr.take().expect("it was piped");
        let hear_words = || Ok(LastWords::hear((title, pid), stderr, log::pass_on)?);
        let (pidfd, end, last_words) = Self::heard(&mut process, (server, &address), words, wake, hear_words)?;
        let (order, commands) = (Some(order), None);
        Ok(Self {
            pid,
            process,
            pidfd,
            address,
            order,
            commands,
            end,
            last_words,
            encodes: None,
            is_ready: false,
            has_failed: false,
            is_told: false,
            is_condemned: false,
        })
    }

    /// Hears a process by all that it says. Where that cannot be, ends it, and whoever hears it already: unheard, it is of no use.
    fn heard<T>(
        process: &mut std::process::Child,
        (server, address): (IpcOneShotServer<Report>, &str),
        words: Sender<Word>,
        wake: OwnedFd,
        hear_words: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(OwnedFd, Receiver<()>, T)> {
        let heard = Self::hear(process, server, words, wake).and_then(|(pidfd, end)| Ok((pidfd, end, hear_words()?)));
        heard.inspect_err(|_| {
            let _ = process.kill().and_then(|()| process.wait());
            end_hearing(address);
        })
    }

    /// Starts to hear a process, and to watch for its death.
    fn hear(
        process: &std::process::Child,
        server: IpcOneShotServer<Report>,
        words: Sender<Word>,
        wake: OwnedFd,
    ) -> anyhow::Result<(OwnedFd, Receiver<()>)> {
        let pid = process.id();
        let pidfd = pidfd_open(rustix::process::Pid::from_child(process), PidfdFlags::empty())?;
        let (says_end, end) = crossbeam_channel::bounded(0);
        let listen = move || {
            let _dropped_at_the_end = says_end;
            // An error: the child died before it had spoken.
            let Ok((reports, first)) = server.accept() else { return };
            let mut next = Some(first);
            while let Some(report) = next {
                if words.send(Word { pid, report }).is_err() {
                    return;
                }
                let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
                next = reports.recv().ok();
            }
        };
        thread::Builder::new().name(format!("hear-{pid}")).spawn(listen)?;
        Ok((pidfd, end))
    }

    /// Answers the child's first word with its order.
    pub fn introduced(&mut self, commands: IpcSender<Order>) {
        if let Some(order) = self.order.take() {
            let _ = commands.send(Order::Start(Box::new(order))); // an error: it died, which its pidfd tells
        }
        self.commands = Some(commands);
    }

    /// Tells the child something.
    pub fn command(&self, order: Order) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(order); // an error: it died, which its pidfd tells
        }
    }

    /// Tells the child to finish what it has claimed and end; one that has claimed nothing yet is killed.
    pub fn stop(&mut self) {
        self.is_told = true;
        if self.is_ready { self.command(Order::Stop) } else { self.kill() }
    }

    /// Readable once the child is dead.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills the child, whatever it does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// Waits for the dead child.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let status = self.process.wait()?;
        if self.commands.is_none() {
            end_hearing(&self.address);
        }
        Ok(status)
    }

    /// Waits until all that the dead child reported is among the words, or `patience`.
    pub fn hear_out(&self, patience: Duration) {
        let _ = self.end.recv_timeout(patience); // disconnected, or time is over
    }
}

/// Ends the thread that waits for a process, which may have died before it connected.
fn end_hearing(address: &str) {
    drop(IpcSender::<Report>::connect(address.to_owned())); // an error: it has connected, and its death has ended the thread
}

#[cfg(test)]
mod tests {
    use std::{fs::File, iter};

    use framepipe_pipeline::STAGES;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A process that says nothing, and lives longer than any test.
    fn silent() -> std::process::Child {
        Command::new("sleep").arg("3600").spawn().expect("there is sleep")
    }

    fn channel() -> (IpcOneShotServer<Report>, String) {
        IpcOneShotServer::new().expect("a channel")
    }

    fn wake() -> OwnedFd {
        File::options().write(true).open("/dev/null").expect("it is there").into()
    }

    #[test]
    fn a_process_that_cannot_be_heard_leaves_nobody_who_waits_for_it() {
        let (mut process, (server, address)) = (silent(), channel());
        let (words, heard) = crossbeam_channel::bounded(1);
        let fails = || Err::<(), _>(anyhow::anyhow!("no thread"));
        let error =
            Child::heard(&mut process, (server, &address), words, wake(), fails).expect_err("it cannot be heard");
        assert_eq!(error.to_string(), "no thread");
        assert!(process.try_wait().expect("it is a child").is_some(), "it lives");
        // The thread that hears has the one sender.
        assert_eq!(heard.recv_timeout(LIMIT).err(), Some(crossbeam_channel::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn who_reports_more_than_the_loop_has_heard_waits_and_nothing_is_lost() {
        const REPORTS: u64 = 1000;
        let (mut process, (server, address)) = (silent(), channel());
        let (words, heard) = crossbeam_channel::bounded(2);
        let (_, end) = Child::hear(&process, server, words, wake()).expect("a thread");
        let says = IpcSender::<Report>::connect(address).expect("it listens");
        let says = thread::spawn(move || (0..REPORTS).try_for_each(|ms| says.send(Report::Ready { ms })));
        let ms = |word: Word| match word.report {
            Report::Ready { ms } => ms,
            _ => panic!("nobody said that"),
        };
        let mut all = iter::from_fn(|| heard.recv_timeout(LIMIT).ok()).map(ms);
        assert!(all.by_ref().eq(0..REPORTS));
        says.join().expect("no panic").expect("it is heard");
        assert_eq!(end.recv_timeout(LIMIT), Err(crossbeam_channel::RecvTimeoutError::Disconnected));
        process.kill().and_then(|()| process.wait()).expect("it is a child");
    }

    #[test]
    fn the_stages_that_use_the_gpu_see_it_and_no_other_process_sees_any() {
        let gpu = Gpu::stand_in("GPU-1a");
        let groups = Groups::none();
        let [with, without] = [Some(&gpu), None].map(|gpu| Handed { listeners: &[], slabs: &[], gpu, groups: &groups });
        for row in &STAGES {
            let environment = with.of_stage(row).environment;
            let sees = ["preprocess", "detect", "attribute"].contains(&row.name);
            assert_eq!(environment, if sees { gpu.environment() } else { gpu::no_gpu() }, "{}", row.name);
            assert_eq!(without.of_stage(row).environment, gpu::no_gpu(), "{} without a GPU", row.name);
        }
        assert_eq!(with.of_gateway().environment, gpu::no_gpu());
        assert_eq!(with.of_keeper().environment, gpu::no_gpu());
    }
}
