//! What the processes and threads of the stages are laid out for, where nobody has said how many.

use serde::Deserialize;

use crate::{StageRow, config::PROCESSES_MAX};

/// The aim of a layout.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Most frames a second: processes share the cores, each with an inference engine of one thread.
    #[default]
    Throughput,
    /// The shortest time of one frame: one process a stage, whose inference engine uses all cores.
    Latency,
}

/// How one stage runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Processes.
    pub processes: u32,
    /// Threads of the inference engine in each.
    pub threads: u32,
}

impl Profile {
    /// Each, under the name that it has in the configuration and on the command line.
    pub const ALL: [(&str, Self); 2] = [("throughput", Self::Throughput), ("latency", Self::Latency)];

    /// The layout of a stage on so many cores. Two engines of one thread do more than one of two threads (by 4% on two
    /// cores), and a frame waits twice as long for each: docs/benchmarks.md.
    pub fn layout(self, stage: &StageRow, cores: u32) -> Layout {
        let processes = stage.cores_per_process.map_or(1, |share| (cores / share).clamp(1, PROCESSES_MAX));
        match self {
            Self::Latency if stage.runs_engine => Layout { processes: 1, threads: cores.max(1) },
            Self::Latency | Self::Throughput => Layout { processes, threads: 1 },
        }
    }
}

/// The cores that this process may use: by its CPU set and by its cgroup's quota.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{STAGES, stage_index};

    fn layout(profile: Profile, stage: &str, cores: u32) -> (u32, u32) {
        let Layout { processes, threads } = profile.layout(&STAGES[stage_index(stage).expect("a stage")], cores);
        (processes, threads)
    }

    #[test]
    fn for_throughput_the_cores_are_shared_by_processes_of_one_thread() {
        for (cores, detect, preprocess, attribute) in [(1, 1, 1, 1), (2, 2, 1, 1), (16, 16, 2, 8), (1000, 64, 64, 64)] {
            for (stage, processes) in [
                ("ingest", 1),
                ("preprocess", preprocess),
                ("detect", detect),
                ("postprocess", 1),
                ("attribute", attribute),
            ] {
                assert_eq!(layout(Profile::Throughput, stage, cores), (processes, 1), "{stage} on {cores}");
            }
        }
    }

    #[test]
    fn for_latency_one_engine_has_all_cores() {
        for (stage, wanted) in [("preprocess", (2, 1)), ("detect", (1, 16)), ("attribute", (1, 16)), ("ingest", (1, 1))]
        {
            assert_eq!(layout(Profile::Latency, stage, 16), wanted, "{stage}");
        }
    }
}
