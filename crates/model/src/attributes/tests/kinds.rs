//! Classes, points, text and scaled numbers, worked out by hand, and what can be wrong with their manifests.
//! tests/tests/kinds.rs compares them with the reference.

use super::super::ctc_text::CHARSET_COUNT_MAX;
use super::*;
use crate::MANIFEST_FILE;
use crate::manifest::sum_of;

const WEARS: &str = r#"classes = { activation = "sigmoid", labels = ["hat", "coat", "bag"], score_threshold = 0.5,
    classes_max = 2 }"#;
const POINTS: &str = r#"keypoints = { names = ["nose", "chin"], normalized = false, activation = "none" }"#;
const TEXT: &str = r#"ctc_text = { activation = "none", charset = "charset.txt", charset_sha256 = "SUM", blank = 1 }"#;
const NUMBER: &str = "number = { scale = 10.0, offset = -1.0 }";
const BINS: &str = r#"expectation = { first = 0.0, step = 2.0, activation = "softmax" }"#;
const CHARSET: &str = "a\nß\n字\n";

/// The head of a model with one output of this kind, whose charset has these lines; its tensor has 416 rows and columns.
fn build(kind: &str, charset: &str, change: impl Fn(String) -> String) -> Result<AttributeHead, ManifestError> {
    let output = "[attributes]\napplies_to = [\"face\"]\n[[attributes.outputs]]\ntensor = \"out\"\nname = \"out\"\n";
    let text = with_attributes(&format!("{output}kind = {{ {} }}\n", kind.replace('\n', "")));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("charset.txt"), charset).unwrap();
    let text = change(text).replace("SUM", &sum_of(charset.as_bytes()));
    std::fs::write(dir.path().join(MANIFEST_FILE), text).unwrap();
    AttributeHead::new(&Manifest::load(dir.path())?)
}

fn says(kind: &str, numbers: &[f32]) -> (Kind, Vec<f32>) {
    let head = build(kind, CHARSET, |text| text).unwrap();
    let mut values = vec![7.0; 9];
    let kind = head.decode(0, numbers, &RECT, &mut values).unwrap();
    assert_eq!(values.len(), head.value_count(0, numbers.len()).unwrap());
    (kind, values)
}

#[test]
fn classes_above_the_threshold_come_best_first_and_the_rest_is_filled_up() {
    let of = |numbers: [f32; 3]| says(WEARS, &numbers);
    let nine_tenths = 9f32.ln();
    let (kind, values) = of([nine_tenths, -5.0, 20.0]);
    assert_eq!((kind, values[0], values[2]), (Kind::Classes, 2.0, 0.0));
    assert!((values[1] - 1.0).abs() < 1e-6 && (values[3] - 0.9).abs() < 1e-6, "{values:?}");
    assert_eq!(of([-1.0, 0.0, -1.0]).1, [NOTHING; 4], "a score at the threshold is not above it");
    assert_eq!(of([20.0, 20.0, 20.0]).1[..3], [0.0, 1.0, 1.0], "equal ones in the model's order, two at most");
    assert_eq!(of([-9.0, 20.0, -9.0]).1, [1.0, 1.0, NOTHING, NOTHING]);
}

#[test]
fn points_lie_where_they_were_in_the_source() {
    // The crop is 100 x 200 at (10, 20).
    let (kind, values) = says(POINTS, &[0.0, 208.0, 0.5, 416.0, -208.0, 1.5]);
    assert_eq!((kind, values), (Kind::Keypoints, vec![10.0, 120.0, 0.5, 110.0, -80.0, 1.0]));
    let without = POINTS.replace(", activation = \"none\"", "").replace("normalized = false", "normalized = true");
    assert_eq!(says(&without, &[0.5, 0.25, 1.0, 1.0]).1, [60.0, 70.0, 1.0, 110.0, 220.0, 1.0]);
}

#[test]
fn points_come_back_through_a_letterbox_and_a_cut() {
    let of = |from: &str, to: &str, numbers: &[f32]| {
        let change = |text: String| {
            assert!(text.contains(from));
            text.replacen(from, to, 1)
        };
        let mut values = Vec::new();
        build(POINTS, CHARSET, change).unwrap().decode(0, numbers, &RECT, &mut values).unwrap();
        values
    };
    // The crop of 100 x 200 becomes 208 x 416, and 104 columns of padding lie on either side.
    let boxed = of("fit = \"stretch\"", "fit = \"letterbox\"", &[104.0, 0.0, 0.5, 208.0, 416.0, 0.5]);
    assert_eq!(boxed, [10.0, 20.0, 0.5, 60.0, 220.0, 0.5]);
    let below = of("fit = \"stretch\"", "fit = \"pad_right_bottom\"", &[0.0, 208.0, 0.5, 416.0, 416.0, 0.5]);
    assert_eq!(below, [10.0, 120.0, 0.5, 210.0, 220.0, 0.5]);
    // Of 416 x 416 pixels the middle half is left.
    let cut = "{ op = \"crop\", center = [208, 208] }, { op = \"convert\"";
    let middle = of("{ op = \"convert\"", cut, &[0.0, 0.0, 0.5, 104.0, 208.0, 0.5]);
    assert_eq!(middle, [35.0, 70.0, 0.5, 60.0, 170.0, 0.5]);
}

#[test]
fn text_is_without_blanks_and_repeats() {
    // Classes: 0 is a, 1 the blank, 2 ß, 3 字.
    let line = |steps: &[(usize, f32)]| {
        let mut numbers = vec![0.0; steps.len() * 4];
        for (step, (class, score)) in steps.iter().enumerate() {
            numbers[step * 4 + class] = *score;
        }
        says(TEXT, &numbers)
    };
    let (kind, values) = line(&[(0, 0.5), (0, 0.75), (1, 0.5), (0, 1.0), (3, 0.75), (2, 0.75)]);
    assert_eq!((kind, values), (Kind::Text, vec![0.75, 0.0, 0.0, 2.0, 1.0, NOTHING, NOTHING]));
    assert_eq!(line(&[(1, 0.5), (1, 0.5)]).1, [0.0, NOTHING, NOTHING], "nothing was read");
    let head = build(TEXT, "a\r\nß\r\n字", |text| text).unwrap();
    assert_eq!(head.names(0), ["a", "ß", "字"], "lines may end as Windows ends them");
}

#[test]
fn spaces_at_the_ends_of_a_line_are_left_out_and_do_not_count() {
    // Classes: 0 is a, 1 the blank, 2 the space.
    let line = |steps: &[(usize, f32)]| {
        let mut numbers = vec![0.0; steps.len() * 3];
        for (step, (class, score)) in steps.iter().enumerate() {
            numbers[step * 3 + class] = *score;
        }
        let head = build(TEXT, "a\n \n", |text| text).unwrap();
        let mut values = Vec::new();
        head.decode(0, &numbers, &RECT, &mut values).unwrap();
        values
    };
    let (a, blank, space) = ((0, 1.0), (1, 1.0), (2, 0.5));
    assert_eq!(line(&[space, blank, space, a, space, a, blank, space])[..5], [2.5 / 3.0, 0.0, 1.0, 0.0, NOTHING]);
    assert_eq!(line(&[space, blank, space]), [0.0, NOTHING, NOTHING, NOTHING], "a line of spaces is none");
}

const UP: &str = r#"class = { activation = "none", labels = ["up", "down"] }"#;
const TURNS: &str = "turns = { label = \"down\", score_min = 0.75 }\n";

#[test]
fn a_label_that_is_sure_enough_turns() {
    let head = build(UP, CHARSET, |text| text + TURNS).unwrap();
    let turner = head.turner().expect("the manifest says so");
    let says = |numbers: [f32; 2]| {
        let mut values = Vec::new();
        head.decode(0, &numbers, &RECT, &mut values).unwrap();
        turner.is_upside_down(&values)
    };
    assert!(says([0.25, 0.75]) && !says([0.3, 0.7]) && !says([0.9, 0.1]));
    assert_eq!(build(UP, CHARSET, |text| text).unwrap().turner(), None);
    for (kind, from, to, expected) in [
        (UP, "\"down\"", "\"left\"", "attributes.outputs[0].turns.label = \"left\""),
        (UP, "0.75", "75", "attributes.outputs[0].turns.score_min = 75.0: give a number from 0 to 1"),
        (NUMBER, "0.75", "0.75", "a label turns"),
    ] {
        let words = build(kind, CHARSET, |text| text + &TURNS.replace(from, to)).expect_err(to).to_string();
        assert!(words.contains(expected), "{words}");
    }
    let twice = format!("{TURNS}[[attributes.outputs]]\ntensor = \"two\"\nname = \"two\"\nkind = {{ {UP} }}\n{TURNS}");
    let words = build(UP, CHARSET, |text| text + &twice).expect_err("two turn").to_string();
    assert!(words.contains("attributes.outputs.turns = 2: leave turns to one output"), "{words}");
}

#[test]
fn numbers_are_scaled_and_bins_may_be_logits() {
    assert_eq!(says(NUMBER, &[0.5]), (Kind::Number, vec![4.0]));
    let (kind, values) = says(BINS, &[0.0, 3f32.ln()]);
    assert_eq!(kind, Kind::Number);
    assert!((values[0] - 1.5).abs() < 1e-6, "{values:?}");
}

#[test]
fn a_number_that_is_none_or_a_wrong_length_is_an_error() {
    for (kind, length, wrong) in [(WEARS, 3, 4), (POINTS, 6, 4), (TEXT, 8, 7), (TEXT, 8, 0), (BINS, 2, 0)] {
        let head = build(kind, CHARSET, |text| text).unwrap();
        let error = head.value_count(0, wrong).unwrap_err();
        assert!(error.message.contains(&format!("has {wrong} numbers")), "{}", error.message);
        for index in 0..length {
            let mut numbers = vec![0.25; length];
            numbers[index] = f32::NAN;
            let error = head.decode(0, &numbers, &RECT, &mut Vec::new()).unwrap_err();
            assert!(error.message.contains("holds NaN"), "{}", error.message);
        }
    }
}

#[test]
fn a_value_that_cannot_be_right_is_named_with_its_key() {
    let cases = [
        (WEARS, "[\"hat\", \"coat\", \"bag\"]", "[\"hat\"]", "kind.classes.labels"),
        (WEARS, "threshold = 0.5", "threshold = 1.0", "kind.classes.score_threshold = 1.0: give a number from 0"),
        (WEARS, "classes_max = 2", "classes_max = 4", "kind.classes.classes_max = 4: give 1 to 3"),
        (WEARS, "classes_max = 2", "classes_max = 0", "kind.classes.classes_max = 0"),
        (NUMBER, "10.0", "0.0", "attributes.outputs[0].kind.number"),
        (BINS, "\"softmax\"", "\"sigmoid\"", "kind.expectation.activation = Sigmoid"),
        (POINTS, "\"chin\"", "\"nose\"", "\"nose\" stands there twice"),
        (POINTS, "\"none\"", "\"softmax\"", "kind.keypoints.activation"),
        (TEXT, "\"none\"", "\"sigmoid\"", "kind.ctc_text.activation = Sigmoid"),
        (TEXT, "charset.txt", "../charset.txt", "name a file in the manifest's own folder"),
        (TEXT, "charset.txt", "letters.txt", "letters.txt"),
        (TEXT, "SUM", "9372c4", "charset.txt has the sha256"),
        (TEXT, "blank = 1", "blank = 4", "kind.ctc_text.blank = 4: give 0 to 3"),
    ];
    for (kind, from, to, expected) in cases {
        assert!(kind.contains(from), "{from:?} is not in {kind}");
        let built = build(&kind.replacen(from, to, 1), CHARSET, |text| text);
        let words = built.expect_err(&format!("{to} was taken")).to_string();
        assert!(words.contains(expected), "{to}: {words}");
    }
    for charset in ["", "a\n\nb\n", &"x\n".repeat(CHARSET_COUNT_MAX + 1)] {
        let words = build(TEXT, charset, |text| text).expect_err("it was taken").to_string();
        assert!(words.contains("kind.ctc_text.charset") && words.contains("one a line"), "{words}");
    }
}
