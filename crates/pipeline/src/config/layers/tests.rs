use tempfile::TempDir;

use super::*;
use crate::{
    Config, Explained, Pool,
    config::{NO_KEYS, Setting, environment::Environment, explained::keys},
    stage_index,
};

const LEAST: &str = "[pipeline]\ndetector = \"finder\"\n";

/// A folder with a pipeline's file, and what is written beside it.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in [("street.toml", LEAST)].iter().chain(files) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn variables(of: &[(&str, &str)]) -> Environment {
    of.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn explain(folder: &TempDir, environment: &[(&str, &str)], overrides: &Overrides) -> Result<Explained, ConfigError> {
    Config::explain_in(&folder.path().join("street.toml"), overrides, variables(environment))
}

fn load(folder: &TempDir, environment: &[(&str, &str)]) -> Config {
    explain(folder, environment, &Overrides::default()).expect("it is good").config
}

fn fails(folder: &TempDir, environment: &[(&str, &str)]) -> String {
    explain(folder, environment, &Overrides::default()).err().expect("it is wrong").to_string()
}

fn detectors(config: &Config) -> u32 {
    config.stages[stage_index("detect").expect("a stage")].processes
}

#[test]
fn each_layer_wins_over_those_before_it_and_each_value_knows_its_own() {
    let detect = |processes: u32| format!("[stages.detect]\nprocesses = {processes}\n");
    let files = [
        ("street.toml", &format!("{LEAST}crops_max = 7\n{}", detect(1))),
        ("framepipe.d/10-all.toml", &detect(2)),
        ("framepipe.d/20-all.toml", &detect(3)),
        ("street.d/10-street.toml", &detect(4)),
    ];
    let variable = ("FRAMEPIPE_STAGES__DETECT__PROCESSES", "5");
    let mut option = Overrides::default();
    option.set_processes("detect", 6);
    for count in 1..=files.len() {
        let files: Vec<_> = files[..count].iter().map(|(name, text)| (*name, text.as_str())).collect();
        let folder = folder(&files);
        let explained = explain(&folder, &[], &Overrides::default()).expect("it is good");
        assert_eq!(detectors(&explained.config), count as u32, "with {files:?}");
        assert_eq!(explained.config.crops_max, 7, "a table is merged, not replaced");
        assert!(explained.origins.of("stages.detect.processes").to_string().ends_with(files[count - 1].0));
        assert!(explained.origins.of("pipeline.crops_max").to_string().ends_with("street.toml"));
        assert_eq!(explained.origins.of("pipeline.mps"), Origin::Default);
        assert_eq!(explained.layers.len(), count);

        let explained = explain(&folder, &[variable], &Overrides::default()).expect("it is good");
        assert_eq!(detectors(&explained.config), 5);
        assert_eq!(explained.origins.of("stages.detect.processes"), Origin::Variable(variable.0.into()));
        let explained = explain(&folder, &[variable], &option).expect("it is good");
        assert_eq!(detectors(&explained.config), 6);
        assert_eq!(explained.origins.of("stages.detect.processes"), Origin::Option("--detect".into()));
    }
}

#[test]
fn an_array_is_replaced_and_a_drop_in_of_another_pipeline_is_none() {
    let folder = folder(&[
        ("street.toml", &format!("{LEAST}[pools]\nraw = [{{ slots = 3 }}]\ntensor = [{{ slots = 4 }}]\n")),
        ("street.d/a.toml", "[pools]\nraw = [{ slots = 5 }]\n"),
        ("faces.d/a.toml", "[pools]\nraw = [{ slots = 6 }]\n"),
    ]);
    let config = load(&folder, &[]);
    assert_eq!(config.pools[Pool::Raw as usize].classes, [(0, 5)]);
    assert_eq!(config.pools[Pool::Tensor as usize].classes, [(0, 4)]);
}

#[test]
fn hidden_files_and_those_of_another_kind_are_no_drop_ins_and_one_that_cannot_be_read_is_an_error() {
    let folder = folder(&[
        ("street.d/.hidden.toml", "nonsense"),
        ("street.d/a.toml~", "nonsense"),
        ("street.d/README", "nonsense"),
        ("street.d/a.toml", "profile = \"latency\"\n"),
    ]);
    assert_eq!(load(&folder, &[]).stages[stage_index("detect").expect("a stage")].processes, 1);
    let broken = folder.path().join("street.d/z.toml");
    fs::create_dir(&broken).expect("a folder");
    assert!(
        fails(&folder, &[]).starts_with(&format!("{}: Is a directory", broken.display())),
        "{}",
        fails(&folder, &[])
    );
    fs::remove_dir(&broken).expect("it is the test's");
    std::os::unix::fs::symlink("nowhere", &broken).expect("a link");
    assert!(fails(&folder, &[]).starts_with(&format!("{}: No such file", broken.display())));
    fs::remove_file(&broken).expect("it is the test's");
    fs::write(&broken, b"name = \"\xff\"\n").expect("a file");
    assert!(fails(&folder, &[]).contains("z.toml"));
}

#[test]
fn what_is_read_is_bounded() {
    let folder = folder(&[("street.d/a.toml", &"#".repeat(FILE_BYTES_MAX as usize + 1))]);
    assert!(fails(&folder, &[]).contains("a.toml: it has more than 1048576 bytes"), "{}", fails(&folder, &[]));
    fs::remove_file(folder.path().join("street.d/a.toml")).expect("it is the test's");
    for number in 0..=DROP_INS_MAX {
        fs::write(folder.path().join(format!("street.d/{number}.toml")), "").expect("a file");
    }
    assert!(fails(&folder, &[]).contains("street.d: it holds more than 256 drop-ins"));
    let long = "x".repeat(1 << 17);
    assert!(fails(&folder_of_least(), &[("FRAMEPIPE_NAME", &long)]).starts_with("FRAMEPIPE_NAME: its value has more"));
}

fn folder_of_least() -> TempDir {
    folder(&[])
}

#[test]
fn a_variable_is_a_key_of_any_type() {
    let folder = folder_of_least();
    let config = load(
        &folder,
        &[
            ("FRAMEPIPE_NAME", "3"),
            ("FRAMEPIPE_PROFILE", "latency"),
            ("FRAMEPIPE_PIPELINE__ATTRIBUTES", r#"["faceres@1", "age"]"#),
            ("FRAMEPIPE_PIPELINE__SCORE_THRESHOLD", "0.3"),
            ("FRAMEPIPE_SERVER__TCP", ""),
            ("FRAMEPIPE_SERVER__INBOX", "[\"inbox\", '/dev/shm/other']"),
            ("FRAMEPIPE_JOURNAL__MEMORY_BYTES_MAX", "1 MiB"),
            ("FRAMEPIPE_JOURNAL__STREAM_BYTES_MAX", "2097152"),
            ("FRAMEPIPE_CACHE__RAW_FRAMES", "true"),
            ("FRAMEPIPE_POOLS__RAW", "[{ slots = 7 }]"),
            ("FRAMEPIPE_STAGES__DETECT", "{ nice = 3 }"),
            ("framepipe_name", "it begins otherwise"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(config.name, "3");
    assert_eq!(detectors(&config), 1, "as for latency");
    assert_eq!(config.attributes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["faceres@1", "age"]);
    assert_eq!(config.score_threshold, Some(0.3));
    assert_eq!(config.server.tcp, None);
    assert_eq!(config.server.inbox, [folder.path().join("inbox"), "/dev/shm/other".into()]);
    assert_eq!((config.journal.memory_bytes_max, config.journal.stream_bytes_max), (1 << 20, 2 << 20));
    assert!(config.cache.raw_frames);
    assert_eq!(config.pools[Pool::Raw as usize].classes, [(0, 7)]);
    assert_eq!(config.stages[stage_index("detect").expect("a stage")].nice, 3);
}

#[test]
fn what_is_wrong_is_named_with_its_very_file_or_variable_or_option() {
    let folder = folder(&[("framepipe.d/all.toml", "[cache]\nsoft = 0.4\n")]);
    let wrong = [
        ("FRAMEPIPE_STAGES__DETEKT__PROCESSES", "3", "stages.detekt.processes = \"3\": unknown field `detekt`"),
        ("FRAMEPIPE_STAGES__DETEKT__PROCESSES", "3", "stages.detekt is no key: did you mean stages.detect? "),
        (
            "FRAMEPIPE_STAGES__DETECT__PROCESS",
            "3",
            "stages.detect.process is no key: did you mean stages.detect.processes? ",
        ),
        ("FRAMEPIPE_STAGES__DETECT__PROCESS", "3", "has every key; __ stands between the levels of a variable"),
        ("FRAMEPIPE_FOO", "3", "foo is no key: take it away, or name a key of config/framepipe.toml"),
        ("FRAMEPIPE_SERVER__TCP", "foo", "server.tcp = \"foo\": it is no address: give IP:PORT"),
        ("FRAMEPIPE_SERVER", "3", "server = \"3\": invalid type"),
        ("FRAMEPIPE_FOO", "3", "foo = \"3\": unknown field `foo`"),
        ("FRAMEPIPE_", "", "unknown field ``"),
        ("FRAMEPIPE_STAGES__DETECT__PROCESSES", "many", "invalid type: string \"many\", expected u32"),
        ("FRAMEPIPE_STAGES__DETECT__PROCESSES", "1\nthreads = 2", "invalid type: string"),
        ("FRAMEPIPE_STAGES__DETECT__PROCESSES", "99", "stages.detect.processes = 99: give 1 to 64"),
        ("FRAMEPIPE_CACHE__HARD", "2", "cache.hard = 2: give a part"),
        ("FRAMEPIPE_POOLS__HELD", "[]", "pools.held, the number of classes = 0"),
    ];
    for (name, value, words) in wrong {
        let said = fails(&folder, &[(name, value)]);
        assert!(said.starts_with(&format!("{name}: ")) && said.contains(words), "{said}");
    }
    let soft = fails(&folder, &[("FRAMEPIPE_CACHE__HARD", "0.3")]);
    assert!(soft.contains("framepipe.d/all.toml: cache.soft = 0.4"), "{soft}");
    let mut option = Overrides::default();
    option.set_processes("detect", 0);
    let said = explain(&folder, &[], &option).err().expect("it is wrong").to_string();
    assert_eq!(said, "--detect: stages.detect.processes = 0: give 1 to 64");
    fs::write(folder.path().join("street.d.toml"), "no drop-in").expect("a file");
    fs::write(folder.path().join("framepipe.d/b.toml"), "[stages.detect]\nprocess = 1\n").expect("a file");
    let said = fails(&folder, &[]);
    assert!(said.contains("framepipe.d/b.toml: TOML parse error at line 2, column 1"), "{said}");
    assert!(said.contains("unknown field `process`"), "{said}");
    let advice =
        "\nstages.detect.process is no key: did you mean stages.detect.processes? config/framepipe.toml has every key";
    assert!(said.ends_with(advice), "{said}");
    fs::write(folder.path().join("framepipe.d/b.toml"), "[[pools.raw]]\nslot = 1\n").expect("a file");
    let said = fails(&folder, &[]);
    assert!(said.contains("b.toml: TOML parse error at line 2") && said.contains("unknown field `slot`"), "{said}");
}

#[test]
fn a_pipeline_that_is_not_there_is_told_with_those_that_are() {
    let folder = folder(&[
        ("faces.toml", LEAST),
        ("framepipe.toml", LEAST),
        ("Cargo.toml", "[package]\n"),
        ("street.d/a.toml", LEAST),
    ]);
    let said = |path: &Path| Config::load(path, &Overrides::default()).expect_err("it is not there").to_string();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let there_are = format!("there are {}, {}: name one with --config FILE", file("faces.toml"), file("street.toml"));
    let nope = said(&folder.path().join("nope.toml"));
    assert_eq!(nope, format!("{}: No such file or directory (os error 2): {there_are}", file("nope.toml")));
    let itself = said(folder.path());
    assert_eq!(itself, format!("{}: Is a directory (os error 21): {there_are}", folder.path().display()));
    let nowhere = said(&folder.path().join("no/such.toml"));
    assert!(
        nowhere.contains("No such file") && nowhere.contains("name the pipeline's file with --config FILE"),
        "{nowhere}"
    );
}

#[test]
fn a_path_is_shown_without_detours_unless_a_link_is_in_the_way() {
    let folder = folder(&[("a/b/street.toml", LEAST)]);
    std::os::unix::fs::symlink("a/b", folder.path().join("link")).expect("a link");
    let models = |path: &str| {
        let path = folder.path().join(path);
        Config::explain_in(&path, &Overrides::default(), Vec::new()).expect("it is good").config.models
    };
    assert_eq!(models("a/b/street.toml"), folder.path().join("a/models"));
    assert_eq!(models("a/b/../b/street.toml"), folder.path().join("a/models"));
    assert_eq!(models("link/street.toml"), folder.path().join("link/../models"), "which is a/models");
}

#[test]
fn variables_that_are_others_are_no_keys() {
    for (name, _) in NO_KEYS {
        load(&folder_of_least(), &[(name, "whatever")]);
    }
}

#[test]
fn a_variable_that_is_no_utf8_is_an_error() {
    use std::os::unix::ffi::OsStringExt as _;
    let path = folder_of_least();
    let path = path.path().join("street.toml");
    let bytes = |text: &[u8]| std::ffi::OsString::from_vec(text.into());
    for (name, value) in [(&b"FRAMEPIPE_NAME"[..], &b"\xff"[..]), (b"FRAMEPIPE_N\xff", b"x")] {
        let said = Config::explain_in(&path, &Overrides::default(), vec![(bytes(name), bytes(value))]).err();
        let said = said.expect("it is wrong").to_string();
        assert!(said.starts_with("FRAMEPIPE_N") && said.contains("no UTF-8"), "{said}");
    }
}

#[test]
fn relative_paths_are_relative_to_the_files_folder_and_those_of_options_to_the_present_one() {
    let folder = folder(&[("street.d/a.toml", "[paths]\nstate = \"mine\"\n")]);
    let overrides = Overrides { run: Some("here".into()), inbox: vec!["in".into()], ..Overrides::default() };
    let config = explain(&folder, &[("FRAMEPIPE_PATHS__SHM", "memory")], &overrides).expect("it is good").config;
    assert_eq!(config.state, folder.path().join("mine"));
    assert_eq!(config.shm, folder.path().join("memory"));
    assert_eq!(config.run, std::env::current_dir().expect("there is one").join("here"));
    assert_eq!(config.server.unix, config.run.join("grpc.sock"));
    assert_eq!(config.server.inbox, [std::env::current_dir().expect("there is one").join("in")]);
}

#[test]
fn the_drop_ins_of_framepipe_toml_are_read_once() {
    let folder = folder(&[("framepipe.toml", LEAST), ("framepipe.d/a.toml", "name = \"x\"\n")]);
    let path = folder.path().join("framepipe.toml");
    let explained = Config::explain_in(&path, &Overrides::default(), Vec::new()).expect("it is good");
    assert_eq!(explained.layers.len(), 2);
}

#[test]
fn what_is_explained_is_the_same_configuration_when_it_is_read_again() {
    let folder = folder(&[("street.d/a.toml", "[journal]\nmemory_bytes_max = 1234567\n[cache]\nsoft = 0.25\n")]);
    let options = Overrides { score_threshold: Some(0.3), tcp: Some(String::new()), ..Overrides::default() };
    let explained = explain(&folder, &[("FRAMEPIPE_PIPELINE__MPS", "auto")], &options).expect("it is good");
    let mut again = Table::new();
    for Setting { key, value, .. } in explained.settings().expect("its paths are UTF-8") {
        let Some(value) = value else { continue };
        let mut levels: Vec<&str> = key.split('.').collect();
        let last = levels.pop().expect("a key has a name");
        let table = levels.into_iter().fold(&mut again, |table, level| {
            let value = table.entry(level).or_insert_with(|| Value::Table(Table::new()));
            value.as_table_mut().expect("it is a table")
        });
        table.insert(last.into(), value);
    }
    let elsewhere = Path::new("/elsewhere/street.toml");
    let again = Config::parse(&again.to_string(), elsewhere, &Overrides::default()).expect("it is good");
    assert_eq!(again, explained.config);
}

/// So that no key is left out of the file that documents them.
#[test]
fn the_documented_file_has_every_key() {
    let documented = include_str!("../../../../../config/framepipe.toml");
    let mut section = String::new();
    let mut written = Vec::new();
    for line in documented.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once('=') {
            written.push(format!("{section}{}", key.trim()));
        }
    }
    // Said of one stage for all of them.
    let of_a_stage =
        |key: &str| key.strip_prefix("stages.").and_then(|key| key.split_once('.')).map(|(_, key)| key.to_owned());
    for Setting { key, .. } in keys(&Raw::default()).expect("it is JSON") {
        let key = of_a_stage(&key).map_or(key, |name| format!("stages.ingest.{name}"));
        assert!(written.contains(&key), "config/framepipe.toml does not document {key}");
    }
}
