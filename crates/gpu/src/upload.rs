//! Frames of the host on their way to the device, one after another: pixels are written to pinned memory, and copied from there to
//! a slot, or to memory of this process's own where no slot is for them. Both grow to the largest frame.

use crate::{Buffer, Device, GpuError, Pinned};

/// Memory that is taken at first: a frame of 1080p.
const BYTES_AT_FIRST: usize = 3 * 1920 * 1080;

/// The way of one frame at a time.
pub struct Upload {
    device: Device,
    pinned: Pinned,
    scratch: Buffer,
}

impl Upload {
    /// Takes memory.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(device: &Device) -> Result<Self, GpuError> {
        let (pinned, scratch) = (Pinned::new(device, BYTES_AT_FIRST)?, Buffer::new(device, BYTES_AT_FIRST)?);
        Ok(Self { device: device.clone(), pinned, scratch })
    }

    /// Room for `bytes` bytes of pixels, when the device does not read the frame before any more.
    ///
    /// # Errors
    /// Where there is no memory; what the device says of the work before.
    pub fn pixels(&mut self, bytes: usize) -> Result<&mut [u8], GpuError> {
        self.device.synchronize()?;
        if self.pinned.bytes().len() < bytes {
            self.pinned = Pinned::new(&self.device, bytes)?;
        }
        Ok(&mut self.pinned.bytes_mut()[..bytes])
    }

    /// Starts the copy of the first `bytes` of the pixels to `slot`, or to memory of its own; says where.
    ///
    /// # Errors
    /// Where there is no memory; what the device says.
    ///
    /// # Safety
    /// A slot holds so many bytes, and nobody else reads or writes it meanwhile.
    pub unsafe fn send(&mut self, bytes: usize, slot: Option<u64>) -> Result<u64, GpuError> {
        let address = match slot {
            Some(address) => address,
            None => {
                if self.scratch.bytes() < bytes {
                    self.scratch = Buffer::new(&self.device, bytes)?;
                }
                self.scratch.address()
            }
        };
        // SAFETY: the slot is the caller's, scratch is ours; `pixels` waits before the memory is written again.
        unsafe { self.pinned.send(address, bytes) }?;
        Ok(address)
    }
}
