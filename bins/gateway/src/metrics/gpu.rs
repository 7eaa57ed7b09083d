//! What NVIDIA's management library says of the pipeline's GPU: asked once a second by a thread of its own, which a GPU that does not
//! answer may hold up for ever, and told as long as it is fresh. It opens no context on the GPU and takes none of its memory. Without
//! the library, or without a GPU, there are no series.

use std::{
    ffi::OsStr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use framepipe_pipeline::{Config, Device};
use nvml_wrapper::{
    Nvml,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    error::NvmlError,
};
use tracing::{info, warn};

/// The library, as the driver installs it.
const LIBRARY: &str = "libnvidia-ml.so.1";
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two attempts to open it, where it does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is older is not told.
const FRESH: Duration = Duration::from_secs(5);

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

/// The last figures of the pipeline's GPU.
#[derive(Clone, Default)]
pub struct Watch(Arc<Mutex<Option<(Instant, Figures)>>>);

impl Watch {
    /// Of a pipeline; of one without a GPU nothing is asked.
    pub fn start(config: &Config) -> Self {
        let watch = Self::default();
        if let Device::Gpu(Some(uuid)) = &config.device {
            let (uuid, asked) = (uuid.clone(), watch.clone());
            // It ends with the process, whether the GPU answers or not.
            let started = thread::Builder::new().name("gpu-figures".into()).spawn(move || asked.ask(&uuid));
            if let Err(error) = started {
                warn!("nothing is told of the GPU: no thread: {error}");
            }
        }
        watch
    }

    /// What is known, if it is fresh.
    pub fn figures(&self) -> Figures {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(when, _)| when.elapsed() < FRESH).map(|(_, figures)| figures).unwrap_or_default()
    }

    fn ask(&self, uuid: &str) -> ! {
        let mut is_told = false;
        loop {
            let error = match open(LIBRARY.as_ref()) {
                Ok(nvml) => loop {
                    match figures(&nvml, uuid) {
                        Ok(figures) => {
                            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), figures));
                            if std::mem::take(&mut is_told) {
                                info!("the GPU {uuid} answers again");
                            }
                        }
                        Err(error) => break error,
                    }
                    thread::sleep(INTERVAL);
                },
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_told, true) {
                warn!("nothing is told of the GPU {uuid}: {LIBRARY}: {error}; it is asked again");
            }
            thread::sleep(PATIENCE);
        }
    }
}

fn open(library: &OsStr) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library).init()
}

/// As far as the GPU of this UUID tells them.
fn figures(nvml: &Nvml, uuid: &str) -> Result<Figures, NvmlError> {
    let device = nvml.device_by_uuid(uuid)?;
    let errors = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    let ecc = errors(MemoryError::Corrected).zip(errors(MemoryError::Uncorrected));
    Ok(Figures {
        busy: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        memory: device.memory_info().ok().map(|memory| [memory.used, memory.total]),
        celsius: device.temperature(TemperatureSensor::Gpu).ok(),
        watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1e3),
        ecc: ecc.map(|(corrected, uncorrected)| [corrected, uncorrected]),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Stands in for NVIDIA's library, which is where a driver is: of one GPU, which counts no errors of its memory.
    const STAND_IN: &str = r#"
        #include <string.h>
        typedef struct { unsigned gpu, memory; } rates;
        typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory;
        static int a_gpu;
        int nvmlInit_v2(void) { return 0; }
        int nvmlInitWithFlags(unsigned flags) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
            *device = &a_gpu;
            return strcmp(uuid, "GPU-1a") ? 6 : 0;
        }
        int nvmlDeviceGetUtilizationRates(void* device, rates* to) { *to = (rates){ 37, 5 }; return 0; }
        int nvmlDeviceGetMemoryInfo_v2(void* device, memory* to) {
            to->total = 16000, to->reserved = 1000, to->free = 11000, to->used = 4000;
            return 0;
        }
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
        let nvml = open(library.as_os_str()).expect("it opens");
        let expected =
            Figures { busy: Some(0.37), memory: Some([4000, 16000]), celsius: Some(61), watts: Some(42.5), ecc: None };
        assert_eq!(figures(&nvml, "GPU-1a").expect("it is there"), expected);
        assert!(figures(&nvml, "GPU-2b").is_err(), "there is no such GPU");
        assert!(open(folder.path().join("there-is-none.so").as_os_str()).is_err());
    }

    #[test]
    fn what_is_stale_is_not_told() {
        let (watch, figures) = (Watch::default(), Figures { celsius: Some(61), ..Figures::default() });
        let at = |age: Duration| *watch.0.lock().expect("nobody panicked") = Some((Instant::now() - age, figures));
        assert_eq!(watch.figures(), Figures::default());
        at(Duration::ZERO);
        assert_eq!(watch.figures(), figures);
        at(FRESH);
        assert_eq!(watch.figures(), Figures::default());
    }
}
