//! What one launch of the kernel reads: records of the tensors to be made, and behind them their tables. The records are those of
//! `kernels/preprocess.cu`, field by field.

use bytemuck::{Pod, Zeroable};
use framepipe_vision::{DataType, Layout, Plan, SampleTables};

use super::DeviceView;
use crate::GpuError;

/// One tensor to be made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(super) struct Sample {
    source: u64,
    tensor: u64,
    columns: u64,
    rows: u64,
    column_weights: u64,
    row_weights: u64,
    step_x: i64,
    step_y: i64,
    place: [i32; 4],
    source_bytes: i32,
    is_turned: i32,
    levels: [[f32; 3]; 3],
    offsets: [f32; 3],
    padding: [f32; 3],
    unused: u32,
}

/// The kernel's parameter: what the tensors have in common, and where their records lie.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    samples: u64,
    pub(super) width: i32,
    pub(super) height: i32,
    channels: i32,
    is_planar: i32,
    is_f32: i32,
}

impl Shape {
    pub(super) fn of(plan: &Plan, samples: u64) -> Self {
        Self {
            samples,
            width: plan.width() as i32,
            height: plan.height() as i32,
            channels: plan.channels() as i32,
            is_planar: (plan.layout() == Layout::Nchw).into(),
            is_f32: (plan.dtype() == DataType::F32).into(),
        }
    }
}

/// A launch that is being written to `bytes`, which will be read at `base`.
pub(super) struct Batch<'a> {
    bytes: &'a mut [u8],
    base: u64,
    count: usize,
    count_max: usize,
    used: usize,
}

impl<'a> Batch<'a> {
    /// Bytes of a batch of so many tensors of `plan`, of frames whose longest side is `side_max`.
    pub(super) fn bytes_max(plan: &Plan, count_max: usize, side_max: u32) -> usize {
        count_max * (size_of::<Sample>() + SampleTables::bytes_max(plan, side_max))
    }

    /// An empty batch.
    pub(super) fn new(bytes: &'a mut [u8], base: u64, count_max: usize) -> Self {
        Self { bytes, base, count: 0, count_max, used: count_max * size_of::<Sample>() }
    }

    /// How many tensors it makes.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many of its bytes are to be read.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Adds a tensor, to be written at the address `tensor`.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where the batch is full, or the tensor not aligned for its numbers.
    pub(super) fn add(
        &mut self,
        plan: &Plan,
        view: &DeviceView,
        tables: &SampleTables,
        tensor: u64,
        is_turned: bool,
    ) -> Result<(), GpuError> {
        if self.count == self.count_max {
            return Err(GpuError::Argument(format!("more than {} tensors at once", self.count_max)));
        }
        if !tensor.is_multiple_of(plan.dtype().bytes() as u64) {
            return Err(GpuError::Argument(format!("a tensor at {tensor:#x} is not aligned for its numbers")));
        }
        let (source, [step_x, step_y]) = view.steps();
        let ((columns, column_weights), (rows, row_weights)) = (tables.columns(), tables.rows());
        let mix = plan.mix(view.order());
        let sample = Sample {
            source,
            tensor,
            columns: self.put(columns)?,
            rows: self.put(rows)?,
            column_weights: self.put(column_weights)?,
            row_weights: self.put(row_weights)?,
            step_x,
            step_y,
            place: tables.place().map(|number| number as i32),
            source_bytes: view.order().pixel_bytes() as i32,
            is_turned: is_turned.into(),
            levels: mix.levels,
            offsets: mix.offsets,
            padding: mix.padding,
            unused: 0,
        };
        let at = self.count * size_of::<Sample>();
        self.bytes[at..at + size_of::<Sample>()].copy_from_slice(bytemuck::bytes_of(&sample));
        self.count += 1;
        Ok(())
    }

    /// Copies a table behind what is there, and says where it will be read.
    fn put<T: Pod>(&mut self, table: &[T]) -> Result<u64, GpuError> {
        let (at, table) = (self.used, bytemuck::cast_slice::<T, u8>(table));
        let Some(to) = self.bytes.get_mut(at..at + table.len()) else {
            return Err(GpuError::Argument("a frame's side is longer than the tables have room for".into()));
        };
        to.copy_from_slice(table);
        self.used += table.len();
        Ok(self.base + at as u64)
    }
}
