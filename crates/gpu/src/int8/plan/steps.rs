//! Whether a convolution's numbers stay within what the kernels count in: sums in i32, and steps, which are rounded to i32 before the
//! zero point is added. No model's do not: steps so fine would have no meaning.

use crate::GpuError;
use crate::int8::graph::{Conv, Steps};

/// Steps before the zero point.
const STEPS_MAX: f64 = (i32::MAX / 2) as f64;

/// Fails where they do not.
pub(super) fn check(conv: &Conv, to: Steps, residual: Option<Steps>) -> Result<(), GpuError> {
    let filter = conv.weights.len() / conv.bias.len();
    let sums = conv.weights.chunks_exact(filter).zip(&conv.bias).map(|(weights, bias)| {
        weights.iter().map(|weight| 255 * i64::from(*weight).abs()).sum::<i64>() + i64::from(*bias).abs()
    });
    let fits = |(sum, scale): (i64, &f32)| sum <= i32::MAX.into() && sum as f64 * f64::from(*scale).abs() < STEPS_MAX;
    // LeakyReLU makes no number larger.
    let numbers = 255.0 * f64::from(conv.steps.scale + residual.map_or(0.0, |steps| steps.scale));
    if sums.zip(&conv.scales).all(fits) && numbers / f64::from(to.scale) < STEPS_MAX {
        return Ok(());
    }
    Err(GpuError::Argument(format!(
        "a convolution whose sums are too large, or whose steps of {} are too fine",
        to.scale
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::graph::{Then, Window};

    /// Of two filters of one channel.
    fn conv(change: impl FnOnce(&mut Conv)) -> Conv {
        let mut conv = Conv {
            input: 0,
            window: Window::PIXEL,
            weights: vec![127; 32],
            bias: vec![1000; 2],
            scales: vec![0.01; 2],
            low: 0,
            steps: Steps { scale: 0.1, zero: 0 },
            then: Then::Nothing,
            output: 1,
        };
        change(&mut conv);
        conv
    }

    #[test]
    fn numbers_beyond_what_the_kernels_count_in_are_refused() {
        let (plain, fine) = (Steps { scale: 0.1, zero: 128 }, Steps { scale: 1e-9, zero: 128 });
        assert_eq!(check(&conv(|_| {}), plain, Some(plain)), Ok(()));
        for (what, conv, to) in [
            ("a sum", conv(|conv| conv.bias[1] = i32::MIN), plain),
            ("a scale", conv(|conv| conv.scales[1] = 1e6), plain),
            ("a scale that is none", conv(|conv| conv.scales[0] = f32::NAN), plain),
            ("steps behind it", conv(|_| {}), fine),
        ] {
            let error = check(&conv, to, None).expect_err(what).to_string();
            assert!(error.contains("too fine"), "{what}: {error}");
        }
    }
}
