//! Non-maximum suppression: of boxes of one class that overlap, the one with the highest score stays.

use std::cmp::Ordering;

use framepipe_frame::detections::Detection;

/// Leaves in `candidates` those that no better one of their class overlaps by more than `iou_threshold`, best
/// first, at most `detections_max`. Returns how many more there would have been.
///
/// Candidates with a number that is none, or infinite, are dropped; beyond `candidates_max` the lowest scores are.
/// The order is total, so the result does not depend on the order of candidates. Takes no memory; at worst
/// `candidates_max`² / 2 comparisons.
pub fn nms(candidates: &mut Vec<Detection>, iou_threshold: f32, candidates_max: usize, detections_max: usize) -> usize {
    candidates.retain(is_finite);
    if candidates.len() > candidates_max {
        if candidates_max > 0 {
            candidates.select_nth_unstable_by(candidates_max - 1, best_first);
        }
        candidates.truncate(candidates_max);
    }
    candidates.sort_unstable_by(best_first);
    let mut kept = 0;
    for index in 0..candidates.len() {
        let candidate = candidates[index];
        let suppressed = candidates[..kept]
            .iter()
            .any(|better| better.class == candidate.class && iou(better, &candidate) > iou_threshold);
        if !suppressed {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept.min(detections_max));
    kept - candidates.len()
}

fn is_finite(detection: &Detection) -> bool {
    [detection.score, detection.x0, detection.y0, detection.x1, detection.y1].iter().all(|number| number.is_finite())
}

/// By score, highest first; equal ones by class, then by place.
fn best_first(a: &Detection, b: &Detection) -> Ordering {
    b.score
        .total_cmp(&a.score)
        .then(a.class.cmp(&b.class))
        .then(a.x0.total_cmp(&b.x0))
        .then(a.y0.total_cmp(&b.y0))
        .then(a.x1.total_cmp(&b.x1))
        .then(a.y1.total_cmp(&b.y1))
}

/// Intersection over union of two boxes, 0 to 1; 0 where neither has an area.
pub fn iou(a: &Detection, b: &Detection) -> f32 {
    let width = (a.x1.min(b.x1) - a.x0.max(b.x0)).max(0.0);
    let height = (a.y1.min(b.y1) - a.y0.max(b.y0)).max(0.0);
    let intersection = width * height;
    let union = area(a) + area(b) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

fn area(detection: &Detection) -> f32 {
    (detection.x1 - detection.x0).max(0.0) * (detection.y1 - detection.y0).max(0.0)
}

/// Cuts a box at the edges of an image of `width` x `height`.
pub fn clamp_to(detection: &mut Detection, width: u32, height: u32) {
    let (right, bottom) = (width as f32, height as f32);
    detection.x0 = detection.x0.clamp(0.0, right);
    detection.y0 = detection.y0.clamp(0.0, bottom);
    detection.x1 = detection.x1.clamp(0.0, right);
    detection.y1 = detection.y1.clamp(0.0, bottom);
}

#[cfg(test)]
mod tests;
