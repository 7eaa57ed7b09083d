//! `pipeline.device`: where images and tensors lie on their way from stage to stage.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Pool;

/// How the name of a GPU begins, as `nvidia-smi -L` shows it, and of a part of one (multi-instance GPU).
const UUID_PREFIXES: [&str; 2] = ["GPU-", "MIG-"];
/// Most bytes of such a name.
const UUID_BYTES_MAX: usize = 64;

/// Where images and tensors lie on their way from stage to stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// In files of the segment.
    #[default]
    Cpu,
    /// In slabs that are handed to the stages as those of a GPU are, and lie in the host's memory.
    Memfd,
    /// In slabs in the memory of a GPU: of this UUID, or the first one.
    Gpu(Option<String>),
}

/// `pipeline.mps`: whether the processes of a pipeline on a GPU share it by NVIDIA's Multi-Process Service (MPS), by a daemon of
/// the launcher's own. Without it, the GPU is one process's at a time. Off unless it is asked for: a fault of one process ends all
/// that share the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mps {
    /// Where the daemon can be started.
    Auto,
    /// No: the launcher starts none, and says nothing of one to its processes.
    #[default]
    Off,
    /// Yes: where the daemon cannot be started, neither is the pipeline.
    Require,
}

/// `pipeline.jpeg`: who decodes the JPEGs of a pipeline on a GPU, as far as they are kept for crops. Others are decoded on the CPU, at
/// a fraction of their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JpegDecoding {
    /// The CPU.
    #[default]
    Cpu,
    /// NVIDIA's nvJPEG on the GPU, all that it can.
    Gpu,
    /// Who was faster of late.
    Auto,
}

impl Mps {
    /// Each, under the name that it has in the configuration and on the command line.
    pub const ALL: [(&str, Self); 3] = [("auto", Self::Auto), ("off", Self::Off), ("require", Self::Require)];
}

/// Words that name no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no device: give \"cpu\", \"memfd\", \"gpu\" (the first GPU) or a GPU's UUID (\"GPU-…\" or \"MIG-…\", as nvidia-smi -L shows it)"
)]
pub struct DeviceError(String);

impl Device {
    /// The pools whose slots lie in handed slabs.
    pub fn handed_pools(&self) -> &'static [Pool] {
        match self {
            Self::Cpu => &[],
            Self::Memfd | Self::Gpu(_) => &[Pool::Image, Pool::Tensor],
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let is_uuid = |text: &str| {
            let digits = UUID_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or_default();
            let are_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
            !digits.is_empty() && text.len() <= UUID_BYTES_MAX && are_plain
        };
        match text {
            "cpu" => Ok(Self::Cpu),
            "memfd" => Ok(Self::Memfd),
            "gpu" => Ok(Self::Gpu(None)),
            uuid if is_uuid(uuid) => Ok(Self::Gpu(Some(uuid.to_owned()))),
            other => Err(DeviceError(other.chars().take(UUID_BYTES_MAX).collect())),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memfd => "memfd",
            Self::Gpu(None) => "gpu",
            Self::Gpu(Some(uuid)) => uuid,
        })
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_what_its_words_say_and_nothing_else_is_one() {
        let uuid = "8a56a4bc-e184-a047-2620-be19fdf913d5";
        for text in ["cpu", "memfd", "gpu", &format!("GPU-{uuid}"), &format!("MIG-{uuid}")] {
            let device: Device = text.parse().expect(text);
            assert_eq!(device.to_string(), text);
        }
        for text in [
            "",
            "CPU",
            "cuda",
            "gpu0",
            "GPU-",
            "GPU-x",
            "MIG-",
            "MIG-0,1",
            "GPU-1 --help",
            &format!("GPU-{}", "a".repeat(61)),
        ] {
            let error = text.parse::<Device>().expect_err(text).to_string();
            assert!(error.contains("no device") && error.contains("memfd"), "{error}");
        }
    }
}
