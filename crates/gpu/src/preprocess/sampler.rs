//! The kernel, and the memory through which batches get to it: two of each, so that one is written while the other is read.

use framepipe_vision::Plan;

use super::batch::{Batch, Shape};
use crate::event::Event;
use crate::{Buffer, Device, Function, GpuError, Module, Pinned};

const TURING: &str = include_str!("../../ptx/preprocess_75.ptx");
const AMPERE: &str = include_str!("../../ptx/preprocess_80.ptx");
/// Threads of a block: a tile of 32 x 8 pixels, as the kernel counts them.
const TILE: [u32; 2] = [32, 8];
/// Most tensors of one launch: the third side of a grid.
const COUNT_MAX: usize = 0xffff;

pub(super) struct Sampler {
    function: Function,
    batches: [Memory; 2],
    next: usize,
    count_max: usize,
}

/// Room for one batch.
struct Memory {
    pinned: Pinned,
    buffer: Buffer,
    /// The pinned bytes have been read, the buffer's too.
    done: Event,
}

impl Sampler {
    /// For launches of at most `count_max` tensors of `plan`, of frames whose longest side is `side_max`.
    pub(super) fn new(device: &Device, plan: &Plan, count_max: usize, side_max: u32) -> Result<Self, GpuError> {
        if !(1..=COUNT_MAX).contains(&count_max) {
            return Err(GpuError::Argument(format!("{count_max} tensors at once: give 1 to {COUNT_MAX}")));
        }
        let bytes = Batch::bytes_max(plan, count_max, side_max);
        let memory = || -> Result<Memory, GpuError> {
            Ok(Memory {
                pinned: Pinned::new(device, bytes)?,
                buffer: Buffer::new(device, bytes)?,
                done: Event::new(device)?,
            })
        };
        let function = Module::load(device, TURING, AMPERE)?.function("sample_pixels")?;
        Ok(Self { function, batches: [memory()?, memory()?], next: 0, count_max })
    }

    /// Asks the device for the tensors that `fill` adds, at least one.
    ///
    /// # Safety
    /// All views and tensors are in the device's memory, and stay there until it is done.
    pub(super) unsafe fn launch<T>(
        &mut self,
        plan: &Plan,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let Memory { pinned, buffer, done } = &mut self.batches[self.next];
        done.wait()?;
        let mut batch = Batch::new(pinned.bytes_mut(), buffer.address(), self.count_max);
        let filled = fill(&mut batch)?;
        let (count, used) = (batch.count(), batch.used());
        if count == 0 {
            return Ok(filled);
        }
        // SAFETY: the buffer has as many bytes as the pinned memory, which is not written before `done` has passed.
        unsafe { pinned.send(buffer.address(), used)? };
        let shape = Shape::of(plan, buffer.address());
        // SAFETY: the parameter is the kernel's; its tables lie in the buffer, the rest is the caller's.
        let launched = unsafe { self.function.launch(grid(&shape, count as u32), TILE[0] * TILE[1], 0, &shape) };
        // After a fault too: the copy is on its way.
        done.set()?;
        launched?;
        self.next = 1 - self.next;
        Ok(filled)
    }
}

/// The kernel's grid for so many tensors.
pub(super) fn grid(shape: &Shape, count: u32) -> [u32; 3] {
    let blocks = |side: i32, of: u32| (side as u32).div_ceil(of);
    [blocks(shape.width, TILE[0]), blocks(shape.height, TILE[1]), count]
}

impl Drop for Memory {
    fn drop(&mut self) {
        // The device reads the pinned bytes until then. Errors: it is lost, and reads nothing.
        let _ = self.done.wait();
    }
}
