//! A running pipeline.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use framepipe_client::Client;
use framepipe_proto::v1::framepipe_client::FramepipeClient;
use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};

use crate::{Home, Process, Status, is_alive, send, wait_for, wait_until};

/// For the models to load and warm up on a busy machine.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Between two looks at whether the launcher has ended instead.
const READY_LOOK: Duration = Duration::from_millis(200);
/// For a process to end, or to be started again.
const CHANGE_WAIT: Duration = Duration::from_secs(60);

/// A pipeline. Dropped, it is killed: a test that panics leaves no process.
pub struct Server {
    launcher: Child,
    config: PathBuf,
    address: String,
    inbox: PathBuf,
    log: PathBuf,
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie below the repository's root")
}

/// The program `framepipe` of the build that this test is of.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its own path");
    let folder = own.parent().expect("a program lies in a folder");
    // A test lies in TARGET/PROFILE/deps.
    let folder = if folder.ends_with("deps") { folder.parent().expect("deps lies in one") } else { folder };
    let program = folder.join("framepipe");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build --profile verify --workspace --bins`, or scripts/check",
        program.display()
    );
    program
}

impl Server {
    /// Starts a pipeline and waits until it takes frames.
    pub async fn start(home: &Home, config: &str) -> Self {
        let mut server = Self::launch(home, config);
        server.wait_ready().await;
        server
    }

    /// Starts a pipeline.
    pub fn launch(home: &Home, config: &str) -> Self {
        Self::launch_with(home, config, &[])
    }

    /// Starts a pipeline with more arguments for `framepipe up`.
    pub fn launch_with(home: &Home, config: &str, arguments: &[&str]) -> Self {
        Self::launch_as(home, config, |command| {
            command.args(arguments);
        })
    }

    /// Starts a pipeline by a command that is changed first.
    pub fn launch_as(home: &Home, config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let config = home.configure(config);
        let log = home.path("up.log");
        let output = File::options().append(true).create(true).open(&log).expect("the log can be written");
        let mut command = Command::new(program());
        command.args(["up".as_ref(), "--config".as_ref(), config.as_os_str()]).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("one more descriptor")).stderr(output);
        change(&mut command);
        let launcher = command.spawn().expect("the launcher can be started");
        let address = format!("unix:{}", home.run().join("grpc.sock").display());
        Self { launcher, config, address, inbox: home.inbox(), log }
    }

    /// Waits until the pipeline takes frames.
    pub async fn wait_ready(&mut self) {
        let client = self.client();
        let deadline = Instant::now() + READY_WAIT;
        while client.wait_ready(READY_LOOK).await.is_err() {
            if let Some(status) = self.launcher.try_wait().expect("the launcher can be waited for") {
                panic!("the pipeline did not start ({status}):\n{}", self.output());
            }
            assert!(Instant::now() < deadline, "the pipeline is not ready after {READY_WAIT:?}:\n{}", self.output());
        }
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        Client::connect_lazy(&self.address).expect("the address is one").with_inbox(&self.inbox)
    }

    /// A connection of its own.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).expect("the address is one").connect_lazy()
    }

    /// The generated client, which sends whatever it is given.
    pub fn raw_client(&self) -> FramepipeClient<Channel> {
        FramepipeClient::new(self.channel()).max_encoding_message_size(64 << 20)
    }

    /// How many frames each launcher that took over has led back, because the memory of their slots was gone.
    pub fn led_back(&self) -> Vec<usize> {
        let said = self.output();
        let numbers = said.split("restarted: ").skip(1).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        numbers.map(|number| number.and_then(|number| number.parse().ok()).expect("a number")).collect()
    }

    /// What the launcher and its processes have said so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs `framepipe` on this pipeline.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(&self.config).output().expect("framepipe can be run")
    }

    /// What `framepipe status --json` says.
    pub fn status(&self) -> Status {
        let output = self.run(&["status", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "framepipe status: {said}\n{}", self.output());
        serde_json::from_slice(&output.stdout).expect("framepipe status says JSON")
    }

    /// Pids of a stage's processes, or of the gateway.
    pub fn pids(&self, stage: &str) -> Vec<u32> {
        self.status().stage(stage).map(|process| process.pid).collect()
    }

    /// Pids of the launcher and all its processes.
    pub fn all_pids(&self) -> Vec<u32> {
        let status = self.status();
        status.processes.iter().map(|process| process.pid).chain([status.pid]).collect()
    }

    /// Sends a signal to every process of a stage.
    pub fn signal_stage(&self, stage: &str, signal: Signal) {
        let pids = self.pids(stage);
        assert!(!pids.is_empty() && !pids.contains(&0), "{stage} does not run: {:?}", self.status());
        pids.into_iter().for_each(|pid| send(pid, signal));
    }

    /// Kills one process of a stage, and waits until another is ready in its place.
    pub fn kill_one(&self, stage: &str) {
        let first = |status: &Status| status.stage(stage).next().cloned().expect("the stage is in the status");
        let before = first(&self.status());
        assert_eq!(before.state, "ready", "{stage} cannot be killed before it runs");
        send(before.pid, Signal::SIGKILL);
        let is_back = |now: &Process| now.pid != before.pid && now.state == "ready" && now.restarts > before.restarts;
        wait_until(&format!("{stage} to be ready again"), CHANGE_WAIT, || is_back(&first(&self.status())));
    }

    /// The launcher's pid.
    pub fn pid(&self) -> u32 {
        self.launcher.id()
    }

    /// Sends a signal to the launcher.
    pub fn signal(&self, signal: Signal) {
        send(self.launcher.id(), signal);
    }

    /// How the launcher ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.launcher.try_wait().expect("the launcher can be waited for")
    }

    /// Waits for the launcher's end.
    pub fn wait_end(&mut self) -> ExitStatus {
        let launcher = &mut self.launcher;
        wait_for("the launcher's end", CHANGE_WAIT, || launcher.try_wait().expect("the launcher can be waited for"))
    }

    /// Ends the pipeline as an operator does, and returns what it said.
    ///
    /// # Panics
    /// When it does not drain and end with success.
    pub fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.wait_end();
        assert!(status.success(), "the pipeline ended with {status}:\n{}", self.output());
        self.output()
    }

    /// Kills the launcher and waits for its end, as a service manager does before it starts the next one.
    pub fn kill_launcher(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_end();
    }

    /// Kills the launcher, and waits until none of its processes is left.
    pub fn kill(mut self) {
        let pids = self.all_pids();
        self.signal(Signal::SIGKILL);
        self.wait_end();
        wait_until("all processes' end", CHANGE_WAIT, || !pids.iter().any(|pid| is_alive(*pid)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.launcher.try_wait() {
            // Its processes go with it: the kernel kills them.
            let _ = self.launcher.kill();
            let _ = self.launcher.wait();
            if std::thread::panicking() {
                eprintln!("the pipeline's words:\n{}", self.output());
            }
        }
    }
}
