//! Average precision as COCO defines it (<https://cocodataset.org/#detection-eval>; Lin et al., "Microsoft COCO: Common
//! Objects in Context", 2014), to the last choice between equals as pycocotools 2.0 makes it:
//!
//! - of one image and class, the [`DETECTIONS_MAX`] highest scores count; equal scores in the order in which they came
//! - at each of ten overlaps, 0.5 to 0.95, a detection takes the object that it overlaps most, of those not taken; where
//!   nothing but an ignored or a crowded one is left, it counts neither as right nor as wrong
//! - the overlap with a crowd is the share of the detection that lies in it
//! - precision at a recall is the best at that recall or beyond; its mean at 101 recalls, 0 to 1, is the AP
//!
//! Objects of all sizes count.

use crate::{Counting, Object};

/// Detections of one image and class that count.
pub const DETECTIONS_MAX: usize = 100;
const OVERLAPS: usize = 10;
const RECALLS: usize = 101;

/// One detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Index of its class, the labels'.
    pub class: usize,
    /// Its score, a number.
    pub score: f64,
    /// Left, top, right, bottom, as the objects'.
    pub corners: [f64; 4],
}

/// How well detections agree with labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// AP at an overlap of 0.5: the mean of the classes that have objects; `None` where none has.
    pub ap50: Option<f64>,
    /// AP50:95: the mean over overlaps too.
    pub ap: Option<f64>,
    /// By class.
    pub classes: Vec<ClassAccuracy>,
}

/// The same of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassAccuracy {
    /// AP at an overlap of 0.5; `None` where there is no object to be found.
    pub ap50: Option<f64>,
    /// AP50:95.
    pub ap: Option<f64>,
    /// Objects to be found.
    pub objects: usize,
    /// Objects that need not be: crowds, difficult ones.
    pub ignored: usize,
    /// Detections that count.
    pub detections: usize,
    /// Objects that a detection of any score overlaps by 0.5.
    pub found: usize,
}

/// What a detection is at one overlap.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    Ignored,
}

struct Judged {
    score: f64,
    verdicts: [Verdict; OVERLAPS],
}

/// Compares what was found in each image with its objects, for so many classes.
///
/// # Panics
/// Where a class's index is not below `classes`, or a score is no number.
pub fn accuracy(images: &[(&[Object], &[Found])], classes: usize) -> Accuracy {
    let mut objects_of: Vec<Vec<Vec<&Object>>> = vec![Vec::new(); classes];
    let mut found_of: Vec<Vec<Vec<&Found>>> = vec![Vec::new(); classes];
    for (objects, found) in images {
        let classes_here = objects.iter().map(|one| one.class).chain(found.iter().map(|one| one.class));
        for class in classes_here.collect::<std::collections::BTreeSet<_>>() {
            objects_of[class].push(objects.iter().filter(|one| one.class == class).collect());
            found_of[class].push(found.iter().filter(|one| one.class == class).collect());
        }
    }
    let classes: Vec<ClassAccuracy> =
        objects_of.into_iter().zip(found_of).map(|(objects, found)| of_class(&objects, &found)).collect();
    let mean_of = |ap: fn(&ClassAccuracy) -> Option<f64>| mean(classes.iter().filter_map(ap));
    Accuracy { ap50: mean_of(|class| class.ap50), ap: mean_of(|class| class.ap), classes }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for number in numbers {
        sum += number;
        count += 1;
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// By image, the objects and detections of one class.
fn of_class(objects: &[Vec<&Object>], found: &[Vec<&Found>]) -> ClassAccuracy {
    let all = objects.iter().flatten();
    let (objects_count, ignored) = all.fold((0, 0), |(counted, ignored), one| match one.counting {
        Counting::Counted => (counted + 1, ignored),
        Counting::Ignored | Counting::Crowd => (counted, ignored + 1),
    });
    let mut judged: Vec<Judged> =
        objects.iter().zip(found).flat_map(|(objects, found)| judge(objects, found)).collect();
    judged.sort_by(|one, other| falling(one.score, other.score));
    let ap_at = |overlap: usize| {
        let verdicts = judged.iter().map(|one| one.verdicts[overlap]);
        average_precision(verdicts, objects_count)
    };
    let aps: Option<Vec<f64>> = (objects_count > 0).then(|| (0..OVERLAPS).map(ap_at).collect());
    ClassAccuracy {
        ap50: aps.as_ref().map(|aps| aps[0]),
        ap: aps.and_then(|aps| mean(aps.into_iter())),
        objects: objects_count,
        ignored,
        detections: judged.len(),
        found: judged.iter().filter(|one| one.verdicts[0] == Verdict::Right).count(),
    }
}

fn falling(one: f64, other: f64) -> std::cmp::Ordering {
    other.partial_cmp(&one).expect("scores are numbers")
}

/// What each detection of one image is.
fn judge(objects: &[&Object], found: &[&Found]) -> Vec<Judged> {
    let mut found = found.to_vec();
    found.sort_by(|one, other| falling(one.score, other.score));
    found.truncate(DETECTIONS_MAX);
    let mut objects = objects.to_vec();
    objects.sort_by_key(|one| one.counting != Counting::Counted);
    let mut judged: Vec<Judged> =
        found.iter().map(|one| Judged { score: one.score, verdicts: [Verdict::Wrong; OVERLAPS] }).collect();
    for overlap in 0..OVERLAPS {
        let least = overlap_min(overlap);
        let mut taken = vec![false; objects.len()];
        for (one, judged) in found.iter().zip(&mut judged) {
            let Some(place) = best(one, &objects, &taken, least) else { continue };
            taken[place] = objects[place].counting != Counting::Crowd;
            let is_counted = objects[place].counting == Counting::Counted;
            judged.verdicts[overlap] = if is_counted { Verdict::Right } else { Verdict::Ignored };
        }
    }
    judged
}

/// The object that a detection overlaps most, the last of equals; one that is to be found before any other. The objects that
/// are come first.
fn best(one: &Found, objects: &[&Object], taken: &[bool], least: f64) -> Option<usize> {
    let (mut best, mut most) = (None, least);
    for (place, object) in objects.iter().enumerate() {
        let is_counted = |place: usize| objects[place].counting == Counting::Counted;
        if best.is_some_and(is_counted) && !is_counted(place) {
            break;
        }
        let overlap = overlap(&one.corners, object);
        if !taken[place] && overlap >= most {
            (best, most) = (Some(place), overlap);
        }
    }
    best
}

/// The overlap of this number, spaced as numpy.linspace(0.5, 0.95, 10) spaces them.
fn overlap_min(number: usize) -> f64 {
    const STEP: f64 = (0.95 - 0.5) / 9.0;
    if number == OVERLAPS - 1 { 0.95 } else { number as f64 * STEP + 0.5 }
}

/// Intersection over union; of a crowd, over the detection.
fn overlap(found: &[f64; 4], object: &Object) -> f64 {
    let labelled = &object.corners;
    let across = found[2].min(labelled[2]) - found[0].max(labelled[0]);
    let down = found[3].min(labelled[3]) - found[1].max(labelled[1]);
    if across <= 0.0 || down <= 0.0 {
        return 0.0;
    }
    let shared = across * down;
    let area = |corners: &[f64; 4]| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    match object.counting {
        Counting::Crowd => shared / area(found),
        Counting::Counted | Counting::Ignored => shared / (area(found) + area(labelled) - shared),
    }
}

/// The AP of verdicts, highest score first, on `objects` that are to be found.
fn average_precision(verdicts: impl Iterator<Item = Verdict>, objects: usize) -> f64 {
    let (mut right, mut wrong, mut curve) = (0, 0, Vec::new());
    for verdict in verdicts {
        match verdict {
            Verdict::Right => right += 1,
            Verdict::Wrong => wrong += 1,
            Verdict::Ignored => {}
        }
        let judged = f64::from(right + wrong);
        curve.push((f64::from(right) / objects as f64, if judged > 0.0 { f64::from(right) / judged } else { 0.0 }));
    }
    for place in (1..curve.len()).rev() {
        curve[place - 1].1 = curve[place - 1].1.max(curve[place].1);
    }
    let at = |recall: f64| {
        let place = curve.partition_point(|(reached, _)| *reached < recall);
        curve.get(place).map_or(0.0, |(_, precision)| *precision)
    };
    (0..RECALLS).map(|number| at(number as f64 * 0.01)).sum::<f64>() / RECALLS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(corners: [f64; 4], counting: Counting) -> Object {
        Object { class: 0, corners, counting }
    }

    fn found(score: f64, corners: [f64; 4]) -> Found {
        Found { class: 0, score, corners }
    }

    const A: [f64; 4] = [0.0, 0.0, 10.0, 10.0];
    const B: [f64; 4] = [20.0, 20.0, 30.0, 30.0];
    const NOWHERE: [f64; 4] = [50.0, 50.0, 60.0, 60.0];

    fn ap50(objects: &[Object], found: &[Found]) -> Option<f64> {
        accuracy(&[(objects, found)], 1).ap50
    }

    #[test]
    fn by_hand_a_hit_a_miss_and_a_hit() {
        let objects = [object(A, Counting::Counted), object(B, Counting::Counted)];
        let found = [found(0.9, A), found(0.8, NOWHERE), found(0.7, B)];
        // Precision 1 up to a recall of 0.5, which is 51 of the 101, then 2/3.
        let expected = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
        assert!((ap50(&objects, &found).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn a_crowd_takes_any_number_and_a_difficult_object_one() {
        let counted = object(B, Counting::Counted);
        let twice = [found(0.9, A), found(0.8, A), found(0.7, B)];
        let of = |counting| ap50(&[object(A, counting), counted.clone()], &twice).unwrap();
        assert_eq!(of(Counting::Crowd), 1.0);
        assert_eq!(of(Counting::Ignored), 0.5, "the second detection of it is wrong");
        let inside = [found(0.9, [2.0, 2.0, 3.0, 3.0]), found(0.7, B)];
        let crowd = [object(A, Counting::Crowd), counted];
        assert_eq!(ap50(&crowd, &inside), Some(1.0), "all of the detection lies in the crowd");
    }

    #[test]
    fn a_class_without_objects_has_no_ap_and_one_without_detections_has_none_right() {
        let of = accuracy(&[(&[object(A, Counting::Counted)], &[Found { class: 1, score: 0.5, corners: A }])], 3);
        assert_eq!((of.ap50, of.classes[0].ap50, of.classes[1].ap50), (Some(0.0), Some(0.0), None));
        assert_eq!((of.classes[1].detections, of.classes[2].detections), (1, 0));
        assert_eq!(accuracy(&[], 2).ap, None);
    }

    #[test]
    fn beyond_a_hundred_of_an_image_and_class_detections_do_not_count() {
        let mut many: Vec<Found> = (0..DETECTIONS_MAX).map(|_| found(0.9, NOWHERE)).collect();
        many.push(found(0.1, A));
        assert_eq!(ap50(&[object(A, Counting::Counted)], &many), Some(0.0));
        many.remove(0);
        assert!(ap50(&[object(A, Counting::Counted)], &many).unwrap() > 0.0);
    }
}
