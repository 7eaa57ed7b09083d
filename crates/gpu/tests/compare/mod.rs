//! Tensors beside those of the CPU.

use framepipe_vision::{DataType, PixelOrder, Plan};
use proptest::prelude::*;

/// Room for a tensor: nothing that a kernel writes.
pub fn room(plan: &Plan) -> Vec<f32> {
    vec![f32::NAN; plan.tensor_bytes().div_ceil(4)]
}

pub fn bytes<'t>(plan: &Plan, tensor: &'t mut [f32]) -> &'t mut [u8] {
    &mut bytemuck::cast_slice_mut(tensor)[..plan.tensor_bytes()]
}

/// Fails where a number is further than a rounding from the CPU's: a hundredth of a grey level, or a whole one of bytes.
pub fn assert_close(plan: &Plan, found: &mut [f32], expected: &mut [f32]) -> Result<(), TestCaseError> {
    let levels = plan.mix(PixelOrder::Grey).levels;
    let scale = levels.iter().map(|of| of[0].abs()).fold(1e-3, f32::max);
    let numbers = |tensor: &mut [f32]| -> Vec<f32> {
        match plan.dtype() {
            DataType::F32 => tensor.to_vec(),
            DataType::U8 => bytes(plan, tensor).iter().map(|byte| f32::from(*byte)).collect(),
        }
    };
    let most = if plan.dtype() == DataType::U8 { 1.0 } else { 0.01 * scale };
    let (found, expected) = (numbers(found), numbers(expected));
    let mut sum = 0.0;
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (found - expected).abs();
        prop_assert!(difference <= most, "number {}: {} instead of {}", at, found, expected);
        sum += f64::from(difference);
    }
    prop_assert!(
        sum / found.len() as f64 <= 0.3 * f64::from(most.max(0.01 * scale)) + 1e-6,
        "{}",
        sum / found.len() as f64
    );
    Ok(())
}
