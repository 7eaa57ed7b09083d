//! Distances to the four sides of a box as distributions over bins: Generalized Focal Loss (Li et al., 2020), DFL.

/// Most bins of a distance.
pub(super) const BIN_COUNT_MAX: usize = 64;

/// Sum of `softmax(logits)[i] * i`; NaN where a logit is NaN or +infinity.
pub(super) fn expectation(logits: impl Iterator<Item = f32> + Clone) -> f32 {
    let peak = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (index, logit) in logits.enumerate() {
        let weight = (logit - peak).exp();
        sum += weight;
        weighted += weight * index as f32;
    }
    weighted / sum
}
