//! `framepipe model` on a repository of a test's own: what is listed, what is refused, and what is removed.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const MANIFEST: &str = r#"
name = "finder"
version = 1
file = "model.onnx"
sha256 = "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
source = "a test"
licence = "MIT"
description = "finds"
[input]
tensor = "images"
graph = [
    { op = "decode" },
    { op = "resize", fit = "stretch", width = 416, height = 320 },
    { op = "normalize", mean = 0, std = [1, 1, 1] },
    { op = "layout", order = "nchw" },
]
[detector]
labels = ["person", "car"]
score_threshold = 0.35
iou_threshold = 0.6
candidates_max = 1000
detections_max = 100
[detector.head.nanodet]
scores = ["s8", "s16"]
boxes = ["b8", "b16"]
strides = [8, 16]
bins = 11
[quantized]
agreement = 0.95
measure = "ap50"
images = 200
speed = 2.0
float_layers = []
forced = false
"#;

/// A repository with versions 1 and 2 of `finder`, and a configuration that uses it.
fn repository() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder can be made");
    for version in 1..=2 {
        let folder = home.path().join(format!("models/finder/{version}"));
        fs::create_dir_all(&folder).expect("the folder can be written to");
        let manifest = MANIFEST.replace("version = 1", &format!("version = {version}"));
        fs::write(folder.join("manifest.toml"), manifest).expect("the folder can be written to");
        fs::write(folder.join("model.onnx"), "model").expect("the folder can be written to");
    }
    let street =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/street.toml")).expect("it is there");
    let mut config: toml::Table = street.parse().expect("it is TOML");
    let table = |name: &str, key: &str, value: &str| {
        let mut table = config.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        table.insert(key.into(), value.into());
        (name.to_owned(), toml::Value::Table(table))
    };
    let changed = [
        table("pipeline", "detector", "finder"),
        table("paths", "models", home.path().join("models").to_str().expect("it is UTF-8")),
    ];
    config.extend(changed);
    fs::write(home.path().join("pipeline.toml"), config.to_string()).expect("the folder can be written to");
    home
}

fn model(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_framepipe-model"));
    command.args(arguments).current_dir(home).arg("--config").arg(home.join("pipeline.toml"));
    command.output().expect("framepipe-model can be run")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("it prints UTF-8")
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).expect("it prints UTF-8")
}

#[test]
fn a_repository_is_listed_and_one_model_of_it_shown() {
    let home = repository();
    let rows: serde_json::Value =
        serde_json::from_str(&said(&model(home.path(), &["list", "--json"]))).expect("it prints JSON");
    let versions: Vec<_> =
        rows.as_array().expect("a list").iter().map(|row| row["version"].as_u64().expect("a number")).collect();
    assert_eq!(versions, [1, 2]);
    assert_eq!(
        (&rows[0]["precision"], &rows[0]["servable"], &rows[0]["bytes"]),
        (&"int8".into(), &false.into(), &5.into())
    );
    let text = said(&model(home.path(), &["show", "finder"]));
    assert!(text.contains("finder version 2") && text.contains("0.95 with its float twin: not served"), "{text}");
    assert!(said(&model(home.path(), &["show", "finder@1"])).contains("finder version 1"));
    for wrong in ["finder@3", "loser"] {
        assert!(refused(&model(home.path(), &["show", wrong])).contains(wrong), "{wrong}");
    }
    for wrong in ["finder@x", "../models"] {
        let output = model(home.path(), &["show", wrong]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains(wrong) && words.contains("names no model: write NAME"), "{words}");
    }
}

#[test]
fn a_model_in_use_is_removed_by_yes_alone() {
    let home = repository();
    let words = refused(&model(home.path(), &["remove", "finder@1"]));
    assert!(words.contains("uses finder") && words.contains("--yes"), "{words}");
    assert!(home.path().join("models/finder/1/model.onnx").exists());
    said(&model(home.path(), &["remove", "finder@1", "--yes"]));
    assert!(!home.path().join("models/finder/1").exists() && home.path().join("models/finder/2").exists());
    said(&model(home.path(), &["remove", "finder", "--yes"]));
    assert!(!home.path().join("models/finder").exists());
}

#[test]
fn quantize_says_what_it_lacks() {
    let home = repository();
    let words = refused(&model(home.path(), &["quantize", "faceres", "--images", "."]));
    assert!(words.contains("build/venv/bin/python") && words.contains("scripts/setup"), "{words}");
}
