//! `framepipe push` and `pull` against real pipelines: every option, each wrong use, and what is left behind.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use framepipe_tests::{
    Home, Server,
    configurations::small_budget,
    images::{photo_path, png},
    program, send, wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
fn config() -> String {
    small_budget("push")
}

fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(home.path("config.toml")).stdin(Stdio::null());
    command
}

/// Runs `framepipe`, which must end with this status.
fn run(home: &Home, arguments: &[&str], status: i32) -> Output {
    check(command(home, arguments).output().expect("framepipe can be run"), arguments, status)
}

fn check(output: Output, arguments: &[&str], status: i32) -> Output {
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(status), "{arguments:?} said: {said}\nand printed: {printed}");
    output
}

/// Runs `framepipe` with a list on standard input.
fn run_with_input(home: &Home, arguments: &[&str], input: &str, status: i32) -> Output {
    let mut child = piped(command(home, arguments).stdin(Stdio::piped()));
    child.stdin.take().expect("it was piped").write_all(input.as_bytes()).expect("it reads its input");
    check(child.wait_with_output().expect("it can be waited for"), arguments, status)
}

fn piped(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("framepipe can be run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

fn objects(output: &Output) -> Vec<Value> {
    printed(output).lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Names of the results, in order of the names.
fn names(output: &Output) -> Vec<String> {
    let name = |object: &Value| object["name"].as_str().expect("each has a name").to_owned();
    let mut names: Vec<String> = objects(output).iter().map(name).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

/// A folder of small images, `00.png`, `01.png`, …
fn folder_of(home: &Home, name: &str, count: usize) -> String {
    let folder = home.path(name);
    fs::create_dir(&folder).expect("the test's own");
    (0..count).for_each(|n| fs::write(folder.join(format!("{n:02}.png")), png(16, 16)).expect("the test's own"));
    text(&folder).to_owned()
}

fn has(words: &str, wanted: &[&str]) {
    wanted.iter().for_each(|word| assert!(words.contains(word), "{word:?} is wanted in: {words}"));
}

/// Nothing is left in the inbox, whoever had a file there.
fn inbox_is_empty(home: &Home) {
    let left: Vec<_> = fs::read_dir(home.inbox()).expect("the inbox").map(|entry| entry.expect("one").path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn wrong_uses_are_said_with_their_values_and_what_to_do() {
    let home = Home::new();
    home.configure(&config());
    let photo = photo_path("zidane.jpg");
    let photo = text(&photo);
    let empty = folder_of(&home, "empty", 0);
    fs::write(Path::new(&empty).join("notes.txt"), "x").expect("the test's own");
    let long = "x".repeat(65);
    let usage: [(&[&str], &[&str]); 15] = [
        (&["push"], &["FILE|DIR|-"]),
        (&["push", photo, "--stream", &long], &["65 characters", "1 to 64"]),
        (&["push", photo, "--stream", "a b"], &["a b", "letters"]),
        (&["push", photo, "--hold", "keep"], &["reference, copy, upload"]),
        (&["push", photo, "--hold", "upload", "--inbox", "/dev/shm"], &["--inbox /dev/shm", "leave one out"]),
        (&["push", photo, "-"], &["- stands alone"]),
        (&["push", photo, "--hold", "upload", "--inbox", "/dev/shm"], &["Usage: framepipe push"]),
        (&["push", photo, "--address", "http://["], &["http://[", "give HOST:PORT"]),
        (&["push", photo, "--address", "inference-host"], &["inference-host", "no port", "give HOST:PORT"]),
        (&["push", photo, "--address", "ftp://inference-host:1"], &["ftp", "give HOST:PORT"]),
        (&["push", photo, "--batch", "0"], &["--batch", "1..=1024"]),
        (&["push", photo, "--wait", "0"], &["--wait", "1..=86400"]),
        (&["pull"], &["--stream"]),
        (&["pull", "door"], &["'door'", "tip: ", "--stream door"]),
        (&["pull", "--stream", "s", "--limit", "0"], &["--limit"]),
    ];
    for (arguments, words) in usage {
        has(&said(&run(&home, arguments, 2)), words);
    }
    let failures: [(&[&str], &[&str]); 5] = [
        (&["push", &empty], &["no image", &empty, "1 file is no", "notes.txt"]),
        (
            &["push", photo],
            &[
                "no pipeline answers",
                "grpc.sock: there is no such socket: is it up? framepipe up --config",
                "--run-dir",
            ],
        ),
        (
            &["push", photo, "--address", "127.0.0.1:1"],
            &["no pipeline answers: 127.0.0.1:1: nothing listens there: is it up there (framepipe up)", "--address"],
        ),
        (&["push", photo, "--name", "other"], &["no pipeline is up with", "--name other", "grpc.sock", "--address"]),
        (&["pull", "--stream", "s"], &["no pipeline answers"]),
    ];
    for (arguments, words) in failures {
        let output = run(&home, arguments, 1);
        has(&said(&output), words);
        assert_eq!(printed(&output), "", "{arguments:?}");
    }
    // Whoever listens at the configuration's TCP address is asked where no other is named.
    let of_tcp = |options: &[&str]| {
        let mut command = command(&home, &[&["push", photo], options].concat());
        said(&check(command.env("FRAMEPIPE_SERVER__TCP", "127.0.0.1:1").output().expect("it runs"), options, 1))
    };
    let words = of_tcp(&[]);
    has(&words, &["no pipeline answers", "127.0.0.1:1"]);
    assert_eq!(words.matches("nothing listens there").count(), 1, "each cause is said once: {words}");
    // Nor is anybody else taken for one, or waited for longer than is said: one answers at once, and one says nothing.
    for (answer, wait, why) in [
        ("HTTP/1.0 505 No\r\n\r\n", "600", "what listens there is no framepipe"),
        ("", "1", "who listens there does not answer"),
    ] {
        let address = answering(answer);
        let output = run(&home, &["push", photo, "--stream", "s", "--wait", wait, "--address", &address], 1);
        has(&said(&output), &[&format!("no pipeline answers: {address}: {why}: is it up there")]);
        assert!(!said(&output).contains("accepted"), "nothing was sent: {}", said(&output));
    }
    assert!(!of_tcp(&["--run-dir", "/nowhere"]).contains("127.0.0.1"), "it was asked for all that");
    let absent = home.path("absent.toml");
    let output = Command::new(program()).args(["push", photo, "--config", text(&absent)]).output();
    has(&said(&check(output.expect("it can be run"), &[], 1)), &["absent.toml", "--address"]);
}

/// The address of one who answers whoever connects so.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(answer.as_bytes()); // who has gone has read enough
            let _ = stream.read_to_end(&mut Vec::new()); // until it goes
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_come_back_as_a_table_or_as_json_from_files_folders_and_lists() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let photo = photo_path("zidane.jpg");
    let photo = text(&photo);

    let output = run(&home, &["push", photo], 0);
    let table = printed(&output);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("name ") && lines[0].contains("label") && lines[0].ends_with("attributes"), "{table}");
    assert!(lines[1].contains("zidane.jpg") && lines[1].contains(" face ") && lines[1].contains(" to "), "{table}");
    has(&said(&output), &["1 image pushed", "1 result, 0 of them errors"]);
    assert_eq!(said(&run(&home, &["push", photo, "--quiet"], 0)), "");

    let output = run(&home, &["push", photo, "--json", "--stream", "door"], 0);
    let object = &objects(&output)[0];
    assert_eq!((&object["name"], &object["error"]), (&photo.into(), &Value::Null));
    assert!(object["detections"][0]["score"].as_f64().expect("a score") > 0.5, "{object}");
    assert_eq!(object["image_size"], serde_json::json!([1280, 720]));

    let folder = folder_of(&home, "images", 3);
    fs::create_dir(format!("{folder}/more")).expect("the test's own");
    fs::write(format!("{folder}/more/deep.PNG"), png(16, 16)).expect("the test's own");
    fs::write(format!("{folder}/notes.txt"), "x").expect("the test's own");
    fs::write(format!("{folder}/\u{1b}[2J.png"), png(16, 16)).expect("the test's own");
    std::os::unix::fs::symlink(&folder, format!("{folder}/more/back")).expect("a loop");
    let output = run(&home, &["push", &folder], 0);
    has(&said(&output), &["passed over: 1 file is no images", "notes.txt", "1 folder not entered: give --recursive"]);
    assert!(!printed(&output).contains('\u{1b}'), "no name steers the terminal");
    let output = run(&home, &["push", &folder, "--recursive", "--json", "--batch", "1"], 0);
    let wanted = ["00.png", "01.png", "02.png", "more/deep.PNG", "\u{1b}[2J.png"];
    let mut wanted = wanted.map(|name| format!("{folder}/{name}"));
    wanted.sort_unstable();
    assert_eq!(names(&output), wanted);

    // A pipeline that was started with other folders than its configuration's is found as `framepipe status` finds it.
    let (run_dir, elsewhere) = (home.run(), home.path("elsewhere.toml"));
    let config = fs::read_to_string(home.path("config.toml")).expect("the test's own");
    fs::write(&elsewhere, config.replace(text(&run_dir), text(&home.path("elsewhere")))).expect("the test's own");
    let started_with =
        ["--run-dir", text(&run_dir), "--state-dir", text(&home.path("state")), "--name", "other"].map(str::to_owned);
    for (verb, arguments) in
        [("push", [photo, "--no-wait", "--stream"]), ("pull", ["--until-drained", "--json", "--stream"])]
    {
        let found = |options: &[String], status: i32| {
            let mut command = Command::new(program());
            command.arg(verb).args(arguments).args(["found", "--config", text(&elsewhere)]).args(options);
            check(command.output().expect("framepipe can be run"), &[verb], status)
        };
        has(&said(&found(&[], 1)), &["no pipeline answers"]);
        let output = found(&started_with, 0);
        if verb == "push" {
            has(&printed(&output), &[&started_with[..2].join(" "), "--name other"]);
        }
    }

    let list = format!("{folder}/00.png\n\n{folder}/more/deep.PNG\n");
    assert_eq!(names(&run_with_input(&home, &["push", "-", "--json"], &list, 0)).len(), 2);
    has(&said(&run_with_input(&home, &["push", "-"], "\n", 1)), &["the list on standard input is empty"]);
    has(&said(&run_with_input(&home, &["push", "-"], &"x".repeat(5000), 1)), &["a line of the list is no path"]);
    inbox_is_empty(&home);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_none_is_its_own_error_and_its_neighbours_have_their_results() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 2);
    fs::write(format!("{folder}/bad.jpg"), "no JPEG").expect("the test's own");
    let absent = format!("{folder}/absent.png");
    let output = run(&home, &["push", &folder, &absent, "--json"], 3);
    let code = |name: &str| {
        let mut all = objects(&output).into_iter();
        all.find(|one| one["name"] == format!("{folder}/{name}")).expect("it has a line")["error"]["code"].clone()
    };
    assert_eq!([code("00.png"), code("01.png")], [Value::Null, Value::Null]);
    assert_eq!([code("bad.jpg"), code("absent.png")], ["UNSUPPORTED_FORMAT", "UNREADABLE"]);
    has(&said(&output), &["3 images pushed to stream ", "3 results, 1 of them errors; 1 file not taken"]);
    has(&printed(&run(&home, &["push", &format!("{folder}/bad.jpg")], 3)), &["bad.jpg", "UNSUPPORTED_FORMAT: "]);

    let output = run(&home, &["push", &absent], 3);
    has(&printed(&output), &["absent.png", "UNREADABLE: No such file"]);
    has(&said(&output), &["no image could be pushed"]);
    // What can never fit the budget of bytes is refused for what it is, and its neighbours are not.
    fs::write(format!("{folder}/large.png"), vec![0; 2 << 20]).expect("the test's own");
    let output = run(&home, &["push", &folder, "--json"], 3);
    let large = objects(&output).into_iter().find(|one| one["name"] == format!("{folder}/large.png")).expect("a line");
    assert_eq!((&large["error"]["code"], objects(&output).len()), (&"REFUSED".into(), 4), "{large}");
    inbox_is_empty(&home);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_images_than_the_budget_are_waited_for_whoever_keeps_them_and_whatever_dies() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 60);
    let address = format!("unix:{}", home.run().join("grpc.sock").display());
    let inbox = home.inbox();
    let ways: [&[&str]; 5] = [
        &["--batch", "64"], // more than may be in flight: sent in parts
        &["--hold", "copy"],
        &["--hold", "reference"],
        &["--hold", "upload"],
        &["--address", &address, "--inbox", text(&inbox)],
    ];
    for way in ways {
        let output = run(&home, &[&["push", &folder, "--json"], way].concat(), 0);
        assert_eq!(names(&output).len(), 60, "{way:?}");
        assert!(names(&output).windows(2).all(|pair| pair[0] != pair[1]), "none comes twice: {way:?}");
        inbox_is_empty(&home);
    }
    // By its address alone it takes the inbox that is usual, or says so.
    let child = command(&home, &["push", &folder, "--address", &address]).env("FRAMEPIPE_INBOX", "/nowhere").output();
    let words = said(&check(child.expect("it runs"), &[], 1));
    has(&words, &["/nowhere", "no image was pushed", "is the pipeline up on this host?", "--inbox", "--hold upload"]);
    let file = format!("{folder}/00.png");
    let words = said(&run(&home, &["push", &folder, "--inbox", &file], 1));
    has(&words, &["cannot write into the inbox", "no image was pushed", "--hold upload"]);
    assert!(!words.contains("is the pipeline up"), "it is: {words}");
    // Into one that is not the server's they are refused, for certain.
    let elsewhere = folder_of(&home, "elsewhere", 0);
    let words = said(&run(&home, &["push", &folder, "--stream", "denied", "--inbox", &elsewhere], 1));
    has(&words, &["no image was pushed", "an image did not get through the inbox", "--hold upload"]);
    assert!(!words.contains("may have been accepted") && !words.contains("framepipe pull"), "{words}");

    server.signal_stage("ingest", Signal::SIGSTOP); // nothing moves
    let pushing = piped(&mut command(&home, &["push", &folder, "--json", "--stream", "survivor"]));
    wait_until("frames in flight", LIMIT, || server.status().in_flight() > 0);
    let output = run(&home, &["push", &folder, "--wait", "1", "--stream", "unlucky"], 1);
    has(&said(&output), &["at its limit"]);
    server.kill_one("gateway");
    server.signal_stage("ingest", Signal::SIGCONT);
    let output = check(pushing.wait_with_output().expect("it ends"), &["push"], 0);
    assert_eq!(names(&output).len(), 60, "each once, over a gateway that was killed");
    inbox_is_empty(&home);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pushed_alone_is_pulled_and_what_is_not_acknowledged_comes_again() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 8);
    has(&said(&run(&home, &["pull", "--stream", "door"], 1)), &["door", "not found"]);
    let output = run(&home, &["push", &folder, "--stream", "door", "--no-wait"], 0);
    has(
        &printed(&output),
        &["8 images pushed; for the results: framepipe pull --stream door --until-drained --config"],
    );
    assert_eq!(printed(&output).lines().count(), 1);

    let sequences = |arguments: &[&str]| -> Vec<u64> {
        let output = run(&home, &[&["pull", "--stream", "door", "--json"], arguments].concat(), 0);
        objects(&output).iter().map(|one| one["sequence"].as_u64().expect("a number")).collect()
    };
    assert_eq!(sequences(&["--until-drained", "--no-ack"]), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(sequences(&["--limit", "3", "--no-ack"]), [1, 2, 3]);
    assert_eq!(sequences(&["--until-drained", "--no-ack", "--after", "6"]), [7, 8]);
    assert_eq!(sequences(&["--limit", "3"]), [1, 2, 3], "nothing was acknowledged by now");
    assert_eq!(sequences(&["--limit", "1"]), [4], "what was printed is, the last one too");
    assert_eq!(sequences(&["--until-drained", "--after", "6"]), [7, 8]);
    assert_eq!(sequences(&["--until-drained"]), [0; 0]);

    let output = run(&home, &["push", &folder, "--no-wait", "--json", "--hold", "reference"], 0);
    let object = &objects(&output)[0];
    assert_eq!((&object["pushed"], &object["refused"]), (&8.into(), &0.into()));
    has(&said(&output), &["stay in the inbox", "cache.inbox_ttl_s"]);
    let stream = object["stream"].as_str().expect("the server names it");
    let table = printed(&run(&home, &["pull", "--stream", stream, "--until-drained"], 0));
    assert_eq!(table.lines().count(), 9, "a head, and eight images in which nothing is found: {table}");

    // What an earlier push left unread comes too, and does not stand for the new images.
    run(&home, &["push", &folder, "--stream", "both", "--no-wait"], 0);
    let output = run(&home, &["push", &folder, "--stream", "both", "--json"], 0);
    assert_eq!(objects(&output).len(), 16);

    let bad = home.path("bad.jpg");
    fs::write(&bad, "no JPEG").expect("the test's own");
    run(&home, &["push", text(&bad), "--stream", "bad", "--no-wait"], 0);
    has(&printed(&run(&home, &["pull", "--stream", "bad", "--until-drained"], 3)), &["UNSUPPORTED_FORMAT"]);
    server.stop();
}

fn interrupt(child: &Child) {
    send(child.id(), Signal::SIGINT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_interrupted_says_how_to_get_the_rest_and_nothing_is_lost() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 40);
    server.signal_stage("ingest", Signal::SIGSTOP);
    let pushing = piped(&mut command(&home, &["push", &folder, "--stream", "door", "--json", "--batch", "8"]));
    wait_until("the budget to be used up", LIMIT, || server.status().in_flight() == 16);
    interrupt(&pushing);
    let output = check(pushing.wait_with_output().expect("it ends"), &["push"], 130);
    has(&said(&output), &["interrupted: results of 0 of ", "framepipe pull --stream door --until-drained --config"]);
    inbox_is_empty(&home);
    server.signal_stage("ingest", Signal::SIGCONT);
    // A call that was cut off may have been accepted all the same.
    let pulled = objects(&run(&home, &["pull", "--stream", "door", "--until-drained", "--json"], 0)).len();
    assert!((16..=24).contains(&pulled), "{pulled} results");

    // One that waits for its list, and one that waits for more results.
    let waiting = piped(command(&home, &["push", "-"]).stdin(Stdio::piped()));
    let pulling = piped(&mut command(&home, &["pull", "--stream", "door", "--json"]));
    for (mut child, words) in [(waiting, "interrupted: no image was pushed"), (pulling, "0 results")] {
        let held = child.stdin.take();
        wait_until("it to take signals", LIMIT, || takes_signals(child.id()));
        interrupt(&child);
        has(&said(&check(child.wait_with_output().expect("it ends"), &[words], 130)), &[words]);
        drop(held);
    }
    server.stop();
}

/// What becomes of a call whose answer is out when somebody interrupts.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Answer {
    Comes,
    DoesNotCome,
    /// And somebody interrupts again.
    IsNotWaitedFor,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_out_when_somebody_interrupts_is_waited_for_or_said_to_be_unknown() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 2);
    for answer in [Answer::Comes, Answer::DoesNotCome, Answer::IsNotWaitedFor] {
        let stream = format!("{answer:?}");
        let arguments = ["push", "-", "--stream", &stream, "--batch", "1", "--json"];
        let mut child = piped(command(&home, &arguments).stdin(Stdio::piped()));
        let mut list = child.stdin.take().expect("it was piped");
        let mut results = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut words = BufReader::new(child.stderr.take().expect("it was piped"));
        let (mut line, mut said) = (String::new(), String::new());
        writeln!(list, "{folder}/00.png").expect("it reads its list");
        results.read_line(&mut line).expect("the first image's result");

        server.signal_stage("gateway", Signal::SIGSTOP);
        writeln!(list, "{folder}/01.png").expect("it reads its list");
        wait_until("the next image to be sent", LIMIT, || {
            fs::read_dir(home.inbox()).is_ok_and(|mut all| all.next().is_some())
        });
        interrupt(&child);
        words.read_line(&mut said).expect("it says that it waits");
        has(&said, &["interrupted while 1 image went out"]);
        match answer {
            Answer::Comes => server.signal_stage("gateway", Signal::SIGCONT),
            Answer::DoesNotCome => {}
            Answer::IsNotWaitedFor => interrupt(&child),
        }
        words.read_to_string(&mut said).expect("UTF-8");
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{said}");
        let pull = format!("framepipe pull --stream {stream} --until-drained --config");
        let (known, unknown) = ("pushed are printed; for the others", "1 image being sent may have been accepted");
        match answer {
            Answer::Comes => has(&said, &[&format!(" of 2 images {known}"), &pull]),
            _ => has(
                &said,
                &[
                    &format!("interrupted: results of 1 of 1 image {known}"),
                    unknown,
                    &pull,
                    "could not be acknowledged: no answer",
                ],
            ),
        }
        assert_eq!(said.contains(unknown), answer != Answer::Comes, "{said}");
        drop(list);
        server.signal_stage("gateway", Signal::SIGCONT); // once more where the answer came
        inbox_is_empty(&home);
    }
    server.stop();
}

/// True once a process handles SIGINT.
fn takes_signals(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught
        .is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).expect("bits") >> (Signal::SIGINT as i32 - 1) & 1 == 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_closes_the_pipe_is_told_and_the_rest_is_kept() {
    let home = Home::new();
    let server = Server::start(&home, &config()).await;
    let folder = folder_of(&home, "images", 12);
    let (reads, closed) = io::pipe().expect("a pipe");
    drop(reads);
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    for (stream, out, why) in [("closed", Stdio::from(closed), "Broken pipe"), ("full", full.into(), "No space left")] {
        let output = command(&home, &["push", &folder, "--stream", stream]).stdout(out).output().expect("it runs");
        let hint = format!("framepipe pull --stream {stream} --until-drained");
        has(&said(&check(output, &["push"], 1)), &["standard output", why, &hint]);
        let kept = objects(&run(&home, &["pull", "--stream", stream, "--until-drained", "--json"], 0));
        assert_eq!(kept[0]["sequence"], 1, "what could not be printed was not acknowledged");
    }
    server.stop();
}
