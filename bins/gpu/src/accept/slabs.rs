//! A slab between processes: made by a process that ends, written by one that is killed at its work, read by others; and
//! handed back and forth many times.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use command_fds::{CommandFdExt as _, FdMapping};
use framepipe_gpu::{Choice, Device, Slab};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;

/// Descriptor of the slab, or of the socket, in the other process.
const DESCRIPTOR: i32 = 3;
/// A slab of the size of a pool of tensors.
const BYTES: usize = 256 << 20;
/// Bytes that are compared.
const PATTERN_BYTES: usize = 64 << 20;
/// A tensor of 3x416x416 in f32.
const SLOT_BYTES: usize = 3 * 416 * 416 * 4;
const ROUNDS: u32 = 2000;

/// What came of it.
#[derive(Serialize)]
pub struct Slabs {
    /// Bytes of the slab.
    pub bytes: u64,
    /// Milliseconds until a process had made a slab and ended.
    pub made_ms: f64,
    /// How often a slot was written by one process and found whole by another.
    pub handed_over: u32,
    /// Microseconds of each: written, waited for, told, read back, compared, told.
    pub hand_over_us: f64,
}

/// What the other process does with the slab.
#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Fills it, says so, and writes on until it is killed.
    Fill,
    /// Compares what lies in it.
    Compare,
    /// Reads a slot each time that it is told to.
    Answer,
}

#[derive(Args)]
pub struct Side {
    #[arg(long, value_parser = crate::choice)]
    device: Choice,
    #[arg(long)]
    bytes: usize,
    #[arg(long)]
    seed: u32,
    role: Role,
}

fn pattern(seed: u32, bytes: usize) -> Vec<u32> {
    (0..(bytes / 4) as u32).map(|index| index.wrapping_mul(0x9e37_79b9) ^ seed).collect()
}

/// The other process.
pub fn take_side(side: &Side) -> anyhow::Result<()> {
    let device = Device::open(&side.device)?;
    // SAFETY: the process that started this one passed it, and named it once.
    #[allow(unsafe_code, reason = "a file descriptor passed by number")]
    let descriptor = unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) };
    let slab = Slab::import(&device, descriptor, side.bytes)?;
    let say = |words: &str| {
        let mut out = std::io::stdout();
        out.write_all(words.as_bytes()).and_then(|()| out.flush())
    };
    match side.role {
        Role::Fill => {
            slab.write(0, &pattern(side.seed, PATTERN_BYTES))?;
            say("filled\n")?;
            let noise = pattern(!side.seed, PATTERN_BYTES);
            loop {
                slab.write(PATTERN_BYTES, &noise)?; // until it is killed
            }
        }
        Role::Compare => {
            let mut found = vec![0u32; PATTERN_BYTES / 4];
            slab.read(0, &mut found)?;
            let wrong = found.iter().zip(pattern(side.seed, PATTERN_BYTES)).filter(|(found, wrote)| *found != wrote);
            ensure!(wrong.count() == 0, "the slab does not hold what was written");
            say("the same\n")?;
        }
        Role::Answer => {
            let mut found = vec![0u32; SLOT_BYTES / 4];
            say("ready\n")?;
            for line in std::io::stdin().lines() {
                let round: u32 = line?.parse().context("a round's number")?;
                slab.read(slot(round), &mut found)?;
                ensure!(found.iter().all(|number| *number == round), "round {round}: a slot that is not whole");
                say("whole\n")?;
            }
        }
    }
    Ok(())
}

fn slot(round: u32) -> usize {
    round as usize % (BYTES / SLOT_BYTES) * SLOT_BYTES
}

/// Runs all of it.
pub fn test(choice: &Choice, device: &Device) -> anyhow::Result<Slabs> {
    let start = Instant::now();
    let (memory, bytes) = make(choice)?;
    let made_ms = start.elapsed().as_secs_f64() * 1e3;
    let seed = 0x5eed;
    let mut writer = Other::start(choice, &memory, bytes, seed, "fill")?;
    writer.expect("filled")?;
    writer.process.kill()?; // SIGKILL, while it copies to the device
    writer.process.wait()?;
    // From here on, this process's descriptor alone keeps the memory.
    let mut reader = Other::start(choice, &memory, bytes, seed, "compare")?;
    reader.expect("the same").context("after the death of who wrote it")?;
    reader.process.wait()?;
    let mut answerer = Other::start(choice, &memory, bytes, seed, "answer")?;
    answerer.expect("ready")?;
    let slab = Slab::import(device, memory.try_clone()?, bytes)?;
    let mut numbers = vec![0u32; SLOT_BYTES / 4];
    let start = Instant::now();
    for round in 0..ROUNDS {
        numbers.fill(round);
        slab.write(slot(round), &numbers)?;
        writeln!(answerer.input, "{round}")?;
        answerer.expect("whole")?;
    }
    let hand_over_us = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
    Ok(Slabs { bytes: bytes as u64, made_ms, handed_over: ROUNDS, hand_over_us })
}

/// Has another process make a slab, and waits for its end.
fn make(choice: &Choice) -> anyhow::Result<(OwnedFd, usize)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["slab", "--device", name(choice), "--bytes", &BYTES.to_string()]);
    command.fd_mappings(vec![FdMapping { parent_fd: theirs.into(), child_fd: DESCRIPTOR }])?;
    let status = command.status()?;
    drop(command);
    ensure!(status.success(), "the process that makes slabs ended with {status}");
    let mut size = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(&ours, &mut [std::io::IoSliceMut::new(&mut size)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let memory = rights.flatten().next().context("no slab came")?;
    Ok((memory, u64::from_le_bytes(size) as usize))
}

fn name(choice: &Choice) -> &str {
    match choice {
        Choice::First => "first",
        Choice::Uuid(uuid) => uuid,
    }
}

struct Other {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait().map(drop)); // an error: it has ended
    }
}

impl Other {
    fn start(choice: &Choice, memory: &OwnedFd, bytes: usize, seed: u32, role: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let (bytes, seed) = (bytes.to_string(), seed.to_string());
        command.args(["side", "--device", name(choice), "--bytes", &bytes, "--seed", &seed, role]);
        command.fd_mappings(vec![FdMapping { parent_fd: memory.try_clone()?, child_fd: DESCRIPTOR }])?;
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().context("it was piped")?;
        let output = BufReader::new(process.stdout.take().context("it was piped")?);
        Ok(Self { process, input, output })
    }

    fn expect(&mut self, words: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim_end() == words { Ok(()) } else { bail!("the other process said {line:?}, not {words:?}") }
    }
}
