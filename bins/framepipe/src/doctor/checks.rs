//! The checks: one a row, each a pure function of what was read of the machine. None: it says nothing of this machine, or needs a
//! configuration where there is no good one, which has a row of its own.

use std::{io::ErrorKind, path::PathBuf};

use framepipe_pipeline::{Device, stage_index};

use super::{
    Finding,
    kernel::Mount,
    machine::{Machine, NO_FOLDER, Pipeline, Port},
};
use crate::{gpu, room::mib};

/// A check.
pub struct Check {
    /// Its name in the report.
    pub name: &'static str,
    /// What it finds.
    pub look: fn(&Machine) -> Option<Finding>,
}

/// Every check, in the order of the report.
pub const CHECKS: [Check; 15] = [
    Check { name: "configuration", look: configuration },
    Check { name: "kernel", look: kernel },
    Check { name: "shared memory", look: shared_memory },
    Check { name: "memory", look: memory },
    Check { name: "inbox", look: inbox },
    Check { name: "swap", look: swap },
    Check { name: "cpus", look: cpus },
    Check { name: "cpu features", look: cpu_features },
    Check { name: "limits", look: limits },
    Check { name: "huge pages", look: huge_pages },
    Check { name: "engine", look: engine },
    Check { name: "models", look: models },
    Check { name: "gpu", look: gpu },
    Check { name: "folders", look: folders },
    Check { name: "ports", look: ports },
];

/// The first kernel with all that framepipe calls: openat2 came last.
const KERNEL_MIN: (u32, u32) = (5, 6);

fn pipeline(machine: &Machine) -> Option<&Pipeline> {
    machine.pipeline.as_ref().ok()
}

fn configuration(machine: &Machine) -> Option<Finding> {
    let mend = format!("mend it; of the files, framepipe config check {} says more", machine.options);
    Some(match &machine.pipeline {
        Err(error) => Finding::failed(error, format!("{mend}; what else needs a configuration is left out here")),
        Ok(Pipeline { need: Err(error), .. }) => Finding::failed(error, mend),
        Ok(Pipeline { config, layers, launcher, .. }) => {
            let runs = launcher.map_or("does not run".into(), |pid| format!("runs, launcher {pid}"));
            Finding::good(format!("pipeline {} of {}; it {runs}", config.name, layers.join(" and ")))
        }
    })
}

fn kernel(machine: &Machine) -> Option<Finding> {
    let missing: Vec<String> = (machine.features.iter())
        .filter_map(|(name, found)| Some(format!("{name} ({})", found.as_ref().err()?)))
        .collect();
    let numbers: Vec<u32> = machine.release.split(['.', '-']).map_while(|number| number.parse().ok()).collect();
    let is_old = matches!(numbers[..], [major, minor, ..] if (major, minor) < KERNEL_MIN);
    let (major, minor) = KERNEL_MIN;
    let seen = format!("Linux {}", machine.release);
    Some(match missing.is_empty() {
        true => Finding::good(format!("{seen}, with {}", names(machine.features.iter().map(|(name, _)| *name)))),
        false if is_old => Finding::failed(
            format!("{seen}, without {}", missing.join(", ")),
            format!("framepipe needs Linux {major}.{minor} or newer"),
        ),
        false => Finding::failed(
            format!("{seen}, without {}", missing.join(", ")),
            "the kernel is new enough: something forbids the call, such as a container's seccomp profile: allow it there",
        ),
    })
}

fn shared_memory(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    let need = pipeline.need.as_ref().ok()?;
    let larger =
        "make it larger (mount -o remount,size=…; docker run --shm-size=…), or lower [pools] and server.frames_max";
    let room = match &pipeline.room {
        Err(error) => return Some(Finding::failed(error, "name a tmpfs in paths.shm")),
        Ok(room) => room,
    };
    let seen = format!(
        "{}: {} of {} free; the pipeline reserves {} at the start, {} at most with the cache and unread results{}",
        room.folder.display(),
        mib(room.free),
        mib(room.total),
        mib(need.segment),
        mib(need.shm()),
        if room.held > 0 { format!(" (it has {} of them)", mib(room.held)) } else { String::new() }
    );
    let is_memory = pipeline.shm.as_ref().is_none_or(Mount::is_memory);
    Some(if room.lacks(need).is_some() {
        Finding::failed(seen, larger)
    } else if !is_memory {
        Finding::warning(format!("{seen}; it is no tmpfs"), "frames would wait for a disk: name a tmpfs in paths.shm")
    } else if need.shm() > room.available() {
        Finding::warning(seen, format!("{larger}, or lower cache.memory_bytes_max and journal.memory_bytes_max"))
    } else {
        Finding::good(seen)
    })
}

fn memory(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    let need = pipeline.need.as_ref().ok()?;
    let held = pipeline.room.as_ref().map_or(0, |room| room.held);
    let of_group = machine.limits.memory;
    let at_start = need.segment.saturating_add(need.slabs);
    let seen = format!(
        "{} available; limit of the control group: {}; {} at the start, {} at most with cache, unread results and images in \
         flight, and what the processes take for themselves",
        machine.available.map_or("an unknown amount".into(), mib),
        of_group.map_or("none".into(), mib),
        mib(at_start),
        mib(need.all())
    );
    let lower = "lower [pools], server.bytes_max, cache.memory_bytes_max and journal.memory_bytes_max";
    let in_group = format!("raise the limit (MemoryMax=, docker run --memory), or {lower}");
    let to_come = at_start.saturating_sub(held);
    Some(if of_group.is_some_and(|most| at_start > most) {
        Finding::failed(seen, in_group)
    } else if machine.available.is_some_and(|available| to_come > available) {
        Finding::failed(seen, format!("free memory, or {lower}"))
    } else if of_group.is_some_and(|most| need.all() > most) {
        Finding::warning(seen, format!("the kernel may kill processes under load: {in_group}"))
    } else if machine.available.is_some_and(|available| need.all().saturating_sub(held) > available) {
        Finding::warning(seen, format!("the kernel may kill processes under load: free memory, or {lower}"))
    } else {
        Finding::good(seen)
    })
}

fn inbox(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    let lies =
        |(folder, mount): &(PathBuf, Option<Mount>)| format!("{} on {}", folder.display(), kind_of(mount.as_ref()));
    let (good, slow): (Vec<_>, Vec<_>) =
        pipeline.inboxes.iter().partition(|(_, mount)| mount.as_ref().is_some_and(Mount::is_memory));
    Some(match slow.is_empty() {
        true => Finding::good(names(good.into_iter().map(lies))),
        false => Finding::warning(
            names(slow.into_iter().map(lies)),
            "each image is written to a disk and read from it, which is slower: name a folder in tmpfs (server.inbox)",
        ),
    })
}

/// What file system it is.
pub fn kind_of(mount: Option<&Mount>) -> &str {
    mount.map_or("an unknown file system", |mount| &mount.kind)
}

fn swap(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    if machine.swaps.is_empty() {
        return Some(Finding::good("no swap is in use"));
    }
    if machine.limits.swap == Some(0) {
        return Some(Finding::good("swap is on, and the control group may not use it"));
    }
    let swapped =
        pipeline.inboxes.iter().filter(|(_, mount)| mount.as_ref().is_some_and(|mount| mount.may_be_swapped()));
    let folders = names(swapped.map(|(folder, _)| folder.display().to_string()));
    let on = format!("swap is on ({})", machine.swaps.join(", "));
    Some(match folders.is_empty() {
        true => Finding::good(format!("{on}, and no inbox can be swapped out")),
        false => Finding::warning(
            format!("{on}, and images in {folders} can be swapped out"),
            "mount a tmpfs of their own with noswap (Linux 6.4 or newer), let the service use no swap (MemorySwapMax=0), or swapoff -a",
        ),
    })
}

fn cpus(machine: &Machine) -> Option<Finding> {
    let config = &pipeline(machine)?.config;
    let quota = machine.limits.cpus.map_or("no quota".into(), |cpus| format!("a quota of {cpus:.2}"));
    let detect = &config.stages[stage_index("detect")?];
    let (processes, threads) = (detect.processes, detect.threads);
    let seen = format!("{} CPUs, with {quota}; detect has {processes} processes of {threads} threads", config.cores);
    Some(if processes * threads > config.cores {
        Finding::warning(
            seen,
            "more threads than CPUs take turns, and frames take longer: lower stages.detect.processes or threads",
        )
    } else if machine.limits.cpus.is_some_and(|cpus| cpus < 1.0) {
        Finding::warning(
            seen,
            "with less than one CPU its processes stand still for a part of the time: raise the quota (CPUQuota=, docker run --cpus)",
        )
    } else {
        Finding::good(seen)
    })
}

fn cpu_features(machine: &Machine) -> Option<Finding> {
    let (has, lacks): (Vec<_>, Vec<_>) = machine.cpu.iter().partition(|(_, is_there)| *is_there);
    let [has, lacks] = [has, lacks].map(|features| names(features.iter().map(|(name, _)| *name)));
    Some(if machine.cpu.is_empty() {
        Finding::warning("another CPU than x86-64", "framepipe has been tested on x86-64 alone")
    } else if lacks.is_empty() {
        Finding::good(has)
    } else if lacks.contains("AVX2") {
        Finding::warning(
            format!("without {lacks}"),
            "tensors and crops are made by plain code, and models run slowly: take a newer CPU",
        )
    } else {
        let slower = "INT8 models run, but slower than with it: docs/benchmarks.md has the figures of both";
        Finding::warning(format!("{has}, without {lacks}"), slower)
    })
}

fn limits(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    let ulimits = &machine.ulimits;
    let words = |limit: Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
    let seen = format!(
        "open files {} ({} are needed); locked memory {} bytes (framepipe locks none); file size {}; mapped memory {}",
        words(ulimits.open_files),
        pipeline.open_files,
        words(ulimits.locked),
        words(ulimits.file),
        words(ulimits.mapped)
    );
    let need = pipeline.need.as_ref().ok();
    let is_small = |limit: Option<u64>| limit.zip(need).is_some_and(|(limit, need)| limit < need.segment);
    Some(if ulimits.open_files.is_some_and(|most| most < pipeline.open_files) {
        Finding::failed(
            seen,
            format!(
                "raise the hard limit of open files (ulimit -Hn {0}, LimitNOFILE={0}, docker run --ulimit nofile={0}), or lower \
                 journal.streams_max or server.connections_max",
                pipeline.open_files
            ),
        )
    } else if is_small(ulimits.file) || is_small(ulimits.mapped) {
        Finding::failed(
            seen,
            "the segment is larger than a file, or what a process maps, may be: ulimit -f unlimited -v unlimited",
        )
    } else {
        Finding::good(seen)
    })
}

fn huge_pages(machine: &Machine) -> Option<Finding> {
    let said = machine.shmem_enabled.as_deref()?;
    let chosen = said.split(['[', ']']).nth(1).unwrap_or(said.trim());
    let shm = pipeline(machine)?.shm.as_ref();
    let mounted = shm.and_then(|mount| mount.options.split(',').find_map(|option| option.strip_prefix("huge=")));
    let seen =
        format!("shmem_enabled is {chosen}, and the shared memory is mounted with huge={}", mounted.unwrap_or("never"));
    Some(if chosen == "force" || (mounted == Some("always") && chosen != "deny") {
        Finding::warning(
            seen,
            "small files there may take whole huge pages, more memory than they have bytes: mount it with huge=never or \
             huge=within_size, and write never to /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        )
    } else {
        Finding::good(seen)
    })
}

fn engine(machine: &Machine) -> Option<Finding> {
    let pipeline = pipeline(machine)?;
    Some(match &pipeline.engine {
        Ok(said) => Finding::good(said),
        Err(error) => {
            Finding::failed(error, "run scripts/setup, or say where ONNX Runtime's library lies (paths.onnxruntime)")
        }
    })
}

fn models(machine: &Machine) -> Option<Finding> {
    let models = &pipeline(machine)?.models;
    let wrong =
        names(models.iter().filter_map(|(name, verified)| Some(format!("{name}: {}", verified.as_ref().err()?))));
    Some(match (models.is_empty(), wrong.is_empty()) {
        (true, _) => return None, // their manifests are what is wrong: the configuration's row says so
        (false, true) => {
            Finding::good(format!("{}: files as their manifests say", names(models.iter().map(|(name, _)| name))))
        }
        (false, false) => Finding::failed(
            wrong,
            "fetch it again (scripts/setup), or put the file that the manifest names into its place",
        ),
    })
}

fn gpu(machine: &Machine) -> Option<Finding> {
    let wanted = pipeline(machine).map(|pipeline| &pipeline.config.device);
    let found = machine.gpus.as_ref();
    let all = found.map(|gpus| names(gpus.iter().map(|gpu| gpu.to_string()))).unwrap_or_default();
    match (wanted, found) {
        (Some(Device::Gpu(uuid)), Ok(gpus)) => Some(match gpu::choose(gpus.clone(), uuid.as_deref()) {
            Ok(gpu) => Finding::good(gpu.to_string()),
            Err(error) => {
                Finding::failed(error.to_string(), "name one of these in pipeline.device (framepipe gpu-list)")
            }
        }),
        (Some(Device::Gpu(_)), Err(error)) => {
            Some(Finding::failed(error, "mend that, or let the pipeline run on the CPU (pipeline.device = \"cpu\")"))
        }
        (_, Ok(gpus)) if !gpus.is_empty() => {
            Some(Finding::good(format!("{all}; not used: pipeline.device says otherwise")))
        }
        _ => None,
    }
}

fn folders(machine: &Machine) -> Option<Finding> {
    let folders = &pipeline(machine)?.folders;
    let wrong =
        folders.iter().filter_map(|(folder, found)| Some(format!("{}: {}", folder.display(), found.as_ref().err()?)));
    let wrong = names(wrong);
    Some(match wrong.is_empty() {
        true => Finding::good(format!(
            "{} may be used",
            names(folders.iter().map(|(folder, _)| folder.display().to_string()))
        )),
        false => {
            let is_permission =
                folders.iter().filter_map(|(_, found)| found.as_ref().err()).any(|why| why != NO_FOLDER);
            let first = if is_permission { "make it this user's (chown, chmod)" } else { "move what is there away" };
            Finding::failed(wrong, format!("{first}, or name another in [paths] or server.inbox"))
        }
    })
}

fn ports(machine: &Machine) -> Option<Finding> {
    let ports = &pipeline(machine)?.ports;
    let unbound = |port: &Port| port.bound.as_ref().err().filter(|_| !port.is_own).cloned();
    let wrong = names(
        ports.iter().filter_map(|port| Some(format!("{} = {:?}: {}", port.key, port.address, unbound(port)?.why))),
    );
    let mends = names(ports.iter().filter_map(|port| {
        let mend = match unbound(port)?.kind {
            ErrorKind::AddrInUse => "end who listens there (ss -ltnp), or say another address",
            ErrorKind::AddrNotAvailable => "say an address that this host has (ip address), or 0.0.0.0 for all of them",
            ErrorKind::PermissionDenied => "say a port above 1023, or give the launcher CAP_NET_BIND_SERVICE",
            _ => "say another address",
        };
        Some(format!("{}: {mend}", port.key))
    }));
    let all = names(ports.iter().map(|port| match port.is_own {
        true => format!("{} is this pipeline's", port.address),
        false => format!("{} is free", port.address),
    }));
    Some(match (ports.is_empty(), wrong.is_empty()) {
        (true, _) => Finding::good("none is asked for"),
        (false, true) => Finding::good(all),
        (false, false) => Finding::failed(wrong, mends),
    })
}

fn names(of: impl Iterator<Item = impl ToString>) -> String {
    of.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
