use super::*;

const TURNS: &str = "turns = { label = \"down\", score_min = 0.9 }";

/// An attribute model with one output; `own` goes into its `[attributes]`, `more` below the output.
fn model(name: &str, output: &str, own: &str, more: &str) -> Manifest {
    let sum = "0".repeat(64);
    let text = format!(
        r#"name = "{name}"
        version = 1
        file = "model.onnx"
        sha256 = "{sum}"
        source = "a test"
        licence = "none"
        description = "a test"
        [input]
        tensor = "x"
        graph = [{{ op = "crop", detection = "box" }}, {{ op = "resize", fit = "stretch", width = 8, height = 8 }}]
        [attributes]
        {own}
        [[attributes.outputs]]
        tensor = "out"
        name = "{output}"
        kind = {{ class = {{ activation = "none", labels = ["up", "down"] }} }}
        {more}"#
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("manifest.toml"), text).unwrap();
    Manifest::load(dir.path()).unwrap()
}

fn orientation(name: &str) -> Manifest {
    model(name, "orientation", r#"applies_to = ["text"]"#, TURNS)
}

fn reader() -> Manifest {
    model("reader", "line", "applies_to = [\"text\"]\nturned_by = \"orientation\"", "")
}

fn words(labels: &[&str], attributes: &[Manifest]) -> String {
    let labels: Vec<String> = labels.iter().map(|label| label.to_string()).collect();
    turners(&labels, attributes).expect_err("it was taken").to_string()
}

#[test]
fn a_model_is_turned_by_the_one_before_it_that_says_the_attribute() {
    let labels = ["text".to_owned()];
    let other = || model("other", "colour", r#"applies_to = ["text"]"#, "");
    let of = |attributes: &[Manifest]| turners(&labels, attributes).unwrap();
    assert_eq!(of(&[other(), orientation("cls"), other(), reader()]), [None, None, None, Some(1)]);
    assert_eq!(of(&[orientation("cls"), reader(), reader()]), [None, Some(0), Some(0)]);
    assert_eq!(of(&[other()]), [None]);
    let more = ["sign".to_owned(), "text".to_owned()];
    let turners = turners(&more, &[orientation("cls"), reader()]).expect("neither is asked about signs");
    assert_eq!(turners, [None, Some(0)]);
}

#[test]
fn what_cannot_turn_is_an_error_that_says_what_to_do() {
    let text = &["text"][..];
    let start = "the attribute model reader has its crops turned by \"orientation\", and ";
    let said = words(text, &[reader()]);
    assert!(said.starts_with(start) && said.contains("no attribute model of the pipeline has an output of that name"));
    let said = words(text, &[reader(), orientation("cls")]);
    assert!(said.contains("cls comes after it: put cls before it in pipeline.attributes"), "{said}");
    let said = words(text, &[orientation("one"), orientation("two"), reader()]);
    assert!(said.contains("both one and two say that"), "{said}");
    let mute = model("cls", "orientation", r#"applies_to = ["text"]"#, "");
    let said = words(text, &[mute, reader()]);
    assert!(said.contains("cls does not say which of its labels turns: write turns = { label"), "{said}");
    let own = model("own", "orientation", "applies_to = [\"text\"]\nturned_by = \"orientation\"", TURNS);
    assert!(words(text, &[own]).contains("that is its own"));
    let fine = model("fine", "tilt", "applies_to = [\"text\"]\nturned_by = \"orientation\"", TURNS);
    let last = model("last", "line", "applies_to = [\"text\"]\nturned_by = \"tilt\"", "");
    let said = words(text, &[orientation("cls"), fine, last]);
    assert!(said.contains("fine has its own crops turned, by \"orientation\": have these turned by"), "{said}");
    let wide = model("reader", "line", "applies_to = [\"text\", \"sign\"]\nturned_by = \"orientation\"", "");
    let said = words(&["text", "sign"], &[orientation("cls"), wide.clone()]);
    assert!(said.contains("cls does not apply to \"sign\": add it to the applies_to of cls"), "{said}");
    let labels = ["text".to_owned()];
    assert!(turners(&labels, &[orientation("cls"), wide]).is_ok(), "the detector finds no signs");
}
