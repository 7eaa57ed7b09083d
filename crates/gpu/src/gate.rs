//! Whether there is a GPU. The driver's functions are looked up in a library that may be missing, in which case calling
//! one is a panic: so nothing in this crate calls any before [`gpus`] found a device.

use std::sync::OnceLock;

use cudarc::driver::{
    result,
    sys::{self, CUdevice_attribute_enum as Attribute},
};

use crate::error::{Unavailable, describe};

/// CUDA 12.0: the driver that takes this crate's PTX.
const DRIVER_MIN: i32 = 12_000;
/// Turing: the first devices that multiply matrices of bytes.
const COMPUTE_CAPABILITY_MIN: (i32, i32) = (7, 5);

/// Room for an address on the PCI bus (`0000:1b:00.0`) and its end; longer domains exist.
const PCI_BUS_ID_BYTES: usize = 32;

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its place among those that this process sees.
    pub ordinal: usize,
    /// As `nvidia-smi -L` prints it: `GPU-…`.
    pub uuid: String,
    /// Its address on the PCI bus, as `/sys/bus/pci/devices` names it.
    pub pci_bus_id: String,
    /// What its maker calls it.
    pub name: String,
    /// Compute capability.
    pub compute_capability: (i32, i32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its memory.
    pub memory_bytes: usize,
}

impl Gpu {
    /// True where this is its UUID. The driver gives the digits alone, and those of a part of a GPU (`MIG-…`) as it gives a
    /// whole one's.
    fn is_called(&self, uuid: &str) -> bool {
        let digits = |uuid: &str| uuid.split_once('-').map(|(_, digits)| digits.to_ascii_lowercase());
        digits(uuid).is_some_and(|wanted| digits(&self.uuid) == Some(wanted))
    }
}

/// Which GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first one.
    First,
    /// The one of this UUID, `GPU-…` or `MIG-…`.
    Uuid(String),
}

impl Choice {
    /// The GPU that is meant, among those there are, if framepipe can use it.
    ///
    /// # Errors
    /// Why not.
    pub fn find(&self) -> Result<Gpu, Unavailable> {
        let gpus = gpus()?;
        let found = match self {
            Self::First => gpus.first(),
            Self::Uuid(wanted) => gpus.iter().find(|gpu| gpu.is_called(wanted)),
        };
        let gpu = found.ok_or_else(|| Unavailable::NotThatOne {
            wanted: if let Self::Uuid(wanted) = self { wanted.clone() } else { String::new() },
            there: gpus.iter().map(|gpu| gpu.uuid.clone()).collect(),
        })?;
        if gpu.compute_capability < COMPUTE_CAPABILITY_MIN {
            let (major, minor) = gpu.compute_capability;
            return Err(Unavailable::DeviceTooOld { name: gpu.name.clone(), major, minor });
        }
        Ok(gpu.clone())
    }
}

/// The GPUs that this process sees, at least one. They are looked for once a process.
///
/// # Errors
/// Why there is none.
pub fn gpus() -> Result<&'static [Gpu], Unavailable> {
    static GPUS: OnceLock<Result<Vec<Gpu>, Unavailable>> = OnceLock::new();
    GPUS.get_or_init(look).as_deref().map_err(Clone::clone)
}

fn look() -> Result<Vec<Gpu>, Unavailable> {
    // SAFETY: loading the driver's library runs its initialisers, which NVIDIA's allows at any time.
    if !unsafe { sys::is_culib_present() } {
        return Err(Unavailable::NoDriver);
    }
    let fails = |error| Unavailable::DriverFails(describe(error));
    match result::init() {
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(Unavailable::NoDevice),
        answer => answer.map_err(fails)?,
    }
    let mut version = 0;
    // SAFETY: it writes the version to where it is told to.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(fails)?;
    if version < DRIVER_MIN {
        return Err(Unavailable::DriverTooOld(version));
    }
    let count = result::device::get_count().map_err(fails)?;
    let gpus: Vec<Gpu> = (0..count).map(describe_device).collect::<Result<_, _>>().map_err(fails)?;
    if gpus.is_empty() { Err(Unavailable::NoDevice) } else { Ok(gpus) }
}

fn describe_device(ordinal: i32) -> Result<Gpu, cudarc::driver::DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: `device` is one that the driver gave.
    let attribute = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    Ok(Gpu {
        ordinal: ordinal as usize,
        uuid: uuid(result::device::get_uuid(device)?.bytes.map(|byte| byte as u8)),
        pci_bus_id: pci_bus_id(device)?,
        name: result::device::get_name(device)?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device)? },
    })
}

fn pci_bus_id(device: sys::CUdevice) -> Result<String, cudarc::driver::DriverError> {
    let mut text = [0; PCI_BUS_ID_BYTES];
    // SAFETY: it writes at most as many bytes as it is told that there are, the last of them 0.
    unsafe { sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), PCI_BUS_ID_BYTES as i32, device) }.result()?;
    Ok(String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).to_ascii_lowercase())
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_nvidia_smi_does() {
        let bytes = std::array::from_fn(|index| (index * 17) as u8);
        assert_eq!(uuid(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_part_of_a_gpu_is_found_by_its_digits() {
        let gpu = Gpu {
            ordinal: 0,
            uuid: "GPU-00aa".into(),
            pci_bus_id: String::new(),
            name: String::new(),
            compute_capability: (9, 0),
            multiprocessors: 1,
            memory_bytes: 1,
        };
        for (name, is_it) in [("GPU-00aa", true), ("MIG-00AA", true), ("MIG-00ab", false), ("00aa", false), ("", false)]
        {
            assert_eq!(gpu.is_called(name), is_it, "{name:?}");
        }
    }
}
