//! From the configuration and the models' manifests to the segment's geometry and the bounds that follow from them.

use framepipe_cache::ArenaGeometry;
use framepipe_frame::{Descriptor, KeyRecord, Request, detections, raw};
use framepipe_model::{Detector, Manifest, ManifestError, Task};
use framepipe_shm::{Geometry, GeometryError, POOL_COUNT_MAX, PoolGeometry};

use crate::turners::turners;
use crate::{Config, ENTRIES, Pool, QUEUES, TENSOR_FACTS_BYTES};

/// Bytes of a result beside its detections and attributes: name, stage times, numbers.
const RESULT_BASE_BYTES: u64 = 4096;
/// Most bytes of one detection in a result, its attributes left out: box, score, class, label.
const RESULT_DETECTION_BYTES: u64 = 160;

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A model's manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The pools.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A cache that has no room for what it is for.
    #[error("{key} = {given}: one takes {needed} bytes; give twice as many at least, or 0 to keep none")]
    CacheTooSmall {
        /// Which key.
        key: &'static str,
        /// What it says.
        given: u64,
        /// Bytes of one entry.
        needed: u64,
    },
    /// A model that needs more than the running pipeline's memory was made for.
    #[error(
        "{models} need {what} of {needed} bytes, and the pipeline was started with {most}: {advice}, or start the pipeline \
         with these models"
    )]
    TooLarge {
        /// The models.
        models: String,
        /// Of what they need more.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes that there are.
        most: u64,
        /// What to raise.
        advice: String,
    },
    /// A model that applies to nothing that the detector finds.
    #[error(
        "the attribute model {model} applies to {applies_to:?}, and the detector {detector} finds {labels:?}: \
         take the model out of pipeline.attributes, or take another detector"
    )]
    AppliesToNothing {
        /// The attribute model.
        model: String,
        /// What it applies to.
        applies_to: Vec<String>,
        /// The detector.
        detector: String,
        /// What that finds.
        labels: Vec<String>,
    },
    /// A model whose crops another one turns, which cannot.
    #[error("the attribute model {model} has its crops turned by {by:?}, and {what}")]
    Turner {
        /// The model.
        model: String,
        /// The attribute.
        by: String,
        /// Why not, and what to do.
        what: String,
    },
}

/// A configuration with its models.
pub struct Plan {
    /// The detector's manifest.
    pub detector: Manifest,
    /// The attribute models' manifests.
    pub attributes: Vec<Manifest>,
    /// By attribute model: the one before it that says which of its crops are upside down.
    pub turners: Vec<Option<usize>>,
    /// The segment's geometry.
    pub geometry: Geometry,
    /// The cache's geometry.
    pub cache: framepipe_cache::Geometry,
    /// Most bytes of one result.
    pub result_bytes_max: u64,
    /// Bytes of a slot that the models need, by pool.
    slot_bytes: [u64; POOL_COUNT_MAX],
}

impl Plan {
    /// Finds the models and sizes everything by them. Checksums are verified by the launcher alone, once.
    ///
    /// # Errors
    /// When a model is missing, contradicts itself or may not be served, or the pools cannot be.
    pub fn of(config: &Config) -> Result<Self, PlanError> {
        let mut detector = Manifest::find(&config.models, &config.detector)?;
        if let (Task::Detector(spec), Some(threshold)) = (&mut detector.task, config.score_threshold) {
            spec.score_threshold = threshold;
        }
        let attributes =
            config.attributes.iter().map(|name| Manifest::find(&config.models, name)).collect::<Result<Vec<_>, _>>()?;
        for model in std::iter::once(&detector).chain(&attributes) {
            model.check_servable()?;
        }
        let spec = detector.detector()?;
        for model in &attributes {
            let applies_to = &model.attributes()?.applies_to;
            if !applies_to.iter().any(|label| spec.labels.contains(label)) {
                return Err(PlanError::AppliesToNothing {
                    model: model.name.clone(),
                    applies_to: applies_to.clone(),
                    detector: detector.name.clone(),
                    labels: spec.labels.clone(),
                });
            }
        }
        let turners = turners(&spec.labels, &attributes)?;
        let slot_bytes = slot_bytes(&detector)?;
        let cache = cache_geometry(config, &detector);
        check_cache(config, &cache)?;
        let geometry = geometry(config, &detector, &attributes, &slot_bytes, &cache);
        geometry.check()?;
        // A mask's head takes a half more in a result than in its slot, its runs the same.
        let mask_bytes = Detector::new(&detector)?.mask_bytes_max() as u64 * 3 / 2;
        let attribute_bytes = geometry.pools[Pool::Attributes as usize].slot_bytes_max();
        let detection_bytes = spec.detections_max as u64 * RESULT_DETECTION_BYTES;
        let derived = RESULT_BASE_BYTES + detection_bytes + mask_bytes + attribute_bytes * 5 / 4;
        let result_bytes_max = Some(config.journal.result_bytes_max).filter(|bytes| *bytes > 0).unwrap_or(derived);
        Ok(Self { detector, attributes, turners, geometry, cache, result_bytes_max, slot_bytes })
    }

    /// Largest decoded frame that is kept for the crops; 0: none is.
    pub fn kept_bytes_max(&self) -> usize {
        if self.attributes.is_empty() {
            return 0;
        }
        self.geometry.pools[Pool::Image as usize].slot_bytes_max() as usize
    }

    /// Fails unless these models can serve in the segment that was made for those of `made`.
    ///
    /// # Errors
    /// Names what they need more of, and what to do.
    pub fn check_fits(&self, made: &Plan) -> Result<(), PlanError> {
        let slots = Pool::ALL.iter().map(|pool| {
            let (needed, most) =
                (self.slot_bytes[*pool as usize], made.geometry.pools[*pool as usize].slot_bytes_max());
            let (what, advice) = (format!("a {} slot", pool.name()), format!("set bytes in [pools.{}]", pool.name()));
            (what, advice, needed, most)
        });
        let result =
            ("a result".into(), "set journal.result_bytes_max".into(), self.result_bytes_max, made.result_bytes_max);
        for (what, advice, needed, most) in slots.chain([result]) {
            if needed > most {
                let models: Vec<&str> = self.models().map(|model| model.name.as_str()).collect();
                return Err(PlanError::TooLarge { models: models.join(", "), what, needed, most, advice });
            }
        }
        Ok(())
    }

    /// Names all that a result depends on beside its image: the models' manifests, word by word, with their files' checksums; and
    /// what is asked of them.
    ///
    /// # Errors
    /// Where a manifest cannot be read any more.
    pub fn identity(&self, config: &Config) -> std::io::Result<String> {
        let manifest = |model: &Manifest| std::fs::read_to_string(model.path());
        let manifests = self.models().map(manifest).collect::<Result<Vec<_>, _>>()?;
        let models = self.models().zip(manifests).flat_map(|(model, manifest)| {
            let name = [model.name.clone(), model.version.to_string(), manifest];
            name.into_iter().chain(model.sums().map(str::to_owned))
        });
        let Config { score_threshold, crops_max, limits, device, .. } = config;
        let asked = format!("{} {score_threshold:?} {crops_max} {limits:?} {device}", env!("CARGO_PKG_VERSION"));
        Ok(models.chain([asked]).collect::<Vec<_>>().join("\0"))
    }

    /// Manifests of all models.
    pub fn models(&self) -> impl Iterator<Item = &Manifest> {
        std::iter::once(&self.detector).chain(&self.attributes)
    }
}

/// Bytes of a slot that a model needs, by pool; 0 where the configuration alone says.
fn slot_bytes(detector: &Manifest) -> Result<[u64; POOL_COUNT_MAX], PlanError> {
    let (head, spec) = (Detector::new(detector)?, detector.detector()?);
    let mut needed = [0; POOL_COUNT_MAX];
    needed[Pool::Tensor as usize] = detector.input.plan.tensor_bytes() as u64;
    needed[Pool::Raw as usize] = raw::slot_bytes(head.raw_shapes()) as u64;
    needed[Pool::Detections as usize] = detections::slot_bytes(spec.detections_max, head.mask_bytes_max()) as u64;
    Ok(needed)
}

fn geometry(
    config: &Config,
    detector: &Manifest,
    attributes: &[Manifest],
    slot_bytes: &[u64; POOL_COUNT_MAX],
    cache: &framepipe_cache::Geometry,
) -> Geometry {
    let mut pools = [PoolGeometry::default(); POOL_COUNT_MAX];
    for (pool, classes) in Pool::ALL.iter().zip(&config.pools) {
        let needed = slot_bytes[*pool as usize].max(1);
        // No attribute model: no crops, so no frame is kept for them.
        if attributes.is_empty() && matches!(pool, Pool::Image | Pool::Attributes) {
            continue;
        }
        let sized = |(bytes, slots): &(u64, u64)| ((*bytes).max(needed), *slots);
        let classes: Vec<(u64, u64)> = classes.classes.iter().map(sized).collect();
        pools[*pool as usize] = PoolGeometry::new(&classes);
    }
    Geometry {
        pipeline: pipeline_hash(config, detector, attributes, cache),
        jobs: u64::from(config.frames_max) + 1,
        reserved: 1, // the canary's
        queues: QUEUES as u64,
        processes: ENTRIES as u64,
        request_bytes: size_of::<Request>() as u64,
        descriptor_bytes: size_of::<Descriptor>() as u64,
        keys: config.server.idempotency_keys_max.into(),
        key_bytes: size_of::<KeyRecord>() as u64,
        handed: config
            .device
            .handed_pools()
            .iter()
            .map(|pool| *pool as usize)
            .filter(|pool| pools[*pool].bytes() > 0)
            .fold(0, |bits, pool| bits | 1 << pool),
        pools,
    }
}

/// Bytes of the pieces in which results lie in memory.
const RESULT_CHUNK_BYTES: u64 = 4096;

fn cache_geometry(config: &Config, detector: &Manifest) -> framepipe_cache::Geometry {
    let cache = &config.cache;
    // A tensor in a slab is not made again of one in memory: nothing is gained.
    let tensor_bytes = if config.device.handed_pools().is_empty() { cache.tensor_bytes_max } else { 0 };
    let tensors = ArenaGeometry::of(tensor_bytes, (detector.input.plan.tensor_bytes() + TENSOR_FACTS_BYTES) as u64);
    let arenas = [
        ArenaGeometry::of(cache.memory_bytes_max, cache.chunk_bytes),
        tensors,
        ArenaGeometry::of(cache.result_bytes_max, RESULT_CHUNK_BYTES),
    ];
    let [_, _, results] = arenas;
    let metadata = if cache.looks_up() { cache.metadata_entries_max.into() } else { 0 };
    let entries = match tensors.blocks + results.blocks + metadata {
        0 => 0,
        // Half full at most, so that a key seldom finds its bucket full.
        entries => (2 * entries).next_power_of_two().max(8),
    };
    framepipe_cache::Geometry { arenas, entries }
}

/// What is asked for has room for two at least: the keeper leaves one free.
fn check_cache(config: &Config, cache: &framepipe_cache::Geometry) -> Result<(), PlanError> {
    let [_, tensors, results] = cache.arenas;
    let keeps_tensors = config.device.handed_pools().is_empty();
    let asked = [
        ("cache.tensor_bytes_max", if keeps_tensors { config.cache.tensor_bytes_max } else { 0 }, tensors),
        ("cache.result_bytes_max", config.cache.result_bytes_max, results),
    ];
    for (key, given, arena) in asked {
        if given > 0 && arena.blocks < 2 {
            return Err(PlanError::CacheTooSmall { key, given, needed: arena.block_bytes });
        }
    }
    Ok(())
}

/// What must not change under frames in flight beside their sizes: the models, their files, where sources lie, and how images
/// are kept.
fn pipeline_hash(
    config: &Config,
    detector: &Manifest,
    attributes: &[Manifest],
    cache: &framepipe_cache::Geometry,
) -> u64 {
    let models = std::iter::once(detector).chain(attributes);
    let names = |model: &Manifest| [model.name.clone(), model.version.to_string()];
    let models = models.flat_map(|model| names(model).into_iter().chain(model.sums().map(str::to_owned)));
    let inbox = config.server.inbox.iter().map(|root| root.display().to_string());
    let words: Vec<String> = models.chain(inbox).chain([format!("{cache:?}")]).collect();
    // FNV-1a over the words, each ended by a byte that none of them holds.
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
