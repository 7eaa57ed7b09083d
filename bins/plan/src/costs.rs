//! What a frame costs: read from a file, or the shipped ones (`costs.toml`), which document the format.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use framepipe_pipeline::Config;
use serde::{Deserialize, Serialize};

use crate::picture::Picture;

/// Measured on the machines that it names.
const SHIPPED: &str = include_str!("../costs.toml");
/// The GPUs that the shipped file knows.
pub const GPUS: [&str; 2] = ["h200", "t4"];

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Each pipeline with each kind of frames.
    #[serde(default)]
    pub pipelines: Vec<Measured>,
    /// Of a GPU, and of the CPU beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuCosts>,
}

/// What a frame of a pipeline costs on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Which machine, and under what.
    pub machine: String,
    /// When: YYYY-MM-DD.
    pub date: String,
    /// The detector.
    pub detector: String,
    /// The attribute models.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// What frames are.
    pub frames: Frames,
    /// What each core beyond the first adds, as a part of the first: above 0, up to 1. None: it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub further_core: Option<f64>,
    /// Cores that are used whatever frames come.
    pub upkeep_cores: Upkeep,
    /// CPU milliseconds of a frame.
    pub cpu_ms: CpuMs,
}

/// What frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frames {
    /// JPEGs of any size.
    Jpeg,
    /// RGB of the detector's size.
    Raw,
}

/// Cores that processes use through which no frame goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upkeep {
    pub keeper: f64,
    pub launcher: f64,
}

/// CPU milliseconds of one frame, by kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuMs {
    pub ingest: f64,
    pub detect: f64,
    pub postprocess: f64,
    pub gateway: f64,
    /// The one that pushes the frames and pulls the results, on the same machine.
    pub client: f64,
    pub preprocess: Pixels,
    pub attribute: Crops,
}

/// What depends on the picture: milliseconds of every frame, of each decoded megapixel, of each encoded MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pixels {
    pub frame: f64,
    pub megapixel: f64,
    pub mib: f64,
}

/// What depends on the crops: milliseconds of every frame, and of all models on one crop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crops {
    pub frame: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<f64>,
}

/// What a frame costs a GPU, and the CPU beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuCosts {
    /// Which, and when.
    pub machine: String,
    /// Microseconds of the GPU to make a frame's tensor.
    pub frame_us: f64,
    /// To make a crop's, of one model.
    pub crop_us: f64,
    /// GPUs on which nothing was measured.
    pub estimated: Vec<String>,
    /// Of one inference in a large batch, by model.
    pub model_us: BTreeMap<String, f64>,
    /// CPU milliseconds of one raw frame.
    pub cpu_ms: CpuMs,
    /// GPUs, and how many times as long each takes.
    pub times: BTreeMap<String, f64>,
}

/// Why there are no costs.
#[derive(Debug, thiserror::Error)]
pub enum CostsError {
    #[error("{path}: {error}; `framepipe plan --measure --save FILE` writes such a file")]
    Read { path: PathBuf, error: io::Error },
    #[error("{path} is no file of costs: {error}; bins/plan/costs.toml shows what one holds")]
    Parse { path: PathBuf, error: Box<toml::de::Error> },
    #[error("cannot write {path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("{path}: {key} is {value}: {wanted}")]
    Value { path: PathBuf, key: String, value: f64, wanted: &'static str },
    #[error(
        "{source_of} has no costs of the detector {detector} with the attribute models {attributes:?} and {frames} frames: measure \
         them on this machine (--measure), or name a file that has them (--costs)"
    )]
    Unknown { source_of: String, detector: String, attributes: Vec<String>, frames: &'static str },
    #[error(
        "{source_of} does not say what a crop costs, measured as it was without crops: measure with them (--measure --crops N)"
    )]
    NoCrops { source_of: String },
    #[error("there are no figures of a GPU {gpu:?}: there are some of {known}")]
    UnknownGpu { gpu: String, known: String },
    #[error(
        "no GPU time is known of the model {model}: measure it (framepipe gpu-accept --only models), and write its microseconds into \
         [gpu.model_us] of a file for --costs; known are {known}"
    )]
    UnknownOnGpu { model: String, known: String },
}

/// What a number must be, in words too.
type Rule = (fn(f64) -> bool, &'static str);

const PART: Rule = (|value: f64| value > 0.0 && value <= 1.0, "it is above 0, and 1 at most");
const UPKEEP: Rule = (|value: f64| (0.0..0.5).contains(&value), "it is 0 or more, and less than half a core");
const MS: Rule = (|value: f64| value.is_finite() && value >= 0.0, "it is 0 or more milliseconds");
const POSITIVE: Rule = (|value: f64| value.is_finite() && value > 0.0, "it is above 0");

impl Costs {
    /// Those that are shipped.
    pub fn shipped() -> Self {
        toml::from_str(SHIPPED).expect("a test reads it")
    }

    /// Those of a file. What it does not say of GPUs is what is shipped.
    pub fn read(path: &Path) -> Result<Self, CostsError> {
        let costs = Self::of_file(path)?;
        Ok(Self { gpu: costs.gpu.or(Self::shipped().gpu), ..costs })
    }

    /// What a file itself says.
    fn of_file(path: &Path) -> Result<Self, CostsError> {
        let text = fs::read_to_string(path).map_err(|error| CostsError::Read { path: path.into(), error })?;
        let costs: Self =
            toml::from_str(&text).map_err(|error| CostsError::Parse { path: path.into(), error: Box::new(error) })?;
        let wrong = costs.numbers().into_iter().find(|(_, value, (holds, _))| !holds(*value));
        match wrong {
            Some((key, value, (_, wanted))) => Err(CostsError::Value { path: path.into(), key, value, wanted }),
            None => Ok(costs),
        }
    }

    /// Every number, with its key and what it must be.
    fn numbers(&self) -> Vec<(String, f64, Rule)> {
        let mut numbers: Vec<(String, f64, Rule)> = Vec::new();
        for (place, one) in self.pipelines.iter().enumerate() {
            let key = |key: &str| format!("pipelines[{place}].{key}");
            numbers.extend(one.further_core.map(|value| (key("further_core"), value, PART)));
            numbers.push((key("upkeep_cores.keeper"), one.upkeep_cores.keeper, UPKEEP));
            numbers.push((key("upkeep_cores.launcher"), one.upkeep_cores.launcher, UPKEEP));
            numbers.extend(one.cpu_ms.numbers().map(|(name, value)| (key(&format!("cpu_ms.{name}")), value, MS)));
        }
        if let Some(gpu) = &self.gpu {
            numbers.push(("gpu.frame_us".into(), gpu.frame_us, POSITIVE));
            numbers.push(("gpu.crop_us".into(), gpu.crop_us, POSITIVE));
            for (table, values) in [("model_us", &gpu.model_us), ("times", &gpu.times)] {
                numbers.extend(values.iter().map(|(key, value)| (format!("gpu.{table}.{key}"), *value, POSITIVE)));
            }
            numbers.extend(gpu.cpu_ms.numbers().map(|(name, value)| (format!("gpu.cpu_ms.{name}"), value, MS)));
        }
        numbers
    }

    /// Writes one more pipeline into a file, in place of what it says of the same one; everything else that it says stays.
    pub fn save(path: &Path, measured: Measured) -> Result<(), CostsError> {
        let mut costs = match Self::of_file(path) {
            Err(CostsError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            costs => costs?,
        };
        let key = |one: &Measured| (one.detector.clone(), one.attributes.clone(), one.frames);
        costs.pipelines.retain(|one| key(one) != key(&measured));
        costs.pipelines.push(measured);
        let text = toml::to_string(&costs).expect("tables of numbers and words");
        replace(path, &text).map_err(|error| CostsError::Write { path: path.into(), error })
    }

    /// Of a pipeline. `source` is where these costs are from, for messages.
    pub fn of(&self, config: &Config, frames: Frames, source: &str) -> Result<&Measured, CostsError> {
        let attributes: Vec<String> = config.attributes.iter().map(|model| model.name.clone()).collect();
        let detector = config.detector.name.clone();
        let is_it = |one: &&Measured| one.detector == detector && one.attributes == attributes && one.frames == frames;
        self.pipelines.iter().find(is_it).ok_or_else(|| CostsError::Unknown {
            source_of: source.to_owned(),
            detector,
            attributes,
            frames: frames.name(),
        })
    }
}

/// Writes a file beside the one that it takes the place of: whoever reads that finds the one or the other, and whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::metadata(path).map_or_else(|_| Permissions::from_mode(0o666), |found| found.permissions());
    let mut beside = tempfile::Builder::new().prefix(".costs-").permissions(permissions).tempfile_in(folder)?;
    beside.write_all(text.as_bytes())?;
    beside.as_file().sync_all()?;
    beside.persist(path)?;
    Ok(())
}

impl Measured {
    /// Where it was measured, and when.
    pub fn origin(&self) -> String {
        format!("{} ({})", self.machine, self.date)
    }
}

impl Upkeep {
    /// All together.
    pub fn cores(&self) -> f64 {
        self.keeper + self.launcher
    }
}

impl CpuMs {
    /// Every number, with its key.
    fn numbers(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let (pixels, crops) = (self.preprocess, self.attribute);
        let always = [
            ("ingest", self.ingest),
            ("preprocess.frame", pixels.frame),
            ("preprocess.megapixel", pixels.megapixel),
            ("preprocess.mib", pixels.mib),
            ("detect", self.detect),
            ("postprocess", self.postprocess),
            ("attribute.frame", crops.frame),
            ("gateway", self.gateway),
            ("client", self.client),
        ];
        always.into_iter().chain(crops.crop.map(|crop| ("attribute.crop", crop)))
    }
}

impl GpuCosts {
    /// Milliseconds of this GPU for a frame: before its tensor is made, its detection, and all its crops.
    pub fn device_ms(&self, gpu: &str, config: &Config, crops: u32) -> Result<DeviceMs, CostsError> {
        let times = self.times.get(gpu).ok_or_else(|| CostsError::UnknownGpu {
            gpu: gpu.to_owned(),
            known: self.times.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let model = |name: &String| {
            self.model_us.get(name).copied().ok_or_else(|| CostsError::UnknownOnGpu {
                model: name.clone(),
                known: self.model_us.keys().cloned().collect::<Vec<_>>().join(", "),
            })
        };
        let crop: f64 = config
            .attributes
            .iter()
            .map(|one| Ok(model(&one.name)? + self.crop_us))
            .sum::<Result<f64, CostsError>>()?;
        let ms = |us: f64| us * times / 1e3;
        Ok(DeviceMs {
            preprocess: ms(self.frame_us),
            detect: ms(model(&config.detector.name)?),
            attribute: ms(crop * f64::from(crops)),
        })
    }
}

/// Milliseconds of a GPU for one frame, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceMs {
    pub preprocess: f64,
    pub detect: f64,
    pub attribute: f64,
}

impl Frames {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Raw => "raw",
        }
    }
}

impl Pixels {
    /// Milliseconds of a picture.
    pub fn of(&self, picture: &Picture) -> f64 {
        self.frame + self.megapixel * picture.decoded_megapixels + self.mib * picture.mib()
    }

    /// What goes through three pictures' milliseconds: the first; the same with fewer bytes; and one of another size. The first
    /// one's are met exactly, and no part is negative, which noise would make of it.
    pub fn through([first, smaller, other]: [(Picture, f64); 3]) -> Self {
        let slope = |rise: f64, run: f64| if run.abs() > 1e-3 { (rise / run).max(0.0) } else { 0.0 };
        let ((a, a_ms), (b, b_ms), (c, c_ms)) = (first, smaller, other);
        let mib = slope(a_ms - b_ms, a.mib() - b.mib());
        let megapixel =
            slope((a_ms - mib * a.mib()) - (c_ms - mib * c.mib()), a.decoded_megapixels - c.decoded_megapixels);
        let slopes = Self { frame: 0.0, megapixel, mib };
        match a_ms - slopes.of(&a) {
            frame if frame >= 0.0 => Self { frame, ..slopes },
            _ => {
                let part = a_ms / slopes.of(&a);
                Self { frame: 0.0, megapixel: megapixel * part, mib: mib * part }
            }
        }
    }
}

impl Crops {
    /// Milliseconds of a frame with so many crops; none, where a crop's are not known.
    pub fn of(&self, crops: u32) -> Option<f64> {
        let each = if crops == 0 { Some(0.0) } else { self.crop };
        each.map(|each| self.frame + each * f64::from(crops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(megapixels: f64, bytes: u64) -> Picture {
        Picture { width: 1, height: 1, bytes, decoded_megapixels: megapixels }
    }

    #[test]
    fn the_shipped_costs_are_a_good_file_and_have_what_a_gpu_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.toml");
        fs::write(&path, SHIPPED).unwrap();
        let costs = Costs::read(&path).unwrap();
        assert_eq!(costs, Costs::shipped());
        let gpu = costs.gpu.expect("it is shipped");
        assert!(gpu.times.keys().eq(GPUS.iter()) && gpu.estimated == ["t4"]);
    }

    #[test]
    fn what_is_no_file_of_costs_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.toml");
        let said = |text: &str| {
            fs::write(&path, text).unwrap();
            Costs::read(&path).unwrap_err().to_string()
        };
        assert!(Costs::read(&folder.path().join("no")).unwrap_err().to_string().contains("--save FILE"));
        assert!(said("speed = 2").contains("speed"));
        assert!(said("[[pipelines]]\nmachine = \"x\"").contains("date"));
    }

    #[test]
    fn a_number_that_cannot_be_is_named_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.toml");
        for (good, bad, said) in [
            ("\nframes = \"jpeg\"", "\nframes = \"jpeg\"\nfurther_core = 1.5", "pipelines[0].further_core is 1.5"),
            ("\nframes = \"raw\"", "\nframes = \"raw\"\nfurther_core = 0.0", "pipelines[1].further_core is 0"),
            ("{ keeper = 0.", "{ keeper = 7.", "pipelines[0].upkeep_cores.keeper is 7."),
            ("\ningest = ", "\ningest = -", "pipelines[0].cpu_ms.ingest is -"),
            ("megapixel = 4.57", "megapixel = nan", "pipelines[0].cpu_ms.preprocess.megapixel is NaN"),
            ("attribute = { frame", "attribute = { crop = -1.0, frame", "pipelines[0].cpu_ms.attribute.crop is -1"),
            ("frame_us = ", "frame_us = -", "gpu.frame_us is -3.3"),
            ("crop_us = 3.4", "crop_us = 0.0", "gpu.crop_us is 0"),
            ("nanodet416-4c-int8 = 50.8", "nanodet416-4c-int8 = nan", "gpu.model_us.nanodet416-4c-int8 is NaN"),
            ("ingest = 0.13", "ingest = inf", "gpu.cpu_ms.ingest is inf"),
            ("t4 = 9.66", "t4 = 0.0", "gpu.times.t4 is 0"),
        ] {
            assert!(SHIPPED.contains(good), "{good}");
            fs::write(&path, SHIPPED.replacen(good, bad, 1)).unwrap();
            let error = Costs::read(&path).unwrap_err();
            assert!(matches!(error, CostsError::Value { .. }) && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_saved_is_read_and_takes_the_place_of_what_was_said_of_the_same_pipeline_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.toml");
        let elsewhere = Costs::shipped().pipelines[0].clone();
        let here = Measured {
            machine: "here".into(),
            date: "2026-01-01".into(),
            further_core: Some(0.9),
            ..elsewhere.clone()
        };
        let other = Measured { detector: "other".into(), ..here.clone() };
        Costs::save(&path, elsewhere.clone()).unwrap();
        Costs::save(&path, other.clone()).unwrap();
        let costs = Costs::read(&path).unwrap();
        assert_eq!(costs.pipelines, [elsewhere, other.clone()], "each keeps its machine");
        assert_eq!(costs.gpu, Costs::shipped().gpu, "which the file itself does not say");
        assert_eq!(Costs::of_file(&path).unwrap().gpu, None);
        Costs::save(&path, here.clone()).unwrap();
        assert_eq!(Costs::read(&path).unwrap().pipelines, [other, here]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn what_a_file_says_of_gpus_stays_in_it_and_what_is_no_file_of_costs_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("costs.toml");
        let measured = Costs::shipped().pipelines[0].clone();
        let mut own = Costs::shipped();
        own.gpu.as_mut().unwrap().model_us.insert("their-own".into(), 12.5);
        fs::write(&path, toml::to_string(&own).unwrap()).unwrap();
        Costs::save(&path, measured.clone()).unwrap();
        assert_eq!(Costs::read(&path).unwrap().gpu, own.gpu);

        fs::write(&path, "a letter").unwrap();
        assert!(matches!(Costs::save(&path, measured), Err(CostsError::Parse { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "a letter");
    }

    #[test]
    fn a_fit_finds_the_parts_and_meets_the_first_picture_whatever_the_noise() {
        let truth = Pixels { frame: 0.5, megapixel: 2.0, mib: 8.0 };
        let pictures = [picture(0.52, 260_000), picture(0.52, 130_000), picture(0.92, 115_000)];
        let found = Pixels::through(pictures.map(|one| (one, truth.of(&one))));
        for (found, truth) in [(found.frame, 0.5), (found.megapixel, 2.0), (found.mib, 8.0)] {
            assert!((found - truth).abs() < 1e-9, "{found} {truth}");
        }
        for noisy in [[3.0, 4.0, 1.0], [3.0, 0.5, 9.0], [1.0, 0.1, 5.0], [0.0, 0.0, 0.0]] {
            let at = |place: usize| (pictures[place], noisy[place]);
            let found = Pixels::through([at(0), at(1), at(2)]);
            assert!((found.of(&pictures[0]) - noisy[0]).abs() < 1e-9, "{noisy:?}: {found:?}");
            assert!(found.frame >= 0.0 && found.megapixel >= 0.0 && found.mib >= 0.0, "{found:?}");
        }
        let same = [(pictures[0], 3.0), (pictures[0], 3.1), (pictures[0], 2.9)];
        assert!((Pixels::through(same).of(&pictures[0]) - 3.0).abs() < 1e-9, "three times the same picture");
    }

    #[test]
    fn crops_cost_nothing_known_where_none_was_measured() {
        assert_eq!(Crops { frame: 0.1, crop: None }.of(0), Some(0.1));
        assert_eq!(Crops { frame: 0.1, crop: None }.of(1), None);
        assert_eq!(Crops { frame: 0.5, crop: Some(20.0) }.of(2), Some(40.5));
    }
}
