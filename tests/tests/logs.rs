//! The log of a pipeline: the forms that it has, what its processes say in it, and `framepipe logs`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use framepipe_client::{Client, PushRequest, ResultsOptions, StreamExt as _};
use framepipe_tests::{Home, Server, images::png, program, wait_until};
use serde_json::Value;

const CONFIG: &str = "name = \"logs\"\n[pipeline]\ndetector = \"tiny-face-416\"\n";
const STREAM: &str = "camera";
const LIMIT: Duration = Duration::from_secs(120);
const LAST: &str = "all accepted frames are answered; stopped";

/// Pushes a frame that a stage breaks, which another one says, and returns its number once it is answered.
async fn push_broken(client: &Client) -> u64 {
    let images = [png(16, 16)];
    let request = PushRequest::images(&images).names(["fault:detect:scribble"]).stream(STREAM);
    let batch = client.push(request).await.expect("the push is good");
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let results = client.results(STREAM, options).collect::<Vec<_>>();
    tokio::time::timeout(LIMIT, results).await.expect("all results in time");
    batch.first_frame
}

fn text<'v>(line: &'v Value, key: &str) -> &'v str {
    line[key].as_str().unwrap_or_else(|| panic!("no text {key:?}: {line}"))
}

fn parse(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_read_each_line_with_who_said_it_and_what_it_is_about() {
    let home = Home::new();
    let mut server = Server::launch_with(&home, CONFIG, &["--log", "json"]);
    server.wait_ready().await;
    let pids = server.status();
    let frame = push_broken(&server.client()).await;
    let lines = parse(&server.stop());

    let mut newest: BTreeMap<u64, SystemTime> = BTreeMap::new();
    for line in &lines {
        let time = humantime::parse_rfc3339(text(line, "timestamp")).expect("a time");
        let before = newest.insert(line["pid"].as_u64().expect("a pid"), time);
        assert!(before.is_none_or(|before| before <= time), "lines of one process stay in their order: {line}");
    }
    let broken = lines.iter().find(|line| line["fields"]["frame"] == frame).expect("a line of the frame");
    let of_process = pids.stage("postprocess").next().expect("it runs").pid;
    assert_eq!((text(broken, "process"), broken["pid"].as_u64()), ("postprocess[0]", Some(of_process.into())));
    assert_eq!((text(broken, "level"), text(broken, "target")), ("error", "framepipe_pipeline::stage_loop"));
    assert!(text(broken, "message").starts_with(&format!("frame {frame}: ")), "{broken}");
    let last = lines.last().expect("a line");
    assert_eq!((text(last, "process"), text(last, "message")), ("launcher", LAST));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_level_holds_for_all_processes_and_the_command_line_wins() {
    let home = Home::new();
    let run = async |environment: &str, arguments: &[&str]| {
        let mut server = Server::launch_as(&home, &format!("{CONFIG}[log]\nlevel = \"info\"\n"), |command| {
            command.args(arguments).env("FRAMEPIPE_LOG", environment);
        });
        server.wait_ready().await;
        let frame = push_broken(&server.client()).await;
        (server.stop(), frame)
    };
    let (said, frame) = run("warn", &[]).await;
    assert!(!said.contains("INFO") && said.contains(&format!("ERROR postprocess[0]: frame {frame}: ")), "{said}");
    let before = said.len();
    let (said, frame) = run("error", &["--log-level", "info"]).await;
    let said = &said[before..];
    assert!(said.contains("INFO  launcher: listening on unix:"), "{said}");
    assert!(said.contains(&format!("ERROR postprocess[0]: frame {frame}: ")), "{said}");
    assert!(said.ends_with(&format!(" INFO  launcher: {LAST}\n")), "{said}");
    assert!(!said.contains('\x1b'), "no terminal, no colour: {said}");

    let wrong = Server::launch_as(&home, CONFIG, |command| {
        command.env("FRAMEPIPE_LOG", "loud");
    });
    wait_until("the refusal", LIMIT, || wrong.output().contains("FRAMEPIPE_LOG: log.level = \"loud\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_lines_are_shown_and_those_that_come_until_the_end() {
    let home = Home::new();
    let server = Server::start(&home, CONFIG).await;
    let shown = |arguments: &[&str]| {
        let output = server.run(&[&["logs"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it is text")
    };
    wait_until("the pipeline to say that it is ready", LIMIT, || shown(&[]).contains("launcher: logs is ready after "));
    wait_until("what is shown to be the log's", LIMIT, || shown(&[]) == server.output());
    let all = shown(&[]);
    assert_eq!(shown(&["-n", "1"]).lines().collect::<Vec<_>>(), all.lines().last().into_iter().collect::<Vec<_>>());
    assert_eq!(shown(&["--process", "detect"]), "", "detect said nothing");
    let silence = |arguments: &[&str]| {
        let output = server.run(&[&["logs", "--process", "detect"], arguments].concat());
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("it is text")
    };
    assert_eq!(silence(&[]), "framepipe logs: no lines of detect among those kept\n");
    assert_eq!(
        silence(&["--level", "warn"]),
        "framepipe logs: no lines of detect at level warn or graver among those kept\n"
    );
    ["--json", "-n0"].iter().for_each(|option| assert_eq!(silence(&[option]), "", "{option}"));
    for absent in ["detect[7]", "4294967295"] {
        for (options, are_all_asked_for) in
            [(&[] as &[&str], true), (&["--json"], true), (&["--level", "error"], false), (&["-n0"], false)]
        {
            let output = server.run(&[&["logs", "--process", absent], options].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
            assert!(said.contains(&format!("{absent} is no process of this pipeline")), "{said}");
            assert_eq!(said.contains("no line of it is kept"), are_all_asked_for, "{said}");
        }
    }
    assert!(!shown(&["--process", &server.pid().to_string()]).is_empty(), "the launcher has a pid, too");
    let silent = server.status().stage("detect").next().expect("it runs").pid.to_string();
    assert_eq!(shown(&["--process", &silent]) + &shown(&["--process", "detect[0]"]), "");
    let of_launcher = all.lines().filter(|line| line.contains(" launcher: ")).count();
    assert!((1..=all.lines().count()).contains(&of_launcher), "{all}");
    assert_eq!(parse(&shown(&["--json", "--process", "launcher"])).len(), of_launcher);

    let mut of_absent = Command::new(program());
    of_absent.args(["logs", "-f", "--process", "detect[7]", "--config"]).arg(home.path("config.toml"));
    let mut of_absent = of_absent.spawn().expect("framepipe can be run");
    let mut command = Command::new(program());
    command.args(["logs", "-f", "-n", "0", "--level", "error", "--config"]).arg(home.path("config.toml"));
    let mut follower = command.stdout(Stdio::piped()).spawn().expect("framepipe can be run");
    let lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
    let (send, came) = mpsc::channel();
    let reader = thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    let client = server.client();
    let line = loop {
        // Until the follower is there, nothing comes.
        let frame = push_broken(&client).await;
        if let Ok(line) = came.recv_timeout(Duration::from_millis(500)) {
            assert!(line.contains("ERROR postprocess[0]: frame "), "{line}");
            assert!(frame > 0);
            break line;
        }
    };
    assert!(server.output().contains(&line), "{line}");
    server.stop();
    assert!(follower.wait().expect("it can be waited for").success(), "the pipeline ended, and so does it");
    assert!(of_absent.wait().expect("it can be waited for").success(), "it may have come, and waited for the end");
    reader.join().expect("no panic").expect("all lines were taken");
    assert_eq!(came.try_iter().filter(|line| !line.contains("ERROR")).count(), 0, "errors alone");
}

#[test]
fn without_a_pipeline_there_are_no_lines() {
    let home = Home::new();
    let config = home.configure(CONFIG);
    let output =
        Command::new(program()).arg("logs").arg("--config").arg(config).output().expect("framepipe can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("is it up? framepipe up"), "{output:?}");
    assert!(said.contains("(No such file or directory (os error 2))") && said.contains("--run-dir"), "{said}");
}
