//! The model: from what a frame costs to frames a second. Pure arithmetic; docs/plan.md has the formulas, and what they leave out.

use framepipe_pipeline::{PROCESSES_MAX, STAGES};

use crate::costs::{CpuMs, DeviceMs};

/// The kinds of processes beside the stages.
const OTHERS: [&str; 4] = ["gateway", "keeper", "launcher", "client"];
/// Those of them through which every frame goes, one after the other: each has one core at most. The gateway has more threads than
/// one; 0.95 of a core is what it was seen to use at most (docs/plan.md).
const ONE_CORE: [&str; 2] = ["gateway", "launcher"];

/// What one kind of process does to a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its CPU time.
    pub cpu_ms: f64,
    /// The GPU's time for it, in which the process waits.
    pub device_ms: f64,
    /// Cores that one process uses: a stage's threads.
    pub threads: u32,
    /// True of a stage, whose processes are chosen.
    pub is_stage: bool,
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Its cores.
    pub cores: u32,
    /// What each beyond the first adds, as a part of the first.
    pub further_core: f64,
}

/// So many frames a second are the most, because of this.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// "cores", "gpu", or a kind of process.
    pub what: &'static str,
    /// Frames a second.
    pub fps: f64,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Of each stage, in the table's order.
    pub processes: Vec<u32>,
    /// Every limit, the lowest first: that is what binds, and there is one always.
    pub limits: Vec<Limit>,
}

impl Machine {
    /// As many cores as would do the same without disturbing one another.
    fn undisturbed(&self) -> f64 {
        1.0 + f64::from(self.cores.saturating_sub(1)) * self.further_core
    }
}

/// What each kind of process does to a frame: the stages in the table's order, with their threads, then the others.
pub fn parts(cpu: &CpuMs, preprocess_ms: f64, attribute_ms: f64, device: DeviceMs, threads: &[u32]) -> Vec<Part> {
    let stage = |(stage, threads): (usize, &u32)| {
        let (cpu_ms, device_ms) = match stage {
            0 => (cpu.ingest, 0.0),
            1 => (preprocess_ms, device.preprocess),
            2 => (cpu.detect, device.detect),
            3 => (cpu.postprocess, 0.0),
            _ => (attribute_ms, device.attribute),
        };
        Part { name: STAGES[stage].name, cpu_ms, device_ms, threads: *threads, is_stage: true }
    };
    let others = [cpu.gateway, cpu.keeper, cpu.launcher, cpu.client];
    let other = |(name, cpu_ms)| Part { name, cpu_ms, device_ms: 0.0, threads: 1, is_stage: false };
    threads.iter().enumerate().map(stage).chain(OTHERS.into_iter().zip(others).map(other)).collect()
}

/// What all processes together are limited by, whatever their numbers.
fn shared_limits(parts: &[Part], machine: Machine) -> Vec<Limit> {
    let rate = |cores: f64, ms: f64| if ms > 0.0 { cores * 1e3 / ms } else { f64::INFINITY };
    let sum = |ms: fn(&Part) -> f64| parts.iter().map(ms).sum::<f64>();
    let mut limits = vec![Limit { what: "cores", fps: rate(machine.undisturbed(), sum(|part| part.cpu_ms)) }];
    let device_ms = sum(|part| part.device_ms);
    if device_ms > 0.0 {
        limits.push(Limit { what: "gpu", fps: rate(1.0, device_ms) });
    }
    let single = parts.iter().filter(|part| ONE_CORE.contains(&part.name));
    limits.extend(single.map(|part| Limit { what: part.name, fps: rate(1.0, part.cpu_ms) }));
    limits
}

/// So many processes of each stage that none of them binds before what all share does; one at least.
pub fn recommend(parts: &[Part], machine: Machine) -> Vec<u32> {
    let aim = shared_limits(parts, machine).iter().map(|limit| limit.fps).fold(f64::INFINITY, f64::min);
    // Where cores disturb one another, each millisecond takes longer.
    let longer = f64::from(machine.cores) / machine.undisturbed();
    let count = |part: &Part| {
        let busy = aim * (part.cpu_ms * longer + part.device_ms) / 1e3 / f64::from(part.threads);
        let busy = if busy.is_nan() { 0.0 } else { busy }; // of what costs nothing
        ((busy - 1e-9).ceil().max(1.0) as u32).min(PROCESSES_MAX)
    };
    parts.iter().filter(|part| part.is_stage).map(count).collect()
}

/// What comes of so many processes of each stage.
pub fn forecast(parts: &[Part], machine: Machine, processes: &[u32]) -> Forecast {
    let mut limits = shared_limits(parts, machine);
    let stages = parts.iter().filter(|part| part.is_stage).zip(processes);
    limits.extend(stages.map(|(part, count)| Limit {
        what: part.name,
        fps: f64::from(count * part.threads) * 1e3 / (part.cpu_ms + part.device_ms),
    }));
    limits.sort_by(|a, b| a.fps.total_cmp(&b.fps)); // stable: of equals the cores bind
    Forecast { processes: processes.to_vec(), limits }
}

impl Forecast {
    /// Frames a second.
    pub fn fps(&self) -> f64 {
        self.limits[0].fps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::costs::{Costs, Crops, Pixels};

    fn costs(ms: [f64; 9]) -> CpuMs {
        let [ingest, preprocess, detect, postprocess, attribute, gateway, keeper, launcher, client] = ms;
        let preprocess = Pixels { frame: preprocess, ..Pixels::default() };
        let attribute = Crops { frame: attribute, crop: None };
        CpuMs { ingest, preprocess, detect, postprocess, attribute, gateway, keeper, launcher, client }
    }

    fn on_cpu(ms: [f64; 9]) -> Vec<Part> {
        parts(&costs(ms), ms[1], ms[4], DeviceMs::default(), &[1; 5])
    }

    fn machine(cores: u32) -> Machine {
        Machine { cores, further_core: 1.0 }
    }

    #[test]
    fn on_one_core_a_frame_takes_the_sum_of_all_and_cores_bind() {
        let parts = on_cpu([0.2, 7.5, 31.4, 0.6, 0.1, 0.9, 0.0, 0.0, 0.7]);
        let found = forecast(&parts, machine(1), &recommend(&parts, machine(1)));
        assert_eq!(found.processes, [1; 5]);
        assert!((found.fps() - 1e3 / 41.4).abs() < 1e-9 && found.limits[0].what == "cores", "{found:?}");
        assert_eq!(found.limits[1].what, "detect", "the next one");
    }

    #[test]
    fn processes_follow_the_costs_and_what_one_core_can_do_binds_where_there_are_many() {
        let parts = on_cpu([0.2, 7.5, 31.4, 0.6, 0.1, 0.9, 0.0, 0.0, 0.7]);
        assert_eq!(recommend(&parts, machine(2)), [1, 1, 2, 1, 1]);
        assert_eq!(recommend(&parts, machine(16)), [1, 3, 13, 1, 1]);
        let many = forecast(&parts, machine(64), &recommend(&parts, machine(64)));
        assert!(many.limits[0].what == "gateway" && (many.fps() - 1e3 / 0.9).abs() < 1e-9, "{many:?}");
        let few = forecast(&parts, machine(16), &[1; 5]);
        assert!(few.limits[0].what == "detect" && (few.fps() - 1e3 / 31.4).abs() < 1e-9);
    }

    #[test]
    fn threads_of_an_engine_are_cores_of_its_process() {
        let mut parts = on_cpu([0.1, 1.0, 40.0, 0.1, 0.1, 0.5, 0.0, 0.0, 0.5]);
        parts[2].threads = 4;
        assert_eq!(recommend(&parts, machine(16))[2], 4);
    }

    #[test]
    fn further_cores_add_less_and_more_processes_fill_them() {
        let parts = on_cpu([0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let disturbed = Machine { cores: 5, further_core: 0.5 };
        let found = forecast(&parts, disturbed, &recommend(&parts, disturbed));
        assert!((found.fps() - 300.0).abs() < 1e-9 && found.processes[2] == 5, "{found:?}");
    }

    /// docs/gpu.md: `paper`, an H200 with MPS, 16 cores, and the numbers of processes of config/paper-gpu.toml.
    #[test]
    fn what_was_measured_on_the_h200_is_met_within_a_fifth() {
        let gpu = Costs::shipped().gpu.expect("it is shipped");
        let paper = "[pipeline]\ndetector = \"resnet18-4class-416-random-int8\"\nattributes = [\"resnet34-a-224-random-int8\", \
                     \"resnet34-b-224-random-int8\", \"resnet18-a-224-random-int8\", \"resnet18-b-224-random-int8\"]\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.toml");
        std::fs::write(&path, paper).unwrap();
        let config = framepipe_pipeline::Config::load(&path, &framepipe_pipeline::Overrides::default()).unwrap();
        for (crops, measured) in [(0, 11_850.0), (1, 4_933.0), (2, 3_487.0), (4, 2_158.0)] {
            let device = gpu.device_ms("h200", &config, crops).unwrap();
            let (preprocess, attribute) = (gpu.cpu_ms.preprocess.frame, gpu.cpu_ms.attribute.frame);
            let parts = parts(&gpu.cpu_ms, preprocess, attribute, device, &[1; 5]);
            let found = forecast(&parts, machine(16), &[3, 4, 1, 2, 2]).fps();
            let error = found / measured - 1.0;
            println!("{crops} crops: {found:.0} of {measured} ({:+.1} %)", error * 100.0);
            assert!(error.abs() < 0.2, "{crops} crops: {found} and {measured}");
        }
    }

    proptest! {
        #[test]
        fn more_cores_are_never_fewer_frames(
            ms in proptest::array::uniform9(0.0..50.0f64), cores in 1..256u32, further_core in 0.01..=1.0f64
        ) {
            let parts = on_cpu(ms);
            let fps = |cores| {
                let machine = Machine { cores, further_core };
                forecast(&parts, machine, &recommend(&parts, machine)).fps()
            };
            prop_assert!(fps(cores + 1) >= fps(cores) * (1.0 - 1e-12));
        }

        #[test]
        fn what_binds_is_the_lowest_limit_and_no_stage_does_that_may_have_another_process(
            ms in proptest::array::uniform9(0.001..50.0f64), cores in 1..64u32
        ) {
            let parts = on_cpu(ms);
            let found = forecast(&parts, machine(cores), &recommend(&parts, machine(cores)));
            prop_assert!(found.limits.iter().all(|limit| limit.fps >= found.fps()));
            let at_most = f64::from(cores) * 1e3 / ms.iter().sum::<f64>();
            prop_assert!(found.fps() <= at_most * (1.0 + 1e-12));
            let lowest = shared_limits(&parts, machine(cores)).iter().map(|limit| limit.fps).fold(f64::INFINITY, f64::min);
            prop_assert!((found.fps() / lowest - 1.0).abs() < 1e-6, "{found:?}");
        }

        #[test]
        fn cheaper_frames_are_never_fewer(ms in proptest::array::uniform9(0.001..50.0f64), which in 0..9usize, cores in 1..64u32) {
            let fps = |ms| {
                let parts = on_cpu(ms);
                forecast(&parts, machine(cores), &recommend(&parts, machine(cores))).fps()
            };
            let mut cheaper = ms;
            cheaper[which] /= 2.0;
            prop_assert!(fps(cheaper) >= fps(ms) * (1.0 - 1e-9));
        }
    }
}
