//! Every kind of attribute against tests/reference/kinds.py, which writes the same meaning a second time in numpy: from the
//! same raw outputs come the same values.

use framepipe_frame::attributes::{Kind, NOTHING};
use framepipe_model::{AttributeHead, Manifest};
use framepipe_tests::findings::run_python;
use framepipe_vision::Rect;
use serde::Deserialize;

/// Where kinds.py says that its crops lie.
const RECT: Rect = Rect { x0: 10.0, y0: 20.0, x1: 110.0, y1: 220.0 };
/// Largest difference of a score from the reference's.
const SCORE_DIFFERENCE_MAX: f64 = 1e-5;
/// Largest difference of another number, as a share of it (of 1, where it is less).
const NUMBER_DIFFERENCE_MAX: f64 = 1e-5;

#[derive(Deserialize)]
struct Case {
    output: String,
    numbers: Vec<f32>,
    value: Value,
}

/// What one output says; a field that another kind of output has is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Value {
    label: Option<String>,
    score: Option<f64>,
    number: Option<f64>,
    vector: Option<Vec<f64>>,
    classes: Option<Vec<Class>>,
    points: Option<Vec<[f64; 3]>>,
}

#[derive(Debug, Deserialize)]
struct Class {
    label: String,
    score: f64,
}

impl Value {
    /// What the product's numbers say, whose indices are into `names`.
    fn of(kind: Kind, numbers: &[f32], names: &[String]) -> Self {
        let name = |index: &f32| names[*index as usize].clone();
        let until = |end: &&f32| **end != NOTHING;
        let none = Self::default();
        match kind {
            Kind::Class => Self { label: Some(name(&numbers[0])), score: Some(numbers[1].into()), ..none },
            Kind::Number => Self { number: Some(numbers[0].into()), ..none },
            Kind::Vector => Self { vector: Some(numbers.iter().copied().map(f64::from).collect()), ..none },
            Kind::Text => {
                let label = numbers[1..].iter().take_while(until).map(name).collect();
                Self { label: Some(label), score: Some(numbers[0].into()), ..none }
            }
            Kind::Classes => {
                let pairs = numbers.chunks_exact(2).take_while(|pair| pair[0] != NOTHING);
                let classes = pairs.map(|pair| Class { label: name(&pair[0]), score: pair[1].into() }).collect();
                Self { classes: Some(classes), ..none }
            }
            Kind::Keypoints => {
                let point = |point: &[f32]| [point[0], point[1], point[2]].map(f64::from);
                Self { points: Some(numbers.chunks_exact(3).map(point).collect()), ..none }
            }
        }
    }

    /// Its names, in order.
    fn names(&self) -> Vec<&str> {
        let classes = self.classes.iter().flatten().map(|class| class.label.as_str());
        self.label.iter().map(String::as_str).chain(classes).collect()
    }

    /// Its scores, and its other numbers.
    fn numbers(&self) -> (Vec<f64>, Vec<f64>) {
        let points = || self.points.iter().flatten();
        let classes = self.classes.iter().flatten().map(|class| class.score);
        let scores = self.score.iter().copied().chain(classes).chain(points().map(|point| point[2]));
        let vector = self.vector.iter().flatten().copied();
        let places = points().flat_map(|point| [point[0], point[1]]);
        (scores.collect(), self.number.iter().copied().chain(vector).chain(places).collect())
    }
}

#[test]
fn each_kind_of_attribute_says_what_the_reference_says() {
    let home = tempfile::tempdir().unwrap();
    run_python("kinds.py", |command| {
        command.arg("--out").arg(home.path());
    });
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(home.path().join("cases.json")).unwrap()).unwrap();
    let head = AttributeHead::new(&Manifest::load(home.path()).unwrap()).unwrap();
    let mut values = Vec::new();
    let mut most = (0.0f64, 0.0f64);
    for Case { output, numbers, value } in &cases {
        let place = head.outputs().iter().position(|name| name == output).expect("the manifest has the output");
        let kind = head.decode(place, numbers, &RECT, &mut values).unwrap();
        assert_eq!(values.len(), head.value_count(place, numbers.len()).unwrap(), "{output}");
        let said = Value::of(kind, &values, head.names(place));
        assert_eq!(said.names(), value.names(), "{output} of {numbers:?}");
        let (scores, others) = said.numbers();
        let (expected_scores, expected_others) = value.numbers();
        assert_eq!((scores.len(), others.len()), (expected_scores.len(), expected_others.len()), "{output}");
        for (score, expected) in scores.iter().zip(&expected_scores) {
            assert!((score - expected).abs() <= SCORE_DIFFERENCE_MAX, "{output}: {said:?}, the reference's {value:?}");
            most.0 = most.0.max((score - expected).abs());
        }
        for (number, expected) in others.iter().zip(&expected_others) {
            let difference = (number - expected).abs() / expected.abs().max(1.0);
            assert!(difference <= NUMBER_DIFFERENCE_MAX, "{output}: {said:?}, the reference's {value:?}");
            most.1 = most.1.max(difference);
        }
    }
    println!("{} values; largest differences: {:.1e} of a score, {:.1e} of a number", cases.len(), most.0, most.1);
    assert!(cases.len() >= 16, "every kind has its cases");
}
