//! The CPUs that are near to a GPU, as the kernel tells them, and processes that are bound to them.

use std::{fmt, fs::File, io, io::Read as _, path::Path};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::log::say;

/// Where the kernel tells of PCI devices.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// Most bytes of a list that are read.
const LIST_BYTES_MAX: u64 = 4096;
/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

/// Some of the CPUs that the launcher may use, not all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpus(CpuSet);

/// The CPUs near to a PCI device; none, where the kernel does not say so, or where all that the launcher may use are.
pub fn near_to(bus_id: &str) -> Option<Cpus> {
    let is_address = bus_id.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    // The kernel writes the domain in four digits, some of NVIDIA's programs in eight.
    let (domain, rest) = bus_id.split_once(':').filter(|_| is_address)?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    let folder = format!("{domain:04x}:{}", rest.to_ascii_lowercase());
    let list = read(&Path::new(PCI_DEVICES).join(folder).join("local_cpulist")).ok()?;
    within(&parse(&list)?, &sched_getaffinity(SELF).ok()?)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIST_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Those of a list that may be used, where that is some and not all.
fn within(list: &CpuSet, usable: &CpuSet) -> Option<Cpus> {
    let mut both = CpuSet::new();
    let are_set = |cpu: &usize| [list, usable].iter().all(|set| set.is_set(*cpu) == Ok(true));
    (0..CpuSet::count()).filter(are_set).for_each(|cpu| both.set(cpu).expect("it is below the count"));
    (both != CpuSet::new() && both != *usable).then_some(Cpus(both))
}

/// Reads the kernel's way to write a set, `0-3,8,10-11`. CPUs that a set has no room for are left out; none: it is no list.
fn parse(text: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last {
            return None;
        }
        (first..=last.min(CpuSet::count() - 1)).for_each(|cpu| set.set(cpu).expect("it is below the count"));
    }
    Some(set)
}

/// Does something (starts a process) bound to these CPUs, and is free again then. What cannot be bound is done all the same.
pub fn bound_to<T>(cpus: Option<&Cpus>, act: impl FnOnce() -> T) -> T {
    let bound = cpus.map(|Cpus(set)| {
        let before = sched_getaffinity(SELF)?;
        sched_setaffinity(SELF, set).map(|()| before)
    });
    let done = act();
    match bound {
        None => {}
        Some(Err(error)) => say!("launcher: a process is not bound to its CPUs: {error}"),
        Some(Ok(before)) => {
            if let Err(error) = sched_setaffinity(SELF, &before) {
                say!("launcher: this process stays bound to the CPUs of its last child: {error}");
            }
        }
    }
    done
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_in = |cpu: usize| self.0.is_set(cpu) == Ok(true);
        let mut separator = "";
        let mut first = None;
        for cpu in 0..=CpuSet::count() {
            match (first, is_in(cpu)) {
                (None, true) => first = Some(cpu),
                (Some(begin), false) => {
                    let end = if begin == cpu - 1 { String::new() } else { format!("-{}", cpu - 1) };
                    write!(f, "{separator}{begin}{end}")?;
                    (separator, first) = (",", None);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_list_of_cpus_is_read_as_it_is_written_and_nothing_else_is_one() {
        for list in ["0", "0-3", "0-3,8,10-11", "0-15,32-47", "7,1023"] {
            assert_eq!(Cpus(parse(&format!("{list}\n")).expect(list)).to_string(), list);
        }
        assert_eq!(Cpus(parse("1022-18446744073709551615").expect("a list")).to_string(), "1022-1023");
        assert_eq!(Cpus(parse("5000,3").expect("a list")).to_string(), "3");
        let hostile =
            ["", "\n", ",", "1,", "-", "3-1", "-1", "1-2-3", "a", "0x1", "1 2", "18446744073709551616", "\0", "١"];
        hostile.into_iter().for_each(|list| assert_eq!(parse(list), None, "{list:?}"));
    }

    #[test]
    fn nothing_is_bound_where_all_cpus_are_near_or_none_is_known() {
        let set = |list| parse(list).expect("a list");
        assert_eq!(within(&set("0-3"), &set("2-9")).map(|cpus| cpus.to_string()), Some("2-3".into()));
        assert_eq!(within(&set("0-63"), &set("0-7")), None, "all");
        assert_eq!(within(&set("8-15"), &set("0-7")), None, "none that may be used");
        for bus_id in ["", "x", "../../../etc:passwd", "0000:ff:1f.7", "g:0", "0000:/", "1:2:3:4", "99999999999:0"] {
            assert_eq!(near_to(bus_id), None, "{bus_id:?}");
        }
    }

    #[test]
    fn a_process_that_is_started_bound_has_these_cpus_and_the_launcher_has_all_again() {
        let before = sched_getaffinity(SELF).expect("it is known");
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true)).expect("a CPU runs this");
        let cpus = Cpus(parse(&first.to_string()).expect("a list"));
        let started =
            bound_to(Some(&cpus), || Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output());
        let said = String::from_utf8(started.expect("it runs").stdout).expect("text");
        assert_eq!(said.trim_start_matches("Cpus_allowed_list:").trim(), first.to_string());
        assert_eq!(sched_getaffinity(SELF).expect("it is known"), before);
    }
}
