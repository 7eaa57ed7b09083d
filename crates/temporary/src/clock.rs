//! Time on the clock that all processes share, and CPU time: of a process, and of the whole machine.

use std::time::Duration;

use anyhow::Context as _;
use nix::{time::ClockId, unistd::Pid};

/// The unit of /proc/stat, on every architecture that this runs on.
const TICKS_PER_S: u64 = 100;

/// Nanoseconds of CLOCK_MONOTONIC: the same in every process.
///
/// # Errors
/// When the kernel has no such clock.
pub fn now_ns() -> anyhow::Result<u64> {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU time that a process has used, all its threads together.
///
/// # Errors
/// When there is no such process.
pub fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32));
    clock.map_err(anyhow::Error::from).and_then(read).with_context(|| format!("process {pid} ended in the measurement"))
}

/// CPU time that the whole machine has used; what the hypervisor gave to others counts as used.
///
/// # Errors
/// When /proc/stat cannot be read.
pub fn machine_cpu() -> anyhow::Result<Duration> {
    busy("cpu")
}

/// The same of some of its CPUs.
///
/// # Errors
/// When /proc/stat cannot be read, or has no such CPU.
pub fn cpus_busy(cpus: &[usize]) -> anyhow::Result<Duration> {
    cpus.iter().map(|cpu| busy(&format!("cpu{cpu}"))).sum()
}

fn busy(cpu: &str) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks = parse_busy_ticks(&stat, cpu).with_context(|| format!("/proc/stat has no line of {cpu}"))?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_S))
}

/// A CPU's line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, …
fn parse_busy_ticks(stat: &str, cpu: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix(cpu)?.strip_prefix(' '))?;
    let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *numbers.first_chunk()?;
    Some(user + nice + system + irq + softirq + steal)
}

fn read(clock: ClockId) -> anyhow::Result<u64> {
    let time = clock.now()?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 9\ncpu1 1 0 0 5 5 0 0 0 0 0";
        assert_eq!(parse_busy_ticks(stat, "cpu"), Some(63));
        assert_eq!(parse_busy_ticks(stat, "cpu1"), Some(1));
        assert_eq!((parse_busy_ticks(stat, "cpu0"), parse_busy_ticks(stat, "cpu2")), (None, None));
    }

    #[test]
    fn clocks_go_on() {
        let (time, cpu) = (now_ns().unwrap(), cpu_ns(std::process::id()).unwrap());
        assert!(now_ns().unwrap() > time && cpu_ns(std::process::id()).unwrap() > cpu);
        assert!(machine_cpu().unwrap() > Duration::ZERO && cpus_busy(&[0]).unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        assert!(child.wait().unwrap().success() && cpu_ns(child.id()).is_err());
    }
}
