//! CPUs that processes are bound to: those that the configuration names, or whose NUMA node it does, and those that are near to a
//! GPU, as the kernel tells them.

use std::{fmt, fs::File, io, io::Read as _, path::Path};

use anyhow::{Context as _, bail, ensure};
use framepipe_pipeline::{Config, CpuList, GATEWAY, Pinning, STAGES};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use tracing::warn;

/// Where the kernel tells of PCI devices.
const PCI_DEVICES: &str = "/sys/bus/pci/devices";
/// Where it tells of NUMA nodes.
const NODES: &str = "/sys/devices/system/node";
/// Most bytes of a list that are read.
const LIST_BYTES_MAX: u64 = 4096;
/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

/// Some of the CPUs that the launcher may use.
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
    let usable = usable().ok()?;
    within(&list.parse().ok()?, &usable).filter(|Cpus(near)| *near != usable)
}

/// What the processes of each kind are bound to, as the configuration says.
#[derive(Clone)]
pub struct Pins {
    stages: Vec<Option<Cpus>>,
    gateway: Option<Cpus>,
    keeper: Option<Cpus>,
}

impl Pins {
    /// Those of a configuration.
    ///
    /// # Errors
    /// Where it names CPUs that the launcher may not use, or a node that there is not.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let usable = usable().context("the CPUs that this program may use")?;
        let stages = STAGES.iter().zip(&config.stages);
        Ok(Self {
            stages: stages
                .map(|(row, stage)| asked(&stage.pinning, &format!("stages.{}", row.name), &usable))
                .collect::<anyhow::Result<_>>()?,
            gateway: asked(&config.server.pinning, "server", &usable)?,
            keeper: asked(&config.cache.pinning, "cache", &usable)?,
        })
    }

    /// Binds the stages' processes to what others say of them.
    pub fn take_stages(&mut self, others: Self) {
        self.stages = others.stages;
    }

    /// Binds one stage's to what it was bound to before.
    pub fn leave_stage(&mut self, stage: usize, before: &Self) {
        self.stages[stage] = before.stages[stage];
    }

    /// Of the processes that bear a stage's number, or what stands in its place.
    pub fn of_stage(&self, stage: usize) -> Option<&Cpus> {
        match self.stages.get(stage) {
            Some(cpus) => cpus.as_ref(),
            None if stage == GATEWAY => self.gateway.as_ref(),
            None => self.keeper.as_ref(),
        }
    }
}

/// What a section of the configuration asks for.
fn asked(pinning: &Pinning, section: &str, usable: &CpuSet) -> anyhow::Result<Option<Cpus>> {
    if let Some(list) = &pinning.cpus {
        let may = |cpu: usize| cpu < CpuSet::count() && usable.is_set(cpu) == Ok(true);
        if let Some((first, _)) =
            list.ranges().find(|(first, last)| *last >= CpuSet::count() || !(*first..=*last).all(may))
        {
            let wrong = (first..).find(|cpu| !may(*cpu)).unwrap_or(first);
            bail!(
                "{section}.cpus = \"{list}\": this program may not use CPU {wrong}, but {} alone: name some of those, or let it \
                 have more (taskset, the unit's CPUAffinity or AllowedCPUs, the container's --cpuset-cpus)",
                Cpus(*usable)
            );
        }
        return Ok(within(list, usable));
    }
    let Some(node) = pinning.numa_node else { return Ok(None) };
    let folder = Path::new(NODES).join(format!("node{node}"));
    let list = read(&folder.join("cpulist")).with_context(|| {
        let there = read(&Path::new(NODES).join("online")).unwrap_or_default();
        format!("{section}.numa_node = {node}: there is no such node here; there are: {}", there.trim())
    })?;
    let cpus = list.parse().ok().and_then(|list| within(&list, usable));
    ensure!(
        cpus.is_some(),
        "{section}.numa_node = {node}: it has no CPU that this program may use; it has: {}",
        list.trim()
    );
    Ok(cpus)
}

fn usable() -> nix::Result<CpuSet> {
    sched_getaffinity(SELF)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIST_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Those of a list that may be used, where there are any. CPUs that a set has no room for are none that may be.
fn within(list: &CpuList, usable: &CpuSet) -> Option<Cpus> {
    let mut both = CpuSet::new();
    let may = |cpu: &usize| usable.is_set(*cpu) == Ok(true);
    for (first, last) in list.ranges() {
        let known = first..=last.min(CpuSet::count() - 1);
        known.filter(may).for_each(|cpu| both.set(cpu).expect("it is below the count"));
    }
    (both != CpuSet::new()).then_some(Cpus(both))
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
        Some(Err(error)) => warn!("a process is not bound to its CPUs: {error}"),
        Some(Ok(before)) => {
            if let Err(error) = sched_setaffinity(SELF, &before) {
                warn!("this process stays bound to the CPUs of its last child: {error}");
            }
        }
    }
    done
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        CpuList::from(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn list(text: &str) -> CpuList {
        text.parse().expect("a list")
    }

    fn set(text: &str) -> CpuSet {
        within(&list(text), &all()).expect("there are some").0
    }

    fn all() -> CpuSet {
        let mut all = CpuSet::new();
        (0..CpuSet::count()).for_each(|cpu| all.set(cpu).expect("it is below the count"));
        all
    }

    #[test]
    fn a_set_is_written_as_the_kernel_writes_it() {
        for text in ["0", "0-3", "0-3,8,10-11", "0-15,32-47", "7,1023"] {
            assert_eq!(Cpus(set(text)).to_string(), text);
        }
        assert_eq!(Cpus(set("1022-18446744073709551615")).to_string(), "1022-1023");
        assert_eq!(Cpus(set("5000,3")).to_string(), "3");
    }

    #[test]
    fn cpus_that_may_not_be_used_and_nodes_that_are_not_there_are_errors() {
        let usable = set("0-3,6");
        let of = |cpus: Option<&str>, numa_node| {
            let pinning = Pinning { cpus: cpus.map(list), numa_node };
            asked(&pinning, "stages.detect", &usable).map_err(|error| format!("{error:#}"))
        };
        let cpus = |text| of(Some(text), None).map(|cpus| cpus.expect("they are asked for").to_string());
        assert_eq!(of(None, None), Ok(None));
        assert_eq!(cpus("2-3,6"), Ok("2-3,6".into()));
        assert_eq!(cpus("6,0"), Ok("0,6".into()));
        for (text, wrong) in [("0-4", 4), ("5", 5), ("2,6-7", 7), ("3,5000", 5000), ("1-18446744073709551615", 4)] {
            let said = cpus(text).expect_err("they are not all there");
            assert!(said.starts_with(&format!("stages.detect.cpus = \"{text}\"")), "{said}");
            assert!(said.contains(&format!("may not use CPU {wrong}, but 0-3,6 alone")), "{said}");
        }
        let said = of(None, Some(4_000_000)).expect_err("there is no such node");
        assert!(
            said.starts_with("stages.detect.numa_node = 4000000: there is no such node here; there are: "),
            "{said}"
        );
    }

    #[test]
    fn nothing_is_bound_where_no_cpu_is_known_to_be_near() {
        assert_eq!(within(&list("0-3"), &set("2-9")).map(|cpus| cpus.to_string()), Some("2-3".into()));
        assert_eq!(within(&list("8-15"), &set("0-7")), None, "none that may be used");
        for bus_id in ["", "x", "../../../etc:passwd", "0000:ff:1f.7", "g:0", "0000:/", "1:2:3:4", "99999999999:0"] {
            assert_eq!(near_to(bus_id), None, "{bus_id:?}");
        }
    }

    #[test]
    fn a_process_that_is_started_bound_has_these_cpus_and_the_launcher_has_all_again() {
        let before = sched_getaffinity(SELF).expect("it is known");
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu) == Ok(true)).expect("a CPU runs this");
        let cpus = Cpus(set(&first.to_string()));
        let started =
            bound_to(Some(&cpus), || Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output());
        let said = String::from_utf8(started.expect("it runs").stdout).expect("text");
        assert_eq!(said.trim_start_matches("Cpus_allowed_list:").trim(), first.to_string());
        assert_eq!(sched_getaffinity(SELF).expect("it is known"), before);
    }
}
