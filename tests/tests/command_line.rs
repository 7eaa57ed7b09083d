//! Every command there is, by what the program itself says of its command line: help, man pages, completions, and what it does with
//! wrong usage. A new command is walked as well, and must be put into a list below if it is another kind of command.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use framepipe_tests::{Home, program, repository};
use serde_json::Value;

/// Commands that do not want a running pipeline: they start one of their own, or look at other things.
const NEED_NO_PIPELINE: [&str; 21] = [
    "up",
    "demo",
    "eval",
    "plan",
    "inspect",
    "config check",
    "config show",
    "config default",
    "doctor",
    "completions",
    "man",
    "gpu-list",
    "gpu-accept",
    "model list",
    "model show",
    "model check",
    "model add",
    "model remove",
    "model quantize",
    "quarantine list",
    "quarantine drop",
];

/// Commands that take a configuration and need none.
const READ_NO_CONFIGURATION: [&str; 1] = ["config default"];

/// A command, as the program describes it.
struct Known {
    /// Without the program's own name.
    path: Vec<String>,
    description: Value,
}

impl Known {
    fn name(&self) -> String {
        self.path.join(" ")
    }

    fn arguments(&self) -> impl Iterator<Item = &Value> {
        self.description["arguments"].as_array().expect("a list").iter()
    }

    fn has_subcommands(&self) -> bool {
        !self.description["subcommands"].as_array().expect("a list").is_empty()
    }

    /// An argument for each that is wanted, so that nothing but what a test is about is wrong. The files are there.
    fn needed(&self, home: &Home) -> Vec<String> {
        let wanted = self.arguments().filter(|argument| argument["is_required"] == true || argument["id"] == "model");
        let value = |argument: &Value| match argument["id"].as_str().expect("a name") {
            "frame" => "4711".to_owned(),
            "shell" => "bash".to_owned(),
            "processes" => "detect=2".to_owned(),
            "stream" => "door".to_owned(),
            "folder" | "images" => text(&home.temporary()).to_owned(),
            "model" | "name" => "no-such-model".to_owned(),
            _ => text(&home.path("image.jpg")).to_owned(),
        };
        let words = |argument: &Value| match argument["long"].as_str() {
            Some(long) => vec![format!("--{long}"), value(argument)],
            None => vec![value(argument)],
        };
        let all = self.arguments().any(|argument| argument["long"] == "all") && self.name() != "model check";
        wanted.flat_map(words).chain(all.then(|| "--all".to_owned())).collect()
    }

    /// Runs it.
    fn run(&self, home: &Home, arguments: &[String]) -> Output {
        let mut command = Command::new(program());
        command.args(&self.path).args(arguments).current_dir(home.temporary());
        command.output().expect("framepipe can be run")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

fn words(of: &[&str]) -> Vec<String> {
    of.iter().map(|word| (*word).to_owned()).collect()
}

/// Every command that is shown to people, the program itself first.
fn commands() -> Vec<Known> {
    let output = Command::new(program()).arg("--describe-command-line").output().expect("framepipe can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let mut known = Vec::new();
    collect(root, Vec::new(), &[], &mut known);
    assert!(known.len() > 25, "{} commands alone", known.len());
    known
}

/// Collects a command and those below it, which take its global arguments as well.
fn collect(mut description: Value, path: Vec<String>, inherited: &[Value], known: &mut Vec<Known>) {
    if description["is_hidden"] == true {
        return;
    }
    let arguments = description["arguments"].as_array_mut().expect("a list");
    arguments.extend(inherited.iter().cloned());
    let inherited: Vec<Value> = arguments.iter().filter(|argument| argument["is_global"] == true).cloned().collect();
    for below in description["subcommands"].as_array().expect("a list") {
        let name = below["name"].as_str().expect("a name").to_owned();
        collect(below.clone(), [path.clone(), vec![name]].concat(), &inherited, known);
    }
    known.push(Known { path, description });
}

/// Those that do something themselves.
fn leaves() -> impl Iterator<Item = Known> {
    commands().into_iter().filter(|command| !command.has_subcommands())
}

fn home() -> Home {
    let home = Home::new();
    fs::copy(repository().join("photos/bus.jpg"), home.path("image.jpg"))
        .expect("scripts/setup has fetched the photos");
    home
}

/// It ended so, and said these words.
fn check(command: &Known, output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "framepipe {}: {said}", command.name());
    for word in words {
        assert!(said.contains(word), "framepipe {}: {word:?} is wanted in: {said}", command.name());
    }
}

#[test]
fn every_commands_help_has_an_example_and_says_its_exit_statuses() {
    let home = home();
    for command in commands() {
        let output = command.run(&home, &words(&["--help"]));
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        check(&command, &output, 0, &[]);
        let name = command.name();
        assert!(help.contains("Exit status: 0 "), "framepipe {name} --help says no exit statuses:\n{help}");
        let example = format!("\n  framepipe {name}");
        assert!(help.contains("Example") && help.contains(&example), "framepipe {name} --help has no example:\n{help}");
    }
}

#[test]
fn what_is_typed_wrongly_is_named_and_ends_with_status_2() {
    let home = home();
    for command in commands() {
        let unknown = command.run(&home, &words(&["--no-such-option"]));
        check(&command, &unknown, 2, &["--no-such-option"]);
        if command.has_subcommands() {
            check(&command, &command.run(&home, &[]), 2, &["Usage: framepipe"]);
            check(&command, &command.run(&home, &words(&["no-such-verb"])), 2, &["no-such-verb"]);
        }
        let needed = command.needed(&home);
        for argument in command.arguments() {
            let Some(long) = argument["long"].as_str() else { continue };
            let option = format!("--{long}");
            let is_limited = !argument["values"].as_array().expect("a list").is_empty();
            if argument["takes_value"] == true && is_limited {
                let given = [needed.clone(), words(&[&option, "nonsense"])].concat();
                check(&command, &command.run(&home, &given), 2, &[&option, "nonsense"]);
            }
        }
        if command.arguments().any(|argument| argument["is_required"] == true) {
            check(&command, &command.run(&home, &[]), 2, &["required", "Usage: framepipe"]);
        }
    }
    for (command, wrong) in [
        ("up --detect", "many"),
        ("up --detect", "99"),
        ("up --attribute", "0"),
        ("doctor --detect", "65"),
        ("scale", "detect=65"),
        ("scale detect=3 ingest=2", "detect=1"),
        ("restart", "foo"),
        ("logs --process", "foo"),
        ("logs -n 3 --process", "detect[x]"),
        ("up --device", "tpu"),
        ("up --cores", "0"),
        ("plan --cores", "0"),
        ("plan --crops", "-1"),
        ("plan --gpu", "t5"),
        ("plan --costs costs.toml", "--measure"),
        ("plan --gpu t4", "--check"),
        ("plan --seconds", "0"),
        ("up --score-threshold", "high"),
        ("cache list --limit", "-1"),
        ("quarantine show", "first"),
        ("inspect x.jpg --box", "1,2,3"),
        ("model show", "a@b"),
        ("model use", "a@b"),
    ] {
        let arguments = command.split(' ').chain([wrong]);
        let output = Command::new(program()).args(arguments).output().expect("framepipe can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(wrong), "framepipe {command} {wrong}: {said}");
    }
    let output = Command::new(program()).args(["logs", "-n", "-1"]).output().expect("framepipe can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("-1 is not in 0.."), "{said}");
}

#[test]
fn a_configuration_that_is_not_there_or_not_good_is_named_and_ends_with_status_1() {
    let home = home();
    let absent = home.path("absent.toml");
    let broken = home.path("broken.toml");
    fs::write(&broken, "[pipeline]\ndetector = \"x\"\n[stages.detekt]\nprocesses = 1\n")
        .expect("the test's own folder");
    let mut walked = 0;
    for command in leaves() {
        let takes_one = command.arguments().any(|argument| argument["long"] == "config");
        if !takes_one || READ_NO_CONFIGURATION.contains(&command.name().as_str()) {
            continue;
        }
        walked += 1;
        let given = |config: &Path| [command.needed(&home), words(&["--config", text(config)])].concat();
        // The doctor's words are its report.
        if command.name() == "doctor" {
            let output = command.run(&home, &given(&absent));
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("FAILED  configuration") && said.contains(text(&absent)), "{said}");
            assert!(said.contains(&format!("framepipe config check --config {}", text(&absent))), "{said}");
            continue;
        }
        check(&command, &command.run(&home, &given(&absent)), 1, &[text(&absent), "No such file", "--config FILE"]);
        let words = [text(&broken), "unknown field `detekt`", "did you mean stages.detect?"];
        check(&command, &command.run(&home, &given(&broken)), 1, &words);
    }
    assert!(walked > 15, "{walked} commands take a configuration");
}

#[test]
fn a_command_that_wants_a_running_pipeline_says_that_there_is_none_and_ends_with_status_1() {
    let home = home();
    let config = home.configure("[pipeline]\ndetector = \"tiny-face-416\"\n");
    for command in leaves().filter(|command| !NEED_NO_PIPELINE.contains(&command.name().as_str())) {
        let given = [command.needed(&home), words(&["--config", text(&config)])].concat();
        let output = command.run(&home, &given);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "framepipe {}: {said}", command.name());
        // Where it looked: the pipeline's sockets, its segment, or what it has put aside.
        let (run, shm) = (home.run(), home.shm());
        let state = home.path("state");
        let places = [text(&run), text(&shm), text(&state)];
        assert!(places.iter().any(|place| said.contains(place)), "framepipe {}: {said}", command.name());
    }
}

#[test]
fn a_quarantine_is_looked_for_in_a_state_folder_that_is_there() {
    let home = home();
    let config = home.configure("[pipeline]\ndetector = \"tiny-face-416\"\n");
    let quarantine = |verb: &[&str], state: &Path| {
        let mut command = Command::new(program());
        let command = command.arg("quarantine").args(verb).arg("--config").arg(&config).arg("--state-dir").arg(state);
        let output = command.output().expect("framepipe can be run");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let nowhere = home.path("nowhere");
    for verb in [&["list"] as &[&str], &["list", "--json"], &["drop", "--all"], &["show", "1"]] {
        let (status, said) = quarantine(verb, &nowhere);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&format!("there is no state folder {}", text(&nowhere))), "{said}");
        assert!(said.contains("--state-dir") && said.contains("was it never started?"), "{said}");
    }
    for (state, words) in [(config.clone(), "is no folder"), (config.join("below"), "Not a directory")] {
        let (status, said) = quarantine(&["list"], &state);
        assert!(status == Some(1) && said.contains(words) && said.contains(text(&state)), "{said}");
    }
    assert_eq!(quarantine(&["list"], &home.temporary()), (Some(0), "no frame is in quarantine\n".into()));
}

#[test]
fn every_command_has_a_page_with_examples_and_exit_statuses_that_man_reads_without_a_warning() {
    let home = home();
    let folder = home.path("pages");
    let output = Command::new(program()).arg("man").arg(&folder).output().expect("framepipe can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let commands = commands();
    for command in &commands {
        let name = [&["framepipe".to_owned()], &command.path[..]].concat().join("-");
        let path = folder.join(format!("{name}.1"));
        let page = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES", ".SH \"EXIT STATUS\""] {
            assert!(page.contains(section), "{name} has no section {section}");
        }
        for argument in command.arguments().filter(|argument| argument["long"].is_null() && argument["short"].is_null())
        {
            let value = argument["value_names"][0].as_str().unwrap_or_default();
            let synopsis = page.split(".SH").find(|section| section.starts_with(" SYNOPSIS")).unwrap_or_default();
            let synopsis = synopsis.replace("\\-", "-");
            assert!(!value.is_empty() && synopsis.contains(value), "{name}: {value:?} is wanted in {synopsis}");
        }
        if let Some(said) = warnings(&path) {
            assert_eq!(said, "", "{name}");
        }
    }
    let written = fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(written, commands.len(), "no page of what is no command");
}

/// What `man` says of a page that it does not like; none: there is no `man`.
fn warnings(page: &Path) -> Option<String> {
    let man = Command::new("man").args(["--warnings", "--encoding=UTF-8", "--local-file"]).arg(page).output().ok()?;
    Some(String::from_utf8_lossy(&man.stderr).into_owned())
}

#[test]
fn each_shells_completions_have_every_command_and_are_read_by_the_shell() {
    let home = home();
    let commands = commands();
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(program()).args(["completions", shell]).output().expect("framepipe can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let script = String::from_utf8(output.stdout).expect("it is UTF-8");
        for command in &commands {
            for name in &command.path {
                assert!(script.contains(name.as_str()), "{shell} knows no {name}");
            }
        }
        let path = home.path(shell);
        fs::write(&path, &script).expect("the test's own folder");
        if let Ok(read) = Command::new(shell).arg("-n").arg(&path).output() {
            assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}");
        }
    }
    for (command, begun, wanted) in
        [("model", "qu", "quantize"), ("restart", "pre", "preprocess"), ("restart", "k", "keeper")]
    {
        let complete = format!(
            "source \"$0\"; COMP_WORDS=(framepipe {command} {begun}); COMP_CWORD=2; _framepipe framepipe {begun} {command}; \
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &complete]).arg(home.path("bash")).output();
        let output = output.expect("bash can be run: the scripts of this repository are for it");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{output:?}");
    }
}

/// Prose is wrapped once, by the terminal's width: no short line stands in the middle of a paragraph.
#[test]
fn help_is_wrapped_by_the_width_alone() {
    const WIDTH: usize = 80;
    let home = home();
    for command in commands() {
        let mut program = Command::new(program());
        let output =
            program.args(&command.path).arg("--help").env("COLUMNS", WIDTH.to_string()).current_dir(home.temporary());
        let help = String::from_utf8(output.output().expect("framepipe can be run").stdout).expect("it is UTF-8");
        let behind_options = help.split_once("\nExample").map(|(_, words)| words).unwrap_or_default();
        let lines: Vec<&str> = behind_options.lines().collect();
        for pair in lines.windows(2) {
            let [line, next] = pair else { continue };
            let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
            let word = next.split(' ').next().unwrap_or_default();
            let is_full = line.len() + 1 + word.len() > WIDTH;
            assert!(
                is_full || !is_prose(line) || !is_prose(next),
                "framepipe {}: {line:?} before {next:?}",
                command.name()
            );
        }
    }
}

/// What `up` is told, the others may be told as well, and the same pipeline is meant.
#[test]
fn commands_of_one_pipeline_take_the_same_options_for_which_it_is() {
    for command in leaves() {
        let has = |option: &str| command.arguments().any(|argument| argument["long"] == option);
        if has("run-dir") {
            assert!(has("state-dir") && has("name") && has("config"), "framepipe {}", command.name());
        }
    }
}
