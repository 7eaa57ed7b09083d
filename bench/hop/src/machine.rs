//! CPUs, whether a process sleeps, and how much of the machine other processes took.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The first two CPUs that this process may use.
///
/// # Errors
/// Where there is one alone.
pub fn two_cpus() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(None).context("the CPUs allowed")?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    cpus.next().zip(cpus.next()).map(|(first, second)| [first, second]).context("a hop needs two CPUs")
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// What the operating system says.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("to stay on CPU {cpu}"))
}

/// The first thread of a process, as /proc shows it.
pub struct Sleeper(File);

impl Sleeper {
    /// Of a living process.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/stat")).map(Self)
    }

    /// True while it sleeps and may be woken.
    pub fn is_asleep(&self) -> bool {
        let mut text = [0; 512];
        let read = self.0.read_at(&mut text, 0).unwrap_or(0);
        state(&text[..read]) == Some(b'S')
    }
}

/// The state in a line of /proc/PID/stat: behind the program's name, which ends at the last bracket.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

/// What other processes took of the machine, from some moment on; in ticks.
pub struct Others {
    machine: [u64; 2],
    own: u64,
}

impl Others {
    /// From now on.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn watch() -> Result<Self> {
        Ok(Self { machine: machine_ticks()?, own: own_ticks()? })
    }

    /// Their share of all CPUs' time, 0 to 1.
    ///
    /// # Errors
    /// Where /proc cannot be read.
    pub fn share(&self) -> Result<f64> {
        let [busy, all] = machine_ticks()?;
        let own = own_ticks()? - self.own;
        let others = (busy - self.machine[0]).saturating_sub(own);
        Ok(others as f64 / (all - self.machine[1]).max(1) as f64)
    }
}

/// Ticks of all CPUs: not idle, and in all.
fn machine_ticks() -> Result<[u64; 2]> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat has lines")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what guests took is in the first two.
    let fields: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    let all: u64 = fields.iter().sum();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    Ok([all - idle, all])
}

/// Ticks of this process, and of its children that have ended.
fn own_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("/proc/self/stat has a name")?;
    // utime, stime, cutime and cstime: fields 14 to 17 of the line, of which two lie before the bracket.
    Ok(fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_behind_a_name_that_may_hold_anything() {
        assert_eq!(state(b"12 (a) b) S 1 2"), Some(b'S'));
        assert_eq!(state(b"12 (hop) R 1 2"), Some(b'R'));
        assert_eq!(state(b""), None);
    }
}
