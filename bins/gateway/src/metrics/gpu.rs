//! What NVIDIA's management library says of the pipeline's GPU: asked at each scrape, and told as far as it answers. It opens no
//! context on the GPU and takes none of its memory. Without the library, or without a GPU, there are no series.

use std::ffi::OsStr;

use framepipe_pipeline::{Config, Device};
use nvml_wrapper::{
    Nvml,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    error::NvmlError,
};
use tracing::warn;

/// The library, as the driver installs it.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The pipeline's GPU, as the library knows it.
pub struct Gpu {
    nvml: Nvml,
    uuid: String,
}

/// What it says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Share of the last moments in which a kernel ran.
    pub busy: Option<f64>,
    /// Bytes of its memory: used, and all.
    pub memory: Option<[u64; 2]>,
    pub celsius: Option<u32>,
    pub watts: Option<f64>,
    /// Errors of its memory since the driver was loaded: corrected, uncorrected.
    pub ecc: Option<[u64; 2]>,
}

impl Gpu {
    /// Of a pipeline that has one. Without the library it warns, and nothing is told.
    pub fn open(config: &Config) -> Option<Self> {
        let Device::Gpu(Some(uuid)) = &config.device else { return None };
        let opened = Self::open_with(LIBRARY.as_ref(), uuid);
        opened.inspect_err(|error| warn!("nothing is told of the GPU {uuid}: {LIBRARY}: {error}")).ok()
    }

    fn open_with(library: &OsStr, uuid: &str) -> Result<Self, NvmlError> {
        Ok(Self { nvml: Nvml::builder().lib_path(library).init()?, uuid: uuid.into() })
    }

    /// Asks it.
    pub fn figures(&self) -> Figures {
        // Anew each time: a GPU that was reset, or has come back, is another handle's.
        let Ok(device) = self.nvml.device_by_uuid(&self.uuid[..]) else { return Figures::default() };
        let errors = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
        let ecc = errors(MemoryError::Corrected).zip(errors(MemoryError::Uncorrected));
        Figures {
            busy: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            memory: device.memory_info().ok().map(|memory| [memory.used, memory.total]),
            celsius: device.temperature(TemperatureSensor::Gpu).ok(),
            watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
            ecc: ecc.map(|(corrected, uncorrected)| [corrected, uncorrected]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Stands in for NVIDIA's library, which is where a driver is: of one GPU, which counts no errors of its memory.
    const STAND_IN: &str = r#"
        #include <string.h>
        typedef struct { unsigned gpu, memory; } rates;
        typedef struct { unsigned long long total, free, used; } memory;
        static int a_gpu;
        int nvmlInit_v2(void) { return 0; }
        int nvmlInitWithFlags(unsigned flags) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
            *device = &a_gpu;
            return strcmp(uuid, "GPU-1a") ? 6 : 0;
        }
        int nvmlDeviceGetUtilizationRates(void* device, rates* to) { *to = (rates){ 37, 5 }; return 0; }
        int nvmlDeviceGetMemoryInfo(void* device, memory* to) { *to = (memory){ 16000, 12000, 4000 }; return 0; }
        int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* to) { *to = 61; return 0; }
        int nvmlDeviceGetPowerUsage(void* device, unsigned* to) { *to = 42500; return 0; }
        int nvmlDeviceGetTotalEccErrors(void* device, int kind, int counter, unsigned long long* to) { return 3; }
    "#;

    #[test]
    fn what_the_library_says_is_told_and_what_it_does_not_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder of the test's own");
        let (source, library) = (folder.path().join("stand_in.c"), folder.path().join("libstand-in.so"));
        fs::write(&source, STAND_IN).expect("it can be written");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        assert!(compiled.expect("there is a C compiler").success());
        let gpu = Gpu::open_with(library.as_os_str(), "GPU-1a").expect("it opens");
        let expected =
            Figures { busy: Some(0.37), memory: Some([4000, 16000]), celsius: Some(61), watts: Some(42.5), ecc: None };
        assert_eq!(gpu.figures(), expected);
        let other = Gpu::open_with(library.as_os_str(), "GPU-2b").expect("it opens");
        assert_eq!(other.figures(), Figures::default());
        let missing = folder.path().join("there-is-none.so");
        assert!(Gpu::open_with(missing.as_os_str(), "GPU-1a").is_err());
    }
}
