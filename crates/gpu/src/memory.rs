//! Memory of the device, and memory of the host that the device copies from and to. Both are taken at start.

use std::{ffi::c_void, ptr::NonNull};

use bytemuck::{AnyBitPattern, NoUninit};
use cudarc::driver::{result, sys};

use crate::error::{check, out_of_memory};
use crate::{Device, GpuError};

/// What is taken is a multiple of so many bytes: kernels read whole words, up to the end of the last that holds a byte.
const WORD_BYTES: usize = 16;

/// Memory of a device, which is zero at first. Freed when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    address: u64,
    bytes: usize,
    device: Device,
}

impl Buffer {
    /// Takes `bytes` bytes.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] where the device has not so much.
    pub fn new(device: &Device, bytes: usize) -> Result<Self, GpuError> {
        // SAFETY: a new allocation; `Buffer` frees it.
        let address = match unsafe { result::malloc_sync(bytes.max(1).next_multiple_of(WORD_BYTES)) } {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(out_of_memory(format!("{bytes} bytes")));
            }
            answer => check("cuMemAlloc", answer)?,
        };
        let buffer = Self { address, bytes, device: device.clone() };
        // SAFETY: the allocation has so many bytes.
        check("cuMemsetD8Async", unsafe { result::memset_d8_async(address, 0, bytes, device.stream()) })?;
        Ok(buffer)
    }

    /// A buffer that holds `records`.
    ///
    /// # Errors
    /// As [`Buffer::new`].
    pub fn of<T: NoUninit>(device: &Device, records: &[T]) -> Result<Self, GpuError> {
        let buffer = Self::new(device, size_of_val(records))?;
        buffer.write(0, records)?;
        Ok(buffer)
    }

    /// Where it lies in the device's memory.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `records` to `at` bytes from its start, and waits for it.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where they do not lie in it.
    pub fn write<T: NoUninit>(&self, at: usize, records: &[T]) -> Result<(), GpuError> {
        let address = self.part(at, size_of_val(records))?;
        // SAFETY: the range lies in the allocation.
        unsafe { write(&self.device, address, records) }
    }

    /// Copies what lies `at` bytes from its start to `records`, when what was asked of the device before is done.
    ///
    /// # Errors
    /// As [`Buffer::write`].
    pub fn read<T: NoUninit + AnyBitPattern>(&self, at: usize, records: &mut [T]) -> Result<(), GpuError> {
        let address = self.part(at, size_of_val(records))?;
        // SAFETY: as above.
        unsafe { read(&self.device, address, records) }
    }

    /// The address `at` bytes from its start, of which `bytes` lie in it.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where they do not.
    pub fn part(&self, at: usize, bytes: usize) -> Result<u64, GpuError> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(self.address + at as u64),
            _ => Err(GpuError::Argument(format!("{bytes} bytes at {at} lie beyond a buffer of {}", self.bytes))),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; the driver waits for what still uses it.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Copies `records` to the device's memory at `address`, and waits for it.
///
/// # Safety
/// They may be written there.
pub(crate) unsafe fn write<T: NoUninit>(device: &Device, address: u64, records: &[T]) -> Result<(), GpuError> {
    let bytes: &[u8] = bytemuck::cast_slice(records);
    // SAFETY: `bytes` outlives the copy, which is waited for; the rest is the caller's.
    check("cuMemcpyHtoDAsync", unsafe { result::memcpy_htod_async(address, bytes, device.stream()) })?;
    device.synchronize()
}

/// Copies what lies at `address` to `records`, when what was asked of the device before is done.
///
/// # Safety
/// So many bytes may be read there.
pub(crate) unsafe fn read<T: NoUninit + AnyBitPattern>(
    device: &Device,
    address: u64,
    records: &mut [T],
) -> Result<(), GpuError> {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(records);
    // SAFETY: as in `write`.
    check("cuMemcpyDtoHAsync", unsafe { result::memcpy_dtoh_async(bytes, address, device.stream()) })?;
    device.synchronize()
}

/// Memory of the host that is pinned: the device copies from and to it by itself, while the process does other work.
#[derive(Debug)]
pub struct Pinned {
    start: NonNull<u8>,
    bytes: usize,
    device: Device,
}

// SAFETY: plain memory, reached through `&self` and `&mut self` alone.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Takes `bytes` bytes, which are zero.
    ///
    /// # Errors
    /// [`GpuError::NoPinnedMemory`] where the host has not so much.
    pub fn new(device: &Device, bytes: usize) -> Result<Self, GpuError> {
        // SAFETY: a new allocation; `Pinned` frees it.
        let start = match unsafe { result::malloc_host(bytes.max(1), 0) } {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                return Err(GpuError::NoPinnedMemory { bytes });
            }
            answer => check("cuMemHostAlloc", answer)?,
        };
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| GpuError::Argument("cuMemHostAlloc gave no memory".into()))?;
        // SAFETY: the allocation has so many bytes.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(Self { start, bytes, device: device.clone() })
    }

    /// Its bytes. Who asked the device to write them waits for it first.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has so many bytes, all initialised; copies into it are waited for by who starts them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// Its bytes, to be written. Who asked the device to read them waits for it first.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Starts a copy of its first `bytes` bytes to the device's memory at `address`.
    ///
    /// # Safety
    /// So many bytes may be written there; `self` lives, and is not written, until the device was waited for.
    pub unsafe fn send(&self, address: u64, bytes: usize) -> Result<(), GpuError> {
        let from = &self.bytes()[..bytes];
        // SAFETY: the caller's.
        check("cuMemcpyHtoDAsync", unsafe { result::memcpy_htod_async(address, from, self.device.stream()) })
    }

    /// Starts a copy of `bytes` bytes of the device's memory at `address` to `at` bytes from its start.
    ///
    /// # Safety
    /// So many bytes may be read there; `self` lives, and those bytes are not looked at, until the device was waited for.
    pub unsafe fn receive_at(&mut self, at: usize, address: u64, bytes: usize) -> Result<(), GpuError> {
        let stream = self.device.stream();
        let to = &mut self.bytes_mut()[at..][..bytes];
        // SAFETY: the caller's.
        check("cuMemcpyDtoHAsync", unsafe { result::memcpy_dtoh_async(to, address, stream) })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A copy may still be on its way. An error: the device is lost, and copies no more.
        let _ = self.device.synchronize();
        // SAFETY: allocated in `new`, freed once.
        let _ = unsafe { result::free_host(self.start.as_ptr().cast::<c_void>()) };
    }
}
