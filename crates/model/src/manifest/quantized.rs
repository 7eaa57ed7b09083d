//! `[quantized]`: how near an INT8 model came to its float twin, and whether it may be served.
//!
//! `framepipe model quantize` and scripts/setup write the section; docs/int8.md says how each measure is taken.

use serde::Deserialize;

use super::{Checker, ManifestError};

/// Lowest agreement with the float twin that is served.
pub const AGREEMENT_MIN: f64 = 0.97;

/// The gate's result.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Quantized {
    /// What it is made for; of a manifest that does not say it, the CPU.
    #[serde(default)]
    pub target: Target,
    /// Agreement with the float twin, 0 to 1: the lowest of the outputs'.
    pub agreement: f64,
    /// What the agreement is.
    pub measure: Measure,
    /// Inputs that it was measured on.
    pub images: u32,
    /// The float twin's CPU time over this one's, in the same run; `None` of a model for another device.
    pub speed: Option<f64>,
    /// Layers with weights that stayed float.
    pub float_layers: Vec<String>,
    /// Served in spite of its agreement, or of the few inputs that it was measured on: a person said so by `--force`.
    pub forced: bool,
}

/// A kind of device.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// u8 activations, weights of 7 bits.
    #[default]
    Cpu,
    /// Symmetric s8 activations and weights. Kernels of a CPU without VNNI saturate on it, and give other numbers.
    Tensorrt,
}

/// A measure of agreement.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// AP50 of the detections, the float twin's taken for the truth, the mean over classes.
    Ap50,
    /// Share of inputs with the same highest class.
    Top1,
    /// Mean share of the classes that both name, of those that either names.
    Jaccard,
    /// Share of inputs whose quantity lies within 5 % of the float twin's; share of points within 5 % of the crop's sides.
    Within,
    /// 1 less the edit distance of a text over the longer one's length, the mean.
    Edit,
    /// Mean cosine of the outputs.
    Cosine,
}

impl Quantized {
    pub(super) fn check(&self, check: Checker<'_>) -> Result<(), ManifestError> {
        let is_share = (0.0..=1.0).contains(&self.agreement);
        check.require(is_share, "quantized.agreement", self.agreement, "give 0 to 1")?;
        check.require(self.images > 0, "quantized.images", self.images, "give 1 or more")?;
        let is_speed = self.speed.is_none_or(|speed| speed > 0.0);
        check.require(is_speed, "quantized.speed", self.speed, "give more than 0")
    }

    /// True where it is near enough to its float twin, or somebody forced it.
    pub fn is_near(&self) -> bool {
        self.agreement >= AGREEMENT_MIN || self.forced
    }
}
