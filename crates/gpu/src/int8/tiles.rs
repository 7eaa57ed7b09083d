//! The kernels of a convolution, which differ in how much of the output a block of threads makes. Which one is fastest depends
//! on the device, the layer and the batch: it is measured. They all give the same bytes.

use std::time::Instant;

use super::plan::ConvParameters;
use crate::{Device, Function, GpuError, Module};

/// One kernel.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    /// Output pixels and output channels of a block.
    rows: u32,
    columns: u32,
    /// Tiles that are on their way at once, on devices that copy asynchronously.
    stages: u32,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "conv_128x128", rows: 128, columns: 128, stages: 3 },
    Shape { name: "conv_256x64", rows: 256, columns: 64, stages: 3 },
    Shape { name: "conv_128x64", rows: 128, columns: 64, stages: 4 },
    Shape { name: "conv_64x64", rows: 64, columns: 64, stages: 4 },
    Shape { name: "conv_64x32", rows: 64, columns: 32, stages: 4 },
];
const THREADS: u32 = 128;
/// Bytes of an output pixel's row in the table that lies in shared memory.
const ROW_BYTES: u32 = 8;
/// Bytes of a tap in the table that lies in shared memory.
const TAP_BYTES: u32 = 8;
/// Bytes along the filters of a tile.
const DEPTH: u32 = 64;
/// Stages where tiles go through registers.
const STAGES_TURING: u32 = 2;
const TRIALS: usize = 10;
/// Most taps of a filter: their table lies in shared memory.
pub(super) const TAPS_MAX: usize = 2048;

/// The kernels, loaded.
#[derive(Debug)]
pub(super) struct Tiles {
    functions: Vec<Function>,
    stages: [u32; SHAPES.len()],
}

impl Tiles {
    pub(super) fn load(device: &Device, module: &Module) -> Result<Self, GpuError> {
        let functions = SHAPES.iter().map(|shape| module.function(shape.name)).collect::<Result<Vec<_>, _>>()?;
        let is_turing = device.gpu().compute_capability < (8, 0);
        let tiles =
            Self { functions, stages: SHAPES.map(|shape| if is_turing { STAGES_TURING } else { shape.stages }) };
        for tile in 0..SHAPES.len() {
            tiles.functions[tile].allow_shared(tiles.shared_bytes(tile, TAPS_MAX as u32))?;
        }
        Ok(tiles)
    }

    pub(super) const COUNT: usize = SHAPES.len();

    fn shared_bytes(&self, tile: usize, taps: u32) -> u32 {
        let Shape { rows, columns, .. } = SHAPES[tile];
        let made = rows * (columns + 16);
        (self.stages[tile] * (rows + columns) * DEPTH + rows * ROW_BYTES + taps * TAP_BYTES).max(made)
    }

    /// Asks the device for a convolution by this kernel.
    ///
    /// # Safety
    /// The parameters name memory of the sizes that they say.
    pub(super) unsafe fn launch(&self, tile: usize, conv: &ConvParameters) -> Result<(), GpuError> {
        let Shape { rows, columns, .. } = SHAPES[tile];
        let grid = [(conv.rows as u32).div_ceil(rows), (conv.channels as u32).div_ceil(columns), 1];
        let shared = self.shared_bytes(tile, conv.tap_count as u32);
        // SAFETY: the caller's; the record is the kernels'.
        unsafe { self.functions[tile].launch(grid, THREADS, shared, conv) }
    }

    /// The kernel that is fastest at a convolution.
    ///
    /// # Safety
    /// As [`Self::launch`].
    pub(super) unsafe fn fastest(&self, device: &Device, conv: &ConvParameters) -> Result<usize, GpuError> {
        let mut fastest = (f32::INFINITY, 0);
        for tile in 0..Self::COUNT {
            // SAFETY: the caller's.
            let milliseconds = milliseconds(device, || unsafe { self.launch(tile, conv) })?;
            if milliseconds < fastest.0 {
                fastest = (milliseconds, tile);
            }
        }
        Ok(fastest.1)
    }

    pub(super) fn name(tile: usize) -> &'static str {
        SHAPES[tile].name
    }
}

/// Milliseconds that `ask` takes of the device, of several together, the lesser of two times. By the host's clock: what the driver's
/// own events have for it differs between versions of CUDA 12.
pub(super) fn milliseconds(device: &Device, ask: impl Fn() -> Result<(), GpuError>) -> Result<f32, GpuError> {
    let mut least = f32::INFINITY;
    for _ in 0..2 {
        ask()?;
        device.synchronize()?;
        let start = Instant::now();
        (0..TRIALS).try_for_each(|_| ask())?;
        device.synchronize()?;
        least = least.min(start.elapsed().as_secs_f32() * 1e3 / TRIALS as f32);
    }
    Ok(least)
}
