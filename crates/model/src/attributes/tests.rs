mod kinds;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::manifest::tests::{ATTRIBUTES, DETECTOR, load, with_attributes};

const RECT: Rect = Rect { x0: 10.0, y0: 20.0, x1: 110.0, y1: 220.0 };
const AGE: usize = 0;
const GENDER: usize = 1;
const MASK: usize = 2;
const YAW: usize = 3;
const EMBEDDING: usize = 4;
const MOOD: usize = 5;

fn head() -> AttributeHead {
    AttributeHead::new(&load(&with_attributes(ATTRIBUTES)).unwrap()).unwrap()
}

fn decode(output: usize, numbers: &[f32]) -> (Kind, Vec<f32>) {
    let mut values = vec![7.0; 9];
    let kind = head().decode(output, numbers, &RECT, &mut values).unwrap();
    assert_eq!(values.len(), head().value_count(output, numbers.len()).unwrap());
    (kind, values)
}

#[test]
fn outputs_are_in_the_order_of_the_manifest() {
    assert_eq!(head().outputs(), ["age", "gender", "mask", "yaw", "descriptor", "mood"]);
    assert!(matches!(AttributeHead::new(&load(DETECTOR).unwrap()), Err(ManifestError::WrongTask { .. })));
}

#[test]
fn each_kind_says_what_its_numbers_mean() {
    assert_eq!(decode(GENDER, &[0.25, 0.75]), (Kind::Class, vec![1.0, 0.75]));
    assert_eq!(decode(GENDER, &[0.5, 0.5]), (Kind::Class, vec![0.0, 0.5]), "the first of equals");
    assert_eq!(decode(GENDER, &[1.5, 0.0]), (Kind::Class, vec![0.0, 1.0]), "a score is at most 1");
    assert_eq!(decode(MASK, &[0.75]), (Kind::Class, vec![1.0, 0.75]));
    assert_eq!(decode(MASK, &[0.25]), (Kind::Class, vec![0.0, 0.75]));
    assert_eq!(decode(MASK, &[0.5]), (Kind::Class, vec![0.0, 0.5]));
    assert_eq!(decode(YAW, &[-12.5]), (Kind::Number, vec![-12.5]));
    assert_eq!(decode(AGE, &[0.0, 0.25, 0.0, 0.75]), (Kind::Number, vec![0.25 + 3.0 * 0.75]));
    assert_eq!(decode(EMBEDDING, &[3.0, 0.0, -4.0]), (Kind::Vector, vec![0.6, 0.0, -0.8]));
    assert_eq!(decode(EMBEDDING, &[0.0, 0.0]), (Kind::Vector, vec![0.0, 0.0]), "no direction");
    let (kind, values) = decode(MOOD, &[0.0, 6f32.ln(), 0.0]);
    assert_eq!((kind, values[0]), (Kind::Class, 1.0));
    assert!((values[1] - 0.75).abs() < 1e-6, "{values:?}");
}

#[test]
fn bins_start_and_step_as_the_manifest_says_and_a_vector_may_stay_as_it_is() {
    let text = with_attributes(ATTRIBUTES)
        .replace("first = 0.0, step = 1.0", "first = -90, step = 3")
        .replace("normalize = true", "normalize = false");
    let head = AttributeHead::new(&load(&text).unwrap()).unwrap();
    let mut values = Vec::new();
    assert_eq!(head.decode(AGE, &[0.5, 0.0, 0.5], &RECT, &mut values), Ok(Kind::Number));
    assert_eq!(values, [-87.0]);
    assert_eq!(head.decode(EMBEDDING, &[3.0, 4.0], &RECT, &mut values), Ok(Kind::Vector));
    assert_eq!(values, [3.0, 4.0]);
}

#[test]
fn a_wrong_length_is_an_error_that_says_which_and_how_many() {
    let cases =
        [(GENDER, 3), (GENDER, 0), (MASK, 2), (MASK, 0), (YAW, 0), (YAW, 2), (AGE, 0), (EMBEDDING, 0), (MOOD, 2)];
    for (output, length) in cases {
        let error = head().decode(output, &vec![0.1; length], &RECT, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Inference);
        assert!(error.message.contains(head().outputs()[output]), "{}", error.message);
        assert!(error.message.contains(&format!("has {length} numbers")), "{}", error.message);
        assert_eq!(head().value_count(output, length), Err(error));
    }
}

#[test]
fn a_number_that_is_none_is_an_error() {
    let cases = [(GENDER, 2), (MASK, 1), (YAW, 1), (AGE, 4), (EMBEDDING, 8), (MOOD, 3)];
    for (output, length) in cases {
        for index in 0..length {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut numbers = vec![0.25; length];
                numbers[index] = bad;
                let mut values = Vec::new();
                let error = head().decode(output, &numbers, &RECT, &mut values).unwrap_err();
                assert_eq!(error.code, ErrorCode::Inference);
                assert!(error.message.contains(&format!("holds {bad}")), "{}", error.message);
                assert!(values.is_empty());
            }
        }
    }
}

proptest! {
    #[test]
    fn softmax_and_unit_vectors_agree_with_f64(logits in vec(-30f32..30.0, 3), vector in vec(-1e3f32..1e3, 1..200)) {
        let (_, values) = decode(MOOD, &logits);
        let wide: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
        let shares: Vec<f64> = wide.iter().map(|x| x / wide.iter().sum::<f64>()).collect();
        prop_assert!(shares.iter().all(|share| *share <= shares[values[0] as usize]));
        prop_assert!((f64::from(values[1]) - shares[values[0] as usize]).abs() < 1e-5);

        let (_, values) = decode(EMBEDDING, &vector);
        let length: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
        for (value, x) in values.iter().zip(&vector) {
            prop_assert!((f64::from(*value) * length - f64::from(*x)).abs() < 1e-3);
        }
    }

    #[test]
    fn whatever_the_numbers_a_class_is_a_label_with_a_score(numbers in vec(any::<f32>(), 3)) {
        let mut values = Vec::new();
        for (output, length) in [(GENDER, 2), (MASK, 1), (MOOD, 3)] {
            let numbers = &numbers[..length];
            let is_finite = numbers.iter().all(|number| number.is_finite());
            let decoded = head().decode(output, numbers, &RECT, &mut values);
            prop_assert_eq!(decoded.is_ok(), is_finite);
            if is_finite {
                prop_assert!(values[0] < 3.0 && (0.0..=1.0).contains(&values[1]), "{:?}", values);
            }
        }
    }
}
