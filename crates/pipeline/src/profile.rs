//! What the processes and threads of the stages are laid out for, where nobody has said how many.

use serde::{Deserialize, Serialize};

use crate::{
    StageRow,
    config::{PROCESSES_MAX, THREADS_MAX},
};

/// The aim of a layout.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
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

    /// The layout of a stage on so many cores; what of it is said stays, and the rest follows from that.
    pub fn layout(self, stage: &StageRow, cores: u32, processes: Option<u32>, threads: Option<u32>) -> Layout {
        if self == Self::Latency && stage.runs_engine {
            let processes = processes.unwrap_or(1);
            let share = (cores / processes.max(1)).clamp(1, THREADS_MAX);
            return Layout { processes, threads: threads.unwrap_or(share) };
        }
        let threads = threads.unwrap_or(1);
        let share = stage.cores_per_process.map_or(1, |each| cores / each / threads.max(1));
        Layout { processes: processes.unwrap_or(share.clamp(1, PROCESSES_MAX)), threads }
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
        said(profile, stage, cores, None, None)
    }

    fn said(profile: Profile, stage: &str, cores: u32, processes: Option<u32>, threads: Option<u32>) -> (u32, u32) {
        let stage = &STAGES[stage_index(stage).expect("a stage")];
        let Layout { processes, threads } = profile.layout(stage, cores, processes, threads);
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
        assert_eq!(layout(Profile::Latency, "detect", 1000), (1, THREADS_MAX));
    }

    #[test]
    fn what_is_said_is_taken_and_no_core_has_two_engines() {
        assert_eq!(said(Profile::Throughput, "detect", 16, None, Some(4)), (4, 4));
        assert_eq!(said(Profile::Throughput, "detect", 16, Some(3), None), (3, 1));
        assert_eq!(said(Profile::Latency, "detect", 16, Some(4), None), (4, 4));
        assert_eq!(said(Profile::Latency, "detect", 2, Some(4), None), (4, 1));
        assert_eq!(said(Profile::Latency, "detect", 16, None, Some(2)), (1, 2));
    }
}
