//! The stage table. Process counts, rings, pools, `status` and the configuration's keys derive from it: a stage is one
//! row here and one binary.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use framepipe_cache::{ArenaKind, Use};
use framepipe_shm::{Access, Restart, pool_bits};

/// The slot pools, by their number in the segment. Each belongs to the one stage that writes it, and is waited for by
/// that stage alone, so that waits point downstream and cannot form a cycle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Pool {
    /// The bytes as the client gave them. Carried to the end, so that a frame can start again at preprocess.
    Encoded = 0,
    /// The decoded frame, RGB8, kept for the crops.
    Image = 1,
    /// The detector's input.
    Tensor = 2,
    /// The detector's outputs.
    Raw = 3,
    /// The boxes found.
    Detections = 4,
    /// What the attribute models said.
    Attributes = 5,
    /// In place of an encoded slot: a lease on what framepipe keeps of the image, or on its result.
    Held = 6,
    /// In place of a tensor slot: a lease on a cached tensor.
    Cached = 7,
}

impl Pool {
    /// Every pool.
    pub const ALL: [Pool; 8] = [
        Self::Encoded,
        Self::Image,
        Self::Tensor,
        Self::Raw,
        Self::Detections,
        Self::Attributes,
        Self::Held,
        Self::Cached,
    ];

    /// The pool's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encoded => "encoded",
            Self::Image => "image",
            Self::Tensor => "tensor",
            Self::Raw => "raw",
            Self::Detections => "detections",
            Self::Attributes => "attributes",
            Self::Held => "held",
            Self::Cached => "cached",
        }
    }
}

/// One stage.
#[derive(Debug)]
pub struct StageRow {
    /// Its name: in the configuration, in `status`, in results' times, and as a flag of `framepipe up`.
    pub name: &'static str,
    /// Its executable.
    pub binary: &'static str,
    /// What it does, for help texts.
    pub about: &'static str,
    /// Pools that it reads.
    pub reads: &'static [Pool],
    /// Pools that it writes.
    pub writes: &'static [Pool],
    /// Pools whose slots end with it; all others are carried on.
    pub frees: &'static [Pool],
    /// True where a frame whose deadline has passed is answered instead of processed.
    pub checks_deadline: bool,
    /// True where its processes run the inference engine.
    pub runs_engine: bool,
    /// True where its processes open the GPU of a pipeline that has one; no other process may open any.
    pub uses_gpu: bool,
    /// Of how many cores one process is the share, where nothing else is said; none: one process on any machine. Rough
    /// estimates: what is right depends on models and images.
    pub cores_per_process: Option<u32>,
}

/// The stages, in the order in which a frame passes them.
pub const STAGES: [StageRow; 5] = [
    StageRow {
        name: "ingest",
        binary: "framepipe-ingest",
        about: "opens, checks and copies clients' bytes",
        reads: &[],
        writes: &[Pool::Encoded, Pool::Held],
        frees: &[],
        checks_deadline: true,
        runs_engine: false,
        uses_gpu: false,
        cores_per_process: None,
    },
    StageRow {
        name: "preprocess",
        binary: "framepipe-preprocess",
        about: "decodes, resizes, normalises",
        reads: &[Pool::Encoded, Pool::Held],
        writes: &[Pool::Image, Pool::Tensor, Pool::Cached],
        frees: &[],
        checks_deadline: true,
        runs_engine: false,
        uses_gpu: true,
        cores_per_process: Some(6),
    },
    StageRow {
        name: "detect",
        binary: "framepipe-detect",
        about: "runs the detector on batches of tensors",
        // Encoded: a raw frame whose bytes are its tensor.
        reads: &[Pool::Tensor, Pool::Cached, Pool::Encoded],
        writes: &[Pool::Raw],
        frees: &[Pool::Tensor, Pool::Cached],
        checks_deadline: true,
        runs_engine: true,
        uses_gpu: true,
        cores_per_process: Some(1),
    },
    StageRow {
        name: "postprocess",
        binary: "framepipe-postprocess",
        about: "turns raw outputs into boxes: confidence filter and NMS",
        reads: &[Pool::Raw],
        writes: &[Pool::Detections],
        frees: &[Pool::Raw],
        checks_deadline: false,
        runs_engine: false,
        uses_gpu: false,
        cores_per_process: None,
    },
    StageRow {
        name: "attribute",
        binary: "framepipe-attribute",
        about: "crops each object and runs the attribute models",
        reads: &[Pool::Encoded, Pool::Held, Pool::Image, Pool::Detections],
        writes: &[Pool::Attributes],
        frees: &[Pool::Image],
        checks_deadline: false,
        runs_engine: true,
        uses_gpu: true,
        cores_per_process: Some(2),
    },
];

/// The queue behind the last stage, which all generations share; in place of a stage's number, the gateway.
pub const GATEWAY: usize = STAGES.len();
/// In place of a stage's number, the cache's keeper.
pub const KEEPER: usize = GATEWAY + 1;
/// All queues: before each stage one for generations of even number and one for those of odd number, and the gateway's.
pub const QUEUES: usize = GATEWAY + 1 + STAGES.len();
/// What ONNX Runtime must find in its environment: else it stores an id of this machine in the user's cache folder, and sends
/// what it does to its maker. By the time that a session can be told, it has begun.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");
/// The gateway's executable.
pub const GATEWAY_BINARY: &str = "framepipe-gateway";

/// The keeper's executable.
pub const KEEPER_BINARY: &str = "framepipe-cache";

/// The keeper's nice value: whatever it does can wait for frames.
pub const KEEPER_NICE: i32 = 10;

/// The name of a process that bears a stage's number, or what stands in its place: in `status` and in the log.
pub fn process_name(stage: usize) -> &'static str {
    match STAGES.get(stage) {
        Some(row) => row.name,
        None if stage == KEEPER => "keeper",
        None => "gateway",
    }
}

/// Where the cache lies that belongs to a segment.
pub fn cache_folder(segment: &Path) -> PathBuf {
    segment.join("cache")
}

/// What the gateway maps of the cache: it takes images in, and offers results.
pub fn gateway_cache_use() -> Use {
    Use::NONE.writes(ArenaKind::Images).writes(ArenaKind::Results)
}

/// What the keeper maps of the segment: requests, and leases.
pub fn keeper_access() -> Access {
    Access::Stage { reads: bits(&[Pool::Held, Pool::Cached]), writes: 0 }
}

/// The pools that the gateway maps: what a result is made of.
pub fn gateway_access() -> Access {
    Access::Gateway { reads: bits(&[Pool::Detections, Pool::Attributes, Pool::Held]) }
}

fn bits(pools: &[Pool]) -> u32 {
    pool_bits(pools.iter().map(|pool| *pool as usize))
}

/// The queue before a stage, of the generations of this parity.
pub fn queue_before(stage: usize, parity: usize) -> usize {
    if stage == GATEWAY { GATEWAY } else { queues_of(parity).start + stage }
}

/// The stage before which a queue stands, or the gateway.
pub fn stage_before(queue: usize) -> Option<usize> {
    let of_parity = |parity| (0..STAGES.len()).find(|stage| queue_before(*stage, parity) == queue);
    (0..2).find_map(of_parity).or((queue == GATEWAY).then_some(GATEWAY))
}

/// The queues before the stages, of the generations of this parity.
pub fn queues_of(parity: usize) -> Range<usize> {
    let first = parity * (GATEWAY + 1);
    first..first + STAGES.len()
}

/// Where a frame that waits in `queue` starts again when the slots of the pools `lost` (bits) are gone: before the first stage
/// that writes one, with what those before it wrote. None where no frame has such a slot: up to that stage, and behind the last
/// one, to which none is carried.
pub fn start_again(queue: usize, lost: u64) -> Option<Restart> {
    let writer = STAGES.iter().position(|row| row.writes.iter().any(|pool| lost >> *pool as usize & 1 == 1))?;
    let parity = (0..2).find(|parity| queues_of(*parity).contains(&queue))?;
    let first = queue_before(writer, parity);
    let keep = STAGES[..writer].iter().fold(0, |keep, row| keep | bits(row.writes));
    (queue > first).then_some(Restart { queue: first, keep })
}

/// The place of the stage of this name.
pub fn stage_index(name: &str) -> Option<usize> {
    STAGES.iter().position(|stage| stage.name == name)
}

impl StageRow {
    /// Bits of the pools whose slots a frame carries on from here.
    pub fn carries(&self) -> u32 {
        Pool::ALL.iter().filter(|pool| !self.frees.contains(pool)).fold(0, |bits, pool| bits | 1 << *pool as usize)
    }

    /// What the stage's processes map of the cache: of kept images those map what they read who read encoded bytes (ingest
    /// gives their memory back, too), and of tensors who writes and who reads leases on them.
    pub fn cache_use(&self) -> Use {
        let (writes, reads) = (|pool| self.writes.contains(&pool), |pool| self.reads.contains(&pool));
        let mut used = Use::NONE;
        used = if writes(Pool::Held) { used.writes(ArenaKind::Images).reads(ArenaKind::Results) } else { used };
        used = if reads(Pool::Held) { used.reads(ArenaKind::Images) } else { used };
        used = if writes(Pool::Cached) { used.writes(ArenaKind::Tensors) } else { used };
        if reads(Pool::Cached) { used.reads(ArenaKind::Tensors) } else { used }
    }

    /// The pools that the stage's processes map.
    pub fn access(&self) -> Access {
        Access::Stage { reads: bits(self.reads), writes: bits(self.writes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;

    #[test]
    fn each_pool_has_one_writer_and_is_read_behind_it_only() {
        for pool in Pool::ALL {
            let writers: Vec<usize> = (0..STAGES.len()).filter(|stage| STAGES[*stage].writes.contains(&pool)).collect();
            assert_eq!(writers.len(), 1, "{pool:?}");
            for (stage, row) in STAGES.iter().enumerate() {
                if row.reads.contains(&pool) || row.frees.contains(&pool) {
                    assert!(stage > writers[0], "{} reads {pool:?} before it is written", row.name);
                }
            }
        }
    }

    #[test]
    fn each_stage_has_a_queue_of_its_own_for_each_parity() {
        let stages = (0..2).flat_map(|parity| (0..GATEWAY).map(move |stage| (stage, parity)));
        let mut queues: Vec<usize> = stages.map(|(stage, parity)| queue_before(stage, parity)).collect();
        queues.push(queue_before(GATEWAY, 1));
        queues.sort_unstable();
        assert_eq!(queues, (0..QUEUES).collect::<Vec<_>>());
        assert!((0..2).all(|parity| !queues_of(parity).contains(&GATEWAY)));
    }

    #[test]
    fn a_frame_that_lost_its_slots_starts_again_at_preprocess_of_its_parity_with_the_encoded_bytes() {
        let lost = Device::Memfd.handed_pools().iter().fold(0, |lost, pool| lost | 1 << *pool as usize);
        let [preprocess, attribute] = ["preprocess", "attribute"].map(|name| stage_index(name).expect("a stage"));
        for parity in 0..2 {
            let queue = queue_before(preprocess, parity);
            let restart = Restart { queue, keep: bits(&[Pool::Encoded, Pool::Held]) };
            for (stage, row) in STAGES.iter().enumerate() {
                let expected = (stage > preprocess).then_some(restart);
                assert_eq!(start_again(queue_before(stage, parity), lost), expected, "before {}", row.name);
            }
            assert_eq!(start_again(queue_before(attribute, parity), 0), None, "nothing is lost");
        }
        assert_eq!(start_again(GATEWAY, lost), None);
        for pool in Device::Memfd.handed_pools() {
            assert!(STAGES.iter().any(|row| row.frees.contains(pool)), "{pool:?} would reach the gateway");
        }
    }

    #[test]
    fn no_stage_reads_what_an_earlier_one_freed() {
        for (stage, row) in STAGES.iter().enumerate() {
            for later in &STAGES[stage + 1..] {
                assert!(later.reads.iter().all(|pool| !row.frees.contains(pool)), "{} after {}", later.name, row.name);
            }
        }
    }
}
