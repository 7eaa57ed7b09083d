use std::{io::ErrorKind, path::Path};

use framepipe_pipeline::{Config, MemoryNeed, Overrides};
use rustix::io::Errno;

use super::{
    checks::Check,
    kernel::{Limits, Mount, limits, listeners, mount_of, swaps},
    machine::{NO_FOLDER, Pipeline, Port, Ulimits, Unbound},
    *,
};
use crate::room::Room;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn mount(kind: &str, options: &str) -> Option<Mount> {
    Some(Mount { kind: kind.into(), options: options.into() })
}

/// A machine with all that is needed.
fn good() -> Machine {
    let overrides = Overrides { cores: Some(2), ..Overrides::default() };
    let config = Config::parse("[pipeline]\ndetector = \"finder\"\n", Path::new("/etc/x.toml"), &overrides);
    let pipeline = Pipeline {
        config: config.expect("it is good"),
        layers: vec!["file"],
        need: Ok(MemoryNeed { segment: 300 * MIB, slabs: 0, cache: 256 * MIB, journal: 64 * MIB, inbox: GIB }),
        models: vec![("finder@1".into(), Ok(()))],
        room: Ok(Room { folder: "/dev/shm".into(), total: 8 * GIB, free: 7 * GIB, held: 0 }),
        shm: mount("tmpfs", "rw,rw,size=8388608k"),
        inboxes: vec![("/dev/shm/framepipe-inbox".into(), mount("tmpfs", "rw,rw"))],
        engine: Ok("libonnxruntime.so: 1.23".into()),
        open_files: 768,
        folders: vec![("/run/framepipe".into(), Ok(()))],
        ports: vec![Port { key: "server.tcp", address: "127.0.0.1:1".into(), bound: Ok(()), is_own: false }],
        launcher: None,
    };
    Machine {
        release: "6.1.0-18-amd64".into(),
        features: vec![("openat2", Ok(())), ("futex", Ok(()))],
        swaps: Vec::new(),
        limits: Limits::default(),
        available: Some(16 * GIB),
        ulimits: Ulimits { open_files: Some(1024), ..Ulimits::default() },
        shmem_enabled: Some("always within_size advise [never] deny force\n".into()),
        cpu: vec![("AVX2", true), ("AVX-512 VNNI", true)],
        gpus: Ok(Vec::new()),
        options: "--config x.toml".into(),
        pipeline: Ok(pipeline),
    }
}

/// A good machine, changed.
fn with(change: impl FnOnce(&mut Machine, &mut Pipeline)) -> Machine {
    let mut machine = good();
    let mut pipeline = std::mem::replace(&mut machine.pipeline, Err(String::new())).expect("it is good");
    change(&mut machine, &mut pipeline);
    machine.pipeline = Ok(pipeline);
    machine
}

fn look(name: &str, machine: &Machine) -> Option<Finding> {
    let check = CHECKS.iter().find(|check| check.name == name).expect("there is such a check");
    (check.look)(machine)
}

#[test]
fn a_good_machine_is_good_in_every_row() {
    let report = Report::of(&good());
    let wrong: Vec<_> =
        report.rows.iter().filter(|row| row.finding.state != State::Good).map(|row| row.check).collect();
    assert_eq!(wrong, Vec::<&str>::new());
    assert_eq!(report.rows.len(), CHECKS.len() - 1, "all but the GPU, which nobody asks for");
    assert!(report.is_good() && report.to_string().ends_with("14 good, 0 warnings, 0 failed\n"), "{report}");
}

/// What is wrong, by check, and what it finds then.
fn bad() -> Vec<(&'static str, Machine, State, &'static str)> {
    use State::{Failed, Warning};
    let group = |memory, cpus, swap| Limits { memory, cpus, swap };
    let swapped = |machine: &mut Machine| machine.swaps = vec!["/dev/sda2".into()];
    let port = |machine: &mut Pipeline, kind| {
        machine.ports[0].bound = Err(Unbound { why: "it cannot be had".into(), kind });
    };
    let on_gpu = |pipeline: &mut Pipeline| pipeline.config.device = "GPU-1a".parse().expect("a device");
    let gpu = r#"[{"uuid": "GPU-2b", "name": "T4", "pci_bus_id": "0000:3b:00.0"}]"#;
    let gpus = || Ok(serde_json::from_str(gpu).expect("a list"));
    let room = |free| Ok(Room { folder: "/dev/shm".into(), total: GIB, free, held: 0 });
    vec![
        (
            "configuration",
            Machine { pipeline: Err("x.toml: y".into()), ..good() },
            Failed,
            "config check --config x.toml says more; what",
        ),
        ("configuration", with(|_, pipeline| pipeline.need = Err("no model".into())), Failed, "no model"),
        (
            "kernel",
            with(|machine, _| {
                (machine.release, machine.features[0].1) = ("5.4.0-generic".into(), Err(Errno::NOSYS));
            }),
            Failed,
            "Linux 5.6 or newer",
        ),
        ("kernel", with(|machine, _| machine.features[1].1 = Err(Errno::PERM)), Failed, "seccomp"),
        ("shared memory", with(|_, pipeline| pipeline.room = room(100 * MIB)), Failed, "docker run --shm-size"),
        ("shared memory", with(|_, pipeline| pipeline.room = room(400 * MIB)), Warning, "cache.memory_bytes_max"),
        ("shared memory", with(|_, pipeline| pipeline.shm = mount("ext4", "rw")), Warning, "no tmpfs"),
        ("shared memory", with(|_, pipeline| pipeline.room = Err("/dev/shm: gone".into())), Failed, "paths.shm"),
        ("memory", with(|machine, _| machine.limits = group(Some(200 * MIB), None, None)), Failed, "MemoryMax="),
        ("memory", with(|machine, _| machine.limits = group(Some(GIB), None, None)), Warning, "may kill processes"),
        ("memory", with(|machine, _| machine.available = Some(100 * MIB)), Failed, "free memory"),
        ("memory", with(|machine, _| machine.available = Some(GIB)), Warning, "may kill processes"),
        ("inbox", with(|_, pipeline| pipeline.inboxes[0].1 = mount("ext4", "rw")), Warning, "on ext4"),
        ("inbox", with(|_, pipeline| pipeline.inboxes[0].1 = None), Warning, "unknown file system"),
        ("swap", with(|machine, _| swapped(machine)), Warning, "noswap"),
        ("cpus", with(|_, pipeline| pipeline.config.stages[2].processes = 3), Warning, "stages.detect.processes"),
        ("cpus", with(|machine, _| machine.limits = group(None, Some(0.5), None)), Warning, "CPUQuota="),
        ("cpu features", with(|machine, _| machine.cpu[1].1 = false), Warning, "without AVX-512 VNNI"),
        ("cpu features", with(|machine, _| machine.cpu[0].1 = false), Warning, "without AVX2"),
        ("cpu features", with(|machine, _| machine.cpu.clear()), Warning, "x86-64 alone"),
        ("limits", with(|machine, _| machine.ulimits.open_files = Some(512)), Failed, "LimitNOFILE=768"),
        ("limits", with(|machine, _| machine.ulimits.file = Some(MIB)), Failed, "ulimit -f"),
        ("limits", with(|machine, _| machine.ulimits.mapped = Some(MIB)), Failed, "ulimit -f"),
        (
            "huge pages",
            with(|machine, _| machine.shmem_enabled = Some("never [force]".into())),
            Warning,
            "whole huge pages",
        ),
        ("huge pages", with(|_, pipeline| pipeline.shm = mount("tmpfs", "rw,huge=always")), Warning, "huge=never"),
        ("engine", with(|_, pipeline| pipeline.engine = Err("no such file".into())), Failed, "paths.onnxruntime"),
        ("models", with(|_, pipeline| pipeline.models[0].1 = Err("sha256".into())), Failed, "finder@1: sha256"),
        ("gpu", with(|_, pipeline| on_gpu(pipeline)), Failed, "no such GPU"),
        (
            "gpu",
            with(|machine, pipeline| {
                on_gpu(pipeline);
                machine.gpus = gpus();
            }),
            Failed,
            "GPU-2b",
        ),
        (
            "gpu",
            with(|machine, pipeline| {
                on_gpu(pipeline);
                machine.gpus = Err("no driver".into());
            }),
            Failed,
            "no driver",
        ),
        (
            "folders",
            with(|_, pipeline| pipeline.folders[0].1 = Err("not yours".into())),
            Failed,
            "not yours -> make it",
        ),
        ("folders", with(|_, pipeline| pipeline.folders[0].1 = Err(NO_FOLDER.into())), Failed, "no folder -> move"),
        (
            "ports",
            with(|_, pipeline| port(pipeline, ErrorKind::AddrInUse)),
            Failed,
            "server.tcp = \"127.0.0.1:1\": it cannot be had -> server.tcp: end who",
        ),
        (
            "ports",
            with(|_, pipeline| port(pipeline, ErrorKind::AddrNotAvailable)),
            Failed,
            "server.tcp: say an address that this host has",
        ),
        (
            "ports",
            with(|_, pipeline| {
                port(pipeline, ErrorKind::PermissionDenied);
                let bound = Err(Unbound { why: "it is taken".into(), kind: ErrorKind::AddrInUse });
                let address = "127.0.0.1:2".into();
                pipeline.ports.push(Port { key: "server.http", address, bound, is_own: false });
            }),
            Failed,
            "server.tcp: say a port above 1023, or give the launcher CAP_NET_BIND_SERVICE, server.http: end who",
        ),
        ("ports", with(|_, pipeline| port(pipeline, ErrorKind::Other)), Failed, "server.tcp: say another address"),
    ]
}

#[test]
fn every_check_finds_what_is_wrong_and_says_what_to_do() {
    let bad = bad();
    for Check { name, .. } in &CHECKS {
        assert!(bad.iter().any(|(check, ..)| check == name), "no bad machine for {name}");
    }
    for (check, machine, state, words) in bad {
        let finding = look(check, &machine).expect(check);
        let advice = finding.advice.clone().unwrap_or_default();
        let said = format!("{} -> {advice}", finding.seen);
        assert_eq!(finding.state, state, "{check}: {said}");
        assert!(!advice.is_empty() && said.contains(words), "{check}: {words:?} is wanted in {said}");
        assert_eq!(Report::of(&machine).is_good(), state == State::Warning, "{check}: {said}");
    }
}

#[test]
fn what_a_running_pipeline_has_already_is_no_lack() {
    let machine = with(|machine, pipeline| {
        machine.available = Some(2 * GIB);
        pipeline.room = Ok(Room { folder: "/dev/shm".into(), total: GIB, free: 400 * MIB, held: 300 * MIB });
        pipeline.ports[0].bound = Err(Unbound { why: "Address already in use".into(), kind: ErrorKind::AddrInUse });
        pipeline.ports[0].is_own = true;
        pipeline.launcher = Some(4711);
    });
    for check in ["shared memory", "memory", "ports", "configuration"] {
        let finding = look(check, &machine).expect(check);
        assert_eq!(finding.state, State::Good, "{check}: {finding:?}");
    }
    assert!(look("configuration", &machine).expect("it is there").seen.contains("launcher 4711"));
}

#[test]
fn swap_that_no_inbox_can_reach_is_no_warning() {
    let noswap = with(|machine, pipeline| {
        machine.swaps = vec!["/swap".into()];
        pipeline.inboxes[0].1 = mount("tmpfs", "rw,rw,noswap");
    });
    let forbidden = with(|machine, _| {
        machine.swaps = vec!["/swap".into()];
        machine.limits.swap = Some(0);
    });
    for machine in [noswap, forbidden] {
        assert_eq!(look("swap", &machine).expect("it is there").state, State::Good);
    }
}

#[test]
fn a_start_warns_of_an_inbox_on_a_disk_alone() {
    let inbox = Path::new("/data/in");
    assert_eq!(on_disk(inbox, mount("tmpfs", "rw").as_ref()), None);
    let said = on_disk(inbox, mount("ext4", "rw").as_ref()).expect("it is a disk");
    assert!(said.contains("/data/in lies on a disk (ext4)") && said.contains("/dev/shm/"), "{said}");
    assert!(on_disk(inbox, None).is_some_and(|said| said.contains("an unknown file system")));
}

#[test]
fn a_gpu_that_nobody_uses_is_told_and_one_that_is_not_there_is_no_matter() {
    assert_eq!(look("gpu", &with(|machine, _| machine.gpus = Err("no driver".into()))), None);
    let listed = r#"[{"uuid": "GPU-2b", "name": "T4", "pci_bus_id": "0000:3b:00.0"}]"#;
    let machine = with(|machine, _| machine.gpus = Ok(serde_json::from_str(listed).expect("a list")));
    assert!(look("gpu", &machine).expect("it is there").seen.contains("T4 (GPU-2b); not used"));
}

#[test]
fn mounts_and_swaps_are_read_as_the_kernel_writes_them() {
    let mountinfo = "25 24 0:23 / /dev/shm rw,nosuid - tmpfs tmpfs rw,size=24683656k,noswap\n\
                     27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\nnonsense\n";
    let shm = mount_of(mountinfo, "0:23").expect("it is there");
    assert_eq!((shm.kind.as_str(), shm.options.as_str()), ("tmpfs", "rw,nosuid,rw,size=24683656k,noswap"));
    assert!(!shm.may_be_swapped() && mount("tmpfs", "rw").expect("one").may_be_swapped());
    let root = mount_of(mountinfo, "254:0").expect("it is there");
    assert!(root.kind == "ext4" && !root.may_be_swapped());
    assert_eq!(mount_of(mountinfo, "0:99"), None);
    assert_eq!(swaps("Filename\tType\n/dev/sda2 partition 1 0 -2\n/swap file 2 0 -3\n"), ["/dev/sda2", "/swap"]);
    assert_eq!(swaps("Filename\tType\n"), Vec::<String>::new());
}

#[test]
fn the_tightest_limit_of_a_group_and_of_all_above_it_counts() {
    let version_2 = "31 23 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let read = |path: &Path| {
        let text = match path.to_str()? {
            "/sys/fs/cgroup/a/b/memory.max" => "max\n",
            "/sys/fs/cgroup/a/memory.max" => "1048576\n",
            "/sys/fs/cgroup/memory.max" => "2097152\n",
            "/sys/fs/cgroup/a/b/cpu.max" => "150000 100000\n",
            "/sys/fs/cgroup/a/cpu.max" => "max 100000\n",
            "/sys/fs/cgroup/a/b/memory.swap.max" => "0\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let wanted = Limits { memory: Some(MIB), cpus: Some(1.5), swap: Some(0) };
    assert_eq!(limits("0::/a/b\n", version_2, read), wanted);

    let version_1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                     32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    let read = |path: &Path| {
        let text = match path.to_str()? {
            "/sys/fs/cgroup/memory/x/memory.limit_in_bytes" => "9223372036854771712\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => "3145728\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us" => "-1\n",
            "/sys/fs/cgroup/cpu/y/cpu.cfs_quota_us" => "50000\n",
            "/sys/fs/cgroup/cpu/y/cpu.cfs_period_us" => "100000\n",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let wanted = Limits { memory: Some(3 * MIB), cpus: Some(0.5), swap: None };
    assert_eq!(limits("4:memory:/x\n1:cpu,cpuacct:/y\n0::/\n", version_1, read), wanted);
    assert_eq!(limits("", "", |_| None), Limits::default());
}

#[test]
fn listeners_are_found_by_their_port() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                 0: 0100007F:C383 0100007F:1234 01 00000000:00000000 00:00000000 00000000  0  0 111 1 0 20\n\
                 1: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 222 1 0 100\n\
                 2: 0200007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 333 1 0 100\n";
    let found = |port| listeners(table, port).collect::<Vec<_>>();
    assert_eq!(found(50051), [222, 333], "the first is a connection");
    assert_eq!(found(50052), Vec::<u64>::new());
}
