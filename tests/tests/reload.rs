//! The configuration read again while frames flow: what is of stages is done, the rest is named, and what is wrong changes nothing.
//! And the CPUs that processes are bound to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Output,
    time::Duration,
};

use framepipe_tests::{
    Home, Server,
    swaps::{Camera, Models},
    wait_until,
};
use nix::sys::signal::Signal;
use rustix::{process::Pid, thread::sched_getaffinity};

const LIMIT: Duration = Duration::from_secs(120);

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Writes another configuration, and has the pipeline read it.
fn reload(home: &Home, server: &Server, config: &str) -> Output {
    home.configure(config);
    server.run(&["reload"])
}

/// By stage, the pids of its processes.
fn pids(server: &Server) -> BTreeMap<String, BTreeSet<u32>> {
    let mut pids: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for process in server.status().processes {
        assert_eq!(process.state, "ready", "{}", server.output());
        pids.entry(process.stage).or_default().insert(process.pid);
    }
    pids
}

/// The CPUs that each thread of a process may use, as the kernel says.
fn allowed(pid: u32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let status = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    let list = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("the kernel says it");
        line.trim().to_owned()
    };
    status.map(list).collect()
}

fn nice(pid: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields = stat.rsplit_once(')').expect("a name in brackets").1;
    fields.split_whitespace().nth(16).expect("the 19th field").parse().expect("a number")
}

/// The CPUs that this test may use, the first one and the last.
fn cpus() -> (usize, usize) {
    let usable = sched_getaffinity(None::<Pid>).expect("the kernel says it");
    let usable: Vec<usize> = (0..1024).filter(|cpu| usable.is_set(*cpu)).collect();
    (usable[0], usable[usable.len() - 1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_configuration_says_of_stages_is_done_and_the_rest_is_named() {
    let home = Home::new();
    let models = Models::new(&home, 1).config();
    let server = Server::start(&home, &format!("{models}[stages.detect]\nprocesses = 1\n")).await;
    let camera = Camera::start(&server);
    camera.wait_for_more();
    let before = pids(&server);

    let output = reload(&home, &server, &format!("{models}[stages.detect]\nprocesses = 1\n"));
    assert!(output.status.success() && said(&output).contains("says what it said"), "{}", said(&output));
    assert_eq!(pids(&server), before, "nothing has changed");

    // A number by scaling, a nice value by new processes of that stage alone; the journal waits for the next start.
    let more = "[stages.detect]\nprocesses = 2\n[stages.ingest]\nnice = 15\n[journal]\nstreams_max = 7\n";
    let output = reload(&home, &server, &format!("{models}{more}"));
    assert!(output.status.success(), "{}\n{}", said(&output), server.output());
    for words in [
        "stages.detect.processes: 1 -> 2",
        "stages.ingest.nice: 10 -> 15",
        "journal.streams_max: 256 -> 7 needs a restart",
    ] {
        assert!(said(&output).contains(words), "{words:?} is not in: {}", said(&output));
    }
    let after = pids(&server);
    assert!(after["detect"].len() == 2 && after["detect"].is_superset(&before["detect"]), "{before:?} {after:?}");
    assert!(after["ingest"].len() == 1 && after["ingest"].is_disjoint(&before["ingest"]), "{before:?} {after:?}");
    let same = |stage: &str| after[stage] == before[stage];
    assert!(
        ["preprocess", "postprocess", "attribute", "gateway", "keeper"].into_iter().all(same),
        "{before:?} {after:?}"
    );
    after["ingest"].iter().for_each(|pid| assert_eq!(nice(*pid), 15));
    camera.wait_for_more();

    // What an operator has put in force stays, where the file says what it said; a signal does as the command.
    assert!(server.run(&["scale", "detect=1"]).status.success());
    home.configure(&format!("{models}{more}[stages.preprocess]\nbatch_max = 2\n"));
    let preprocess = pids(&server)["preprocess"].clone();
    server.signal(Signal::SIGHUP);
    wait_until("the reload", LIMIT, || server.output().contains("reloaded: stages.preprocess.batch_max: 1 -> 2"));
    assert!(pids(&server)["preprocess"].is_disjoint(&preprocess));
    let batch_max = |stage: &str| server.status().stages.iter().find(|one| one.stage == stage).map(|one| one.batch_max);
    assert_eq!([batch_max("preprocess"), batch_max("ingest")], [Some(2), Some(1)], "what is in force is shown");
    assert_eq!(pids(&server)["detect"].len(), 1);
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_wrong_changes_nothing() {
    let home = Home::new();
    let models = Models::new(&home, 1).config();
    let good = format!("{models}[stages.detect]\nprocesses = 1\n");
    let server = Server::start(&home, &good).await;
    let camera = Camera::start(&server);
    camera.wait_for_more();
    let before = pids(&server);
    for (more, words) in [
        ("[stages.detect]\nprocesses = 0\n", "stages.detect.processes = 0"),
        ("[stages.detect]\nprocesses = 2\n[stages.ingest]\ncpus = \"4000\"\n", "may not use CPU 4000"),
        ("[stages.detect]\nprocesses = 2\nnice = 11\nprocess = 3\n", "unknown field `process`"),
    ] {
        let output = reload(&home, &server, &format!("{models}{more}"));
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains(words) && said(&output).contains("the configuration is wrong"),
            "{}",
            said(&output)
        );
        // The launcher reads it for itself.
        let refusals = || server.output().matches("Nothing has changed").count();
        let before_it = refusals();
        server.signal(Signal::SIGHUP);
        wait_until("it to be refused", LIMIT, || refusals() > before_it);
        assert!(server.output().contains(words), "{}", server.output());
        home.configure(&good); // or `status` could not know which pipeline is meant
        assert_eq!(pids(&server), before);
    }
    // A replacement that cannot start: what is new of its stage is not in force, then or later.
    let model = home.path("models/tiny-face-416/1/model.onnx");
    fs::rename(&model, home.path("elsewhere")).expect("the test's own");
    let output = reload(&home, &server, &format!("{models}[stages.detect]\nprocesses = 1\nnice = 15\n"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("What is new of detect is not in force"), "{}", said(&output));
    fs::rename(home.path("elsewhere"), &model).expect("the test's own");
    wait_until("the old one alone", LIMIT, || server.pids("detect").len() == 1);
    server.kill_one("detect");
    assert_eq!(nice(server.pids("detect")[0]), 10);
    let output = server.run(&["reload"]);
    assert!(output.status.success() && said(&output).contains("stages.detect.nice: 10 -> 15"), "{}", said(&output));
    assert_eq!(nice(server.pids("detect")[0]), 15);
    camera.wait_for_more();
    assert_eq!(camera.versions().await, ["face 1"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_run_on_the_cpus_that_they_are_bound_to() {
    let (first, last) = cpus();
    let home = Home::new();
    let models = Models::new(&home, 1).config();
    let bound = format!(
        "{models}cpus = \"{first}\"\n[cache]\ncpus = \"{last}\"\n[stages.detect]\nprocesses = 2\ncpus = \"{last}\"\n\
         [stages.postprocess]\ncpus = \"{first}\"\n[stages.ingest]\nnuma_node = 0\n"
    );
    let mut server = Server::start(&home, &bound).await;
    let check = |server: &Server, stage: &str, cpus: &str| {
        for process in server.status().stage(stage) {
            assert_eq!(allowed(process.pid), BTreeSet::from([cpus.to_owned()]), "{stage}: a thread runs elsewhere");
            assert_eq!(process.cpus.as_deref(), Some(cpus), "{stage}");
        }
    };
    let (first, last) = (first.to_string(), last.to_string());
    for (stage, cpus) in [("gateway", &first), ("keeper", &last), ("detect", &last), ("postprocess", &first)] {
        check(&server, stage, cpus);
    }
    let all = allowed(server.pid()).into_iter().next().expect("it has one thread at least");
    check(&server, "attribute", &all);
    check(&server, "preprocess", &all);
    server.kill_one("detect");
    check(&server, "detect", &last);
    // Bound elsewhere, live.
    let output = reload(
        &home,
        &server,
        &bound.replace(&format!("processes = 2\ncpus = \"{last}\""), &format!("processes = 2\ncpus = \"{first}\"")),
    );
    assert!(output.status.success(), "{}", said(&output));
    check(&server, "detect", &first);
    server.signal(Signal::SIGTERM);
    assert!(server.wait_end().success());

    for (more, words) in [
        ("[stages.detect]\ncpus = \"4000\"\n", "stages.detect.cpus = \"4000\": this program may not use CPU 4000, but"),
        ("[stages.detect]\nnuma_node = 4000\n", "stages.detect.numa_node = 4000: there is no such node here"),
        ("[cache]\ncpus = \"0\"\nnuma_node = 0\n", "cache.numa_node = 0: cache.cpus = \"0\" is said too"),
        ("cpus = \"0-\"\n", "\"0-\" is no list of CPUs"),
    ] {
        let mut server = Server::launch(&home, &format!("{models}{more}"));
        assert_eq!(server.wait_end().code(), Some(1), "{more}");
        assert!(server.output().contains(words), "{words:?} is not in: {}", server.output());
    }
}

/// Whichever stage holds the others up on this machine gets the one process that the budget has room for, and then no stage does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_goes_to_the_bottleneck_by_itself_and_not_beyond_the_budget() {
    let home = Home::new();
    let config = format!("{}[stages.detect]\nprocesses = 1\n", Models::new(&home, 1).config());
    let mut server = Server::launch_with(&home, &config, &["--auto", "--auto-cores", "6"]);
    server.wait_ready().await;
    let camera = Camera::start(&server);
    wait_until("a process more", LIMIT, || server.output().contains("gets one process: "));
    wait_until("it to be warm", LIMIT, || {
        let status = server.status();
        status.processes.len() == 8 && status.processes.iter().all(|process| process.state == "ready")
    });
    camera.wait_for_more();
    let status = server.status();
    assert_eq!(status.stages.iter().map(|stage| stage.wanted).sum::<u32>(), 6, "{status:?}");
    assert_eq!(camera.versions().await, ["face 1"]);
    server.stop();
}
