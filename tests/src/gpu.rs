//! What tests on a GPU share. Those skip where there is none, unless FRAMEPIPE_GPU_TESTS=require says that there has to be one.

use framepipe_gpu::{Buffer, Choice, Device, GpuError};

/// What takes the GPU's memory asks for, until there is none.
const SIZES: [usize; 3] = [4 << 30, 8 << 20, 1 << 20];

/// True where what a test needs has to be there.
pub fn has_to_be_there() -> bool {
    std::env::var("FRAMEPIPE_GPU_TESTS").as_deref() == Ok("require")
}

/// The first GPU, if there is one.
///
/// # Panics
/// When there is none and has to be one, and when it fails.
pub fn device() -> Option<Device> {
    match Device::open(&Choice::First) {
        Ok(device) => Some(device),
        Err(GpuError::Unavailable(reason)) => {
            assert!(!has_to_be_there(), "{reason}");
            println!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// All of the device's memory but less than the smallest of `SIZES`: the smallest pieces last.
///
/// # Panics
/// When it fails otherwise than for want of memory.
pub fn hog(device: &Device) -> Vec<Buffer> {
    let mut taken = Vec::new();
    for bytes in SIZES {
        loop {
            match Buffer::new(device, bytes) {
                Ok(buffer) => taken.push(buffer),
                Err(GpuError::OutOfMemory { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    taken
}
