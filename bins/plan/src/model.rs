//! The model: from what a frame costs to frames a second. Pure arithmetic; docs/plan.md has the formulas, and what they leave out.

use framepipe_pipeline::{PROCESSES_MAX, STAGES};

use crate::costs::{CpuMs, DeviceMs};

/// The kinds of processes beside the stages through which every frame goes.
const OTHERS: [&str; 2] = ["gateway", "client"];
/// That of them which has one core at most. It has more threads than one; 0.95 of a core is what it was seen to use at most
/// (docs/plan.md).
const ONE_CORE: &str = "gateway";
/// What a measured part of a further core is brought to: with 0 nothing could be planned for, and beyond 1 it was noise.
const FURTHER_CORE: (f64, f64) = (0.01, 1.0);

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
    /// What each beyond the first adds, as a part of the first; none: it was not measured, and each counts whole.
    pub further_core: Option<f64>,
    /// Cores that the pipeline uses whatever frames come: less than one.
    pub upkeep_cores: f64,
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

/// How long a frame takes while others are worked on beside it. As many as one core does take what was measured on one. Each
/// beyond them takes 1 / `further_core` times as long on a CPU, since cores disturb one another.
#[derive(Clone, Copy)]
struct Pace {
    /// What one core does.
    first_fps: f64,
    further_core: f64,
}

impl Pace {
    fn of(parts: &[Part], machine: Machine) -> Self {
        Self { first_fps: 1e3 / cpu_ms(parts), further_core: machine.further_core.unwrap_or(1.0) }
    }

    /// Processes, or cores, that so many frames a second keep busy, of which each takes so long on a CPU and on a GPU.
    fn busy(self, cpu_ms: f64, device_ms: f64, fps: f64) -> f64 {
        let further = (fps - self.first_fps).max(0.0);
        (fps * (cpu_ms + device_ms) + further * cpu_ms * (1.0 / self.further_core - 1.0)) / 1e3
    }

    /// The other way round: frames a second that keep so many busy.
    fn fps(self, cpu_ms: f64, device_ms: f64, busy: f64) -> f64 {
        let undisturbed = busy * 1e3 / (cpu_ms + device_ms);
        if undisturbed <= self.first_fps {
            return undisturbed;
        }
        let rest = busy - self.busy(cpu_ms, device_ms, self.first_fps);
        self.first_fps + rest * 1e3 / (cpu_ms / self.further_core + device_ms)
    }
}

impl Part {
    /// Its processes that so many frames a second keep busy.
    fn busy(&self, pace: Pace, fps: f64) -> f64 {
        pace.busy(self.cpu_ms / f64::from(self.threads), self.device_ms, fps)
    }

    /// What so many of its processes do at most.
    fn limit(&self, pace: Pace, processes: u32) -> Limit {
        let fps = pace.fps(self.cpu_ms / f64::from(self.threads), self.device_ms, processes.into());
        Limit { what: self.name, fps }
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
    let other = |(name, cpu_ms)| Part { name, cpu_ms, device_ms: 0.0, threads: 1, is_stage: false };
    let others = OTHERS.into_iter().zip([cpu.gateway, cpu.client]).map(other);
    threads.iter().enumerate().map(stage).chain(others).collect()
}

/// CPU time of a frame in all.
fn cpu_ms(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.cpu_ms).sum()
}

/// What all processes together are limited by, whatever their numbers.
fn shared_limits(parts: &[Part], machine: Machine) -> Vec<Limit> {
    let pace = Pace::of(parts, machine);
    let cores = f64::from(machine.cores) - machine.upkeep_cores;
    let mut limits = vec![Limit { what: "cores", fps: pace.fps(cpu_ms(parts), 0.0, cores) }];
    let device_ms: f64 = parts.iter().map(|part| part.device_ms).sum();
    if device_ms > 0.0 {
        limits.push(Limit { what: "gpu", fps: 1e3 / device_ms });
    }
    limits.extend(parts.iter().filter(|part| part.name == ONE_CORE).map(|part| part.limit(pace, 1)));
    limits
}

/// So many processes of each stage that none of them binds before what all share does; one at least.
pub fn recommend(parts: &[Part], machine: Machine) -> Vec<u32> {
    let aim = shared_limits(parts, machine).iter().map(|limit| limit.fps).fold(f64::INFINITY, f64::min);
    let pace = Pace::of(parts, machine);
    let count = |part: &Part| {
        let busy = part.busy(pace, aim);
        let busy = if busy.is_nan() { 0.0 } else { busy }; // of what costs nothing
        ((busy - 1e-9).ceil().max(1.0) as u32).min(PROCESSES_MAX)
    };
    parts.iter().filter(|part| part.is_stage).map(count).collect()
}

/// What comes of so many processes of each stage.
pub fn forecast(parts: &[Part], machine: Machine, processes: &[u32]) -> Forecast {
    let mut limits = shared_limits(parts, machine);
    let pace = Pace::of(parts, machine);
    let stages = parts.iter().filter(|part| part.is_stage).zip(processes);
    limits.extend(stages.map(|(part, count)| part.limit(pace, *count)));
    limits.sort_by(|a, b| a.fps.total_cmp(&b.fps)); // stable: of equals the cores bind
    Forecast { processes: processes.to_vec(), limits }
}

impl Forecast {
    /// Frames a second.
    pub fn fps(&self) -> f64 {
        self.limits[0].fps
    }
}

/// What each core beyond the first adds, as a part of the first: by a frame's CPU time on one core, and by that on `cores`, of
/// which so many were busy, with whatever. Of *b* busy ones 1 + (*b* - 1) · `further_core` are the work that gets done. None, where
/// less than half of the further ones were busy: that tells nothing.
pub fn further_core(alone_ms: f64, together_ms: f64, cores: u32, busy_cores: f64) -> Option<f64> {
    let further = f64::from(cores.saturating_sub(1));
    let busy = busy_cores - 1.0;
    let found = (busy_cores * alone_ms / together_ms - 1.0) / busy;
    (busy > 0.0 && busy >= further / 2.0).then(|| found.clamp(FURTHER_CORE.0, FURTHER_CORE.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::costs::{Costs, Crops, Pixels};

    fn on_cpu(ms: [f64; 7]) -> Vec<Part> {
        let [ingest, preprocess, detect, postprocess, attribute, gateway, client] = ms;
        let (pixels, crops) = (Pixels::default(), Crops::default());
        let cpu = CpuMs { ingest, detect, postprocess, gateway, client, preprocess: pixels, attribute: crops };
        parts(&cpu, preprocess, attribute, DeviceMs::default(), &[1; 5])
    }

    fn machine(cores: u32) -> Machine {
        Machine { cores, further_core: None, upkeep_cores: 0.0 }
    }

    fn disturbed(cores: u32, further_core: f64) -> Machine {
        Machine { further_core: Some(further_core), ..machine(cores) }
    }

    #[test]
    fn on_one_core_a_frame_takes_the_sum_of_all_and_cores_bind() {
        let parts = on_cpu([0.2, 7.5, 31.4, 0.6, 0.1, 0.9, 0.7]);
        let found = forecast(&parts, machine(1), &recommend(&parts, machine(1)));
        assert_eq!(found.processes, [1; 5]);
        assert!((found.fps() - 1e3 / 41.4).abs() < 1e-9 && found.limits[0].what == "cores", "{found:?}");
        assert_eq!(found.limits[1].what, "detect", "the next one");
    }

    #[test]
    fn processes_follow_the_costs_and_what_one_core_can_do_binds_where_there_are_many() {
        let parts = on_cpu([0.2, 7.5, 31.4, 0.6, 0.1, 0.9, 0.7]);
        assert_eq!(recommend(&parts, machine(2)), [1, 1, 2, 1, 1]);
        assert_eq!(recommend(&parts, machine(16)), [1, 3, 13, 1, 1]);
        let many = forecast(&parts, machine(64), &recommend(&parts, machine(64)));
        assert!(many.limits[0].what == "gateway" && (many.fps() - 1e3 / 0.9).abs() < 1e-9, "{many:?}");
        let few = forecast(&parts, machine(16), &[1; 5]);
        assert!(few.limits[0].what == "detect" && (few.fps() - 1e3 / 31.4).abs() < 1e-9);
    }

    #[test]
    fn threads_of_an_engine_are_cores_of_its_process_and_no_thread_shortens_what_the_gpu_does() {
        let mut parts = on_cpu([0.1, 1.0, 40.0, 0.1, 0.1, 0.5, 0.5]);
        parts[2].threads = 4;
        assert_eq!(recommend(&parts, machine(16))[2], 4);
        parts[2].device_ms = 2.0;
        let one = forecast(&parts, machine(16), &[1; 5]);
        assert!((one.fps() - 1e3 / (10.0 + 2.0)).abs() < 1e-9 && one.limits[0].what == "detect", "{one:?}");
        assert_eq!(recommend(&parts, machine(16))[2], 5, "378 frames a second, 12 ms each");
    }

    #[test]
    fn further_cores_add_less_and_more_processes_fill_them() {
        let parts = on_cpu([0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0]);
        let found = forecast(&parts, disturbed(5, 0.5), &recommend(&parts, disturbed(5, 0.5)));
        assert!((found.fps() - 300.0).abs() < 1e-9 && found.processes[2] == 5, "{found:?}");
        for (processes, fps) in [(1, 100.0), (2, 150.0), (4, 250.0)] {
            let few = forecast(&parts, disturbed(64, 0.5), &[1, 1, processes, 1, 1]);
            assert!((few.fps() - fps).abs() < 1e-9, "idle cores disturb nobody: {few:?}");
        }
    }

    #[test]
    fn what_the_pipeline_uses_anyway_is_taken_off_the_cores_and_limits_nothing_else() {
        let parts = on_cpu([0.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0]);
        let busy = Machine { upkeep_cores: 0.5, ..machine(2) };
        let found = forecast(&parts, busy, &recommend(&parts, busy));
        assert!((found.fps() - 150.0).abs() < 1e-9 && found.limits[0].what == "cores", "{found:?}");
        let kinds: Vec<&str> = found.limits.iter().map(|limit| limit.what).collect();
        assert!(!kinds.contains(&"launcher") && !kinds.contains(&"keeper"), "{kinds:?}");
    }

    #[test]
    fn what_a_further_core_adds_is_found_in_times_that_the_model_itself_makes() {
        for (cores, truth) in [(2, 0.8), (2, 1.0), (16, 0.3)] {
            let parts = on_cpu([1.0, 2.0, 30.0, 1.0, 1.0, 0.5, 0.5]);
            let fps = forecast(&parts, disturbed(cores, truth), &[64; 5]).fps();
            let together_ms = f64::from(cores) * 1e3 / fps;
            let found = further_core(cpu_ms(&parts), together_ms, cores, cores.into()).unwrap();
            assert!((found - truth).abs() < 1e-9, "{cores} cores, {truth}: {found}");
        }
        assert_eq!(further_core(10.0, 9.0, 2, 2.0), Some(1.0), "never more than the first");
        assert_eq!(further_core(10.0, 30.0, 2, 2.0), Some(0.01), "never nothing");
        assert_eq!(further_core(10.0, 11.0, 2, 1.4), None, "the second one was idle");
        assert_eq!(further_core(10.0, 10.0, 1, 1.0), None, "there is none");
    }

    /// It proves the arithmetic alone: how far these costs, measured apart, are from what an H200 did, stands in the table.
    #[test]
    fn what_the_arithmetic_makes_of_the_costs_of_an_h200_is_what_docs_plan_md_says() {
        let gpu = Costs::shipped().gpu.expect("it is shipped");
        let paper = "[pipeline]\ndetector = \"resnet18-4class-416-random-int8\"\nattributes = [\"resnet34-a-224-random-int8\", \
                     \"resnet34-b-224-random-int8\", \"resnet18-a-224-random-int8\", \"resnet18-b-224-random-int8\"]\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("paper.toml");
        std::fs::write(&path, paper).unwrap();
        let config = framepipe_pipeline::Config::load(&path, &framepipe_pipeline::Overrides::default()).unwrap();
        let row = include_str!("../../../docs/plan.md").lines().find_map(|line| line.strip_prefix("| model | "));
        let cells = row.expect("the table has such a row").split('|').map(|cell| cell.trim().replace(',', ""));
        let said: Vec<f64> = cells.filter_map(|cell| cell.parse().ok()).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        for (crops, said) in [0, 1, 2, 4].into_iter().zip(said) {
            let device = gpu.device_ms("h200", &config, crops).unwrap();
            let (preprocess, attribute) = (gpu.cpu_ms.preprocess.frame, gpu.cpu_ms.attribute.frame);
            let parts = parts(&gpu.cpu_ms, preprocess, attribute, device, &[1; 5]);
            let found = forecast(&parts, machine(16), &[3, 4, 1, 2, 2]).fps();
            assert!((found / said - 1.0).abs() < 0.01, "{crops} crops: {found:.0}, and docs/plan.md says {said}");
        }
    }

    proptest! {
        #[test]
        fn more_cores_are_never_fewer_frames(
            ms in proptest::array::uniform7(0.0..50.0f64),
            cores in 1..256u32,
            further_core in 0.01..=1.0f64,
            upkeep_cores in 0.0..0.9f64,
        ) {
            let parts = on_cpu(ms);
            let fps = |cores| {
                let machine = Machine { upkeep_cores, ..disturbed(cores, further_core) };
                forecast(&parts, machine, &recommend(&parts, machine)).fps()
            };
            prop_assert!(fps(cores + 1) >= fps(cores) * (1.0 - 1e-12));
        }

        #[test]
        fn what_binds_is_the_lowest_limit_and_no_stage_does_that_may_have_another_process(
            ms in proptest::array::uniform7(0.001..50.0f64), cores in 1..64u32, further_core in 0.01..=1.0f64
        ) {
            let (parts, machine) = (on_cpu(ms), disturbed(cores, further_core));
            let found = forecast(&parts, machine, &recommend(&parts, machine));
            prop_assert!(found.limits.iter().all(|limit| limit.fps >= found.fps()));
            let at_most = (1.0 + f64::from(cores - 1) * further_core) * 1e3 / ms.iter().sum::<f64>();
            prop_assert!(found.fps() <= at_most * (1.0 + 1e-9));
            let lowest = shared_limits(&parts, machine).iter().map(|limit| limit.fps).fold(f64::INFINITY, f64::min);
            prop_assert!((found.fps() / lowest - 1.0).abs() < 1e-6, "{found:?}");
        }

        #[test]
        fn cheaper_frames_are_never_fewer(ms in proptest::array::uniform7(0.001..50.0f64), which in 0..7usize, cores in 1..64u32) {
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
