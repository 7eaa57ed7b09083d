//! Memory of a device that processes share: made once, exported as a file descriptor, which its other users inherit and
//! import. The memory lives as long as any process has the descriptor or has it mapped, so whoever made it may end.

use std::{
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use bytemuck::{AnyBitPattern, NoUninit};
use cudarc::driver::sys::{self, CUmemGenericAllocationHandle, CUresult};

use crate::error::{check, out_of_memory};
use crate::{Device, GpuError, memory};

const POSIX: sys::CUmemAllocationHandleType =
    sys::CUmemAllocationHandleType_enum::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;

/// A slab of a device's memory, mapped into this process's addresses of it.
#[derive(Debug)]
pub struct Slab {
    address: u64,
    bytes: usize,
    handle: CUmemGenericAllocationHandle,
    device: Device,
}

impl Slab {
    /// Makes a slab of `bytes` bytes, rounded up to what the device can share, and the descriptor by which others get it.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] where the device has not so much.
    pub fn make(device: &Device, bytes: usize) -> Result<(Self, OwnedFd), GpuError> {
        let properties = properties(device);
        let mut granularity = 0;
        let minimum = sys::CUmemAllocationGranularity_flags_enum::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
        // SAFETY: both pointers are to locals of the right types.
        let answer = unsafe { sys::cuMemGetAllocationGranularity(&mut granularity, &properties, minimum) };
        check("cuMemGetAllocationGranularity", answer.result())?;
        let bytes = bytes.max(1).next_multiple_of(granularity.max(1));
        let mut handle = 0;
        // SAFETY: as above.
        let answer = unsafe { sys::cuMemCreate(&mut handle, bytes, &properties, 0) };
        if answer == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Err(out_of_memory(format!("a slab of {bytes} bytes")));
        }
        check("cuMemCreate", answer.result())?;
        let slab = Self::map(device, handle, bytes)?;
        let mut descriptor: i32 = -1;
        // SAFETY: for this type of handle the driver writes an int.
        let answer = unsafe { sys::cuMemExportToShareableHandle((&raw mut descriptor).cast(), handle, POSIX, 0) };
        check("cuMemExportToShareableHandle", answer.result())?;
        // SAFETY: the driver made it for us, and nobody else has it.
        Ok((slab, unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// The slab of a descriptor that [`Slab::make`] made, of the size that it was made with.
    ///
    /// # Errors
    /// What the driver says of a descriptor that is none, or of another device.
    pub fn import(device: &Device, descriptor: OwnedFd, bytes: usize) -> Result<Self, GpuError> {
        let mut handle = 0;
        let number = descriptor.as_raw_fd() as usize as *mut std::ffi::c_void;
        // SAFETY: for this type of handle the pointer is the descriptor's number.
        let answer = unsafe { sys::cuMemImportFromShareableHandle(&mut handle, number, POSIX) };
        check("cuMemImportFromShareableHandle", answer.result())?;
        drop(descriptor); // the handle keeps the memory
        Self::map(device, handle, bytes)
    }

    /// Where it lies in the device's memory, as this process sees it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `at` bytes from its start, of which `bytes` lie in it.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where they do not.
    pub fn part(&self, at: usize, bytes: usize) -> Result<u64, GpuError> {
        match at.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(self.address + at as u64),
            _ => Err(GpuError::Argument(format!("{bytes} bytes at {at} lie beyond a slab of {}", self.bytes))),
        }
    }

    /// Copies `records` to `at` bytes from its start, and waits for it.
    ///
    /// # Errors
    /// [`GpuError::Argument`] where they do not lie in it.
    pub fn write<T: NoUninit>(&self, at: usize, records: &[T]) -> Result<(), GpuError> {
        let address = self.part(at, size_of_val(records))?;
        // SAFETY: the range lies in the slab.
        unsafe { memory::write(&self.device, address, records) }
    }

    /// Copies what lies `at` bytes from its start to `records`.
    ///
    /// # Errors
    /// As [`Slab::write`].
    pub fn read<T: NoUninit + AnyBitPattern>(&self, at: usize, records: &mut [T]) -> Result<(), GpuError> {
        let address = self.part(at, size_of_val(records))?;
        // SAFETY: as above.
        unsafe { memory::read(&self.device, address, records) }
    }

    /// Maps an allocation, whose handle the slab then releases.
    fn map(device: &Device, handle: CUmemGenericAllocationHandle, bytes: usize) -> Result<Self, GpuError> {
        let mut slab = Self { address: 0, bytes, handle, device: device.clone() };
        let mut address = 0;
        // SAFETY: the address is written to a local; a reservation maps nothing yet.
        check("cuMemAddressReserve", unsafe { sys::cuMemAddressReserve(&mut address, bytes, 0, 0, 0) }.result())?;
        // SAFETY: the range was reserved just now; the handle is an allocation's.
        let answer = unsafe { sys::cuMemMap(address, bytes, 0, handle, 0) };
        if let Err(error) = check("cuMemMap", answer.result()) {
            // SAFETY: reserved just now, and nothing is mapped there.
            let _ = unsafe { sys::cuMemAddressFree(address, bytes) };
            return Err(error);
        }
        slab.address = address;
        let access = sys::CUmemAccessDesc {
            location: properties(device).location,
            flags: sys::CUmemAccess_flags_enum::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: the range was mapped just now.
        check("cuMemSetAccess", unsafe { sys::cuMemSetAccess(address, bytes, &access, 1) }.result())?;
        Ok(slab)
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // Errors: the device is lost, and with it what would be released.
        // SAFETY: mapped by `map` where there is an address; the handle is released once; nothing refers to it any more.
        unsafe {
            if self.address != 0 {
                let _ = sys::cuMemUnmap(self.address, self.bytes);
                let _ = sys::cuMemAddressFree(self.address, self.bytes);
            }
            let _ = sys::cuMemRelease(self.handle);
        }
    }
}

fn properties(device: &Device) -> sys::CUmemAllocationProp {
    // SAFETY: a record of numbers and one pointer, for which zeroes are valid.
    let mut properties: sys::CUmemAllocationProp = unsafe { MaybeUninit::zeroed().assume_init() };
    properties.type_ = sys::CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.requestedHandleTypes = POSIX;
    properties.location.type_ = sys::CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = device.gpu().ordinal as i32;
    properties
}
