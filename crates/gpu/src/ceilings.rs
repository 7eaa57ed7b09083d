//! What a device can do at most: measured, in the run whose other figures are compared with it.

use std::time::Instant;

use cudarc::driver::result;

use crate::error::check;
use crate::{Buffer, Device, GpuError, Module, Pinned};

/// Bytes of one copy.
const COPY_BYTES: usize = 256 << 20;
const COPIES: usize = 10;
const BLOCKS_PER_MULTIPROCESSOR: u32 = 8;
const THREADS: u32 = 256;
const ROUNDS: i32 = 20_000;
/// Multiply-accumulates of a warp in one round of the kernel: 8 products of 16x8x32.
const MACS_PER_ROUND: f64 = (8 * 16 * 8 * 32) as f64;

/// Rates of a device.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Multiply-accumulates of INT8 matrices in a second.
    pub int8_macs: f64,
    /// Bytes in a second that are read and written, in a copy within the device's memory.
    pub device_bytes: f64,
    /// Bytes in a second that come from pinned memory of the host.
    pub host_to_device_bytes: f64,
    /// Bytes in a second that go there.
    pub device_to_host_bytes: f64,
}

impl Ceilings {
    /// Measures them, the best of three times.
    ///
    /// # Errors
    /// What the device says.
    pub fn measure(device: &Device) -> Result<Self, GpuError> {
        let (from, to) = (Buffer::new(device, COPY_BYTES)?, Buffer::new(device, COPY_BYTES)?);
        let mut pinned = Pinned::new(device, COPY_BYTES)?;
        let copied = (COPIES * COPY_BYTES) as f64;
        // SAFETY: both buffers have so many bytes, here and below.
        let within = seconds(device, COPIES, || unsafe {
            let answer = result::memcpy_dtod_async(to.address(), from.address(), COPY_BYTES, device.stream());
            check("cuMemcpyDtoDAsync", answer)
        })?;
        // SAFETY: as above.
        let there = seconds(device, COPIES, || unsafe { pinned.send(to.address(), COPY_BYTES) })?;
        // SAFETY: as above.
        let back = seconds(device, COPIES, || unsafe { pinned.receive_at(0, from.address(), COPY_BYTES) })?;
        Ok(Self {
            int8_macs: int8_macs(device)?,
            device_bytes: 2.0 * copied / within,
            host_to_device_bytes: copied / there,
            device_to_host_bytes: copied / back,
        })
    }
}

fn int8_macs(device: &Device) -> Result<f64, GpuError> {
    #[repr(C)]
    struct Parameters {
        sink: u64,
        rounds: i32,
        _filling: i32,
    }
    let module = Module::load(device, include_str!("../ptx/ceilings_75.ptx"), include_str!("../ptx/ceilings_80.ptx"))?;
    let kernel = module.function("multiply_int8")?;
    let blocks = device.gpu().multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
    let sink = Buffer::new(device, (blocks * THREADS) as usize * size_of::<i32>())?;
    let parameters = Parameters { sink: sink.address(), rounds: ROUNDS, _filling: 0 };
    // SAFETY: the kernel writes one number a thread.
    let once = || unsafe { kernel.launch([blocks, 1, 1], THREADS, 0, &parameters) };
    let warps = f64::from(blocks * THREADS / 32);
    Ok(warps * f64::from(ROUNDS) * MACS_PER_ROUND / seconds(device, 1, once)?)
}

/// Seconds that `count` times `ask` take of the device, the least of three times.
fn seconds(device: &Device, count: usize, mut ask: impl FnMut() -> Result<(), GpuError>) -> Result<f64, GpuError> {
    ask()?;
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..count {
            ask()?;
        }
        device.synchronize()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}
