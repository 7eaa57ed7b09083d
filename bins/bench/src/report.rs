//! What was measured, as a table for people and as figures for programs.

use serde_json::{Map, Value};

use crate::{
    cascade::Cascade,
    engine::Bare,
    rounds::{Measured, Round},
    running::System,
    statistics::{median, percentile, spread},
};

/// The aim for the system's share of the bare engine's throughput.
const RATIO_TARGET: f64 = 0.98;
/// The same for the cascade.
const CASCADE_RATIO_TARGET: f64 = 0.96;
/// The aim for the mean crops of a run, as a share of the most.
const FILL_TARGET: f64 = 0.9;
/// Above this share of the machine in the hands of other processes, the figures mean little.
const OTHERS_MAX: f64 = 0.02;

/// Prints the table, and returns the figures.
pub fn report(measured: &Measured) -> Value {
    let rounds = &measured.rounds;
    let mut figures = Figures::default();
    heading(measured);
    throughput(measured, &mut figures);
    if let Some(gmac) = measured.gmac {
        int8_limit(rounds, gmac, &mut figures);
    }
    latencies(rounds, &mut figures);
    stages(rounds, &mut figures);
    cascades(&measured.cascades, &mut figures);
    quiet(measured, &mut figures);
    println!();
    verdict("detect_ratio_to_engine", RATIO_TARGET, &figures);
    for cascade in &measured.cascades {
        verdict(&format!("cascade_ratio_to_engine_{}", cascade.crops), CASCADE_RATIO_TARGET, &figures);
    }
    verdict("attribute_batch_fill", FILL_TARGET, &figures);
    Value::Object(figures.0)
}

/// One number of a round.
type OfRound = fn(&Round) -> f64;

#[derive(Default)]
struct Figures(Map<String, Value>);

impl Figures {
    /// Six significant digits are more than any measurement here has.
    fn set(&mut self, name: impl Into<String>, value: f64) {
        let rounded = format!("{value:.5e}").parse::<f64>().unwrap_or(value);
        self.0.insert(name.into(), rounded.into());
    }

    fn get(&self, name: &str) -> f64 {
        self.0.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
    }
}

fn heading(measured: &Measured) {
    let Measured { detector, candidates_max, processes, threads, cores, rounds, .. } = measured;
    let frames: usize = rounds.iter().map(|round| round.system.sample.completed.len()).sum();
    let detections: usize = rounds.iter().map(|round| round.system.sample.detections).sum();
    println!("\n{detector}: random weights, for speed only; its boxes mean nothing");
    println!("system and bare engine: {processes} processes x {threads} threads on {cores} cores");
    println!(
        "{frames} frames went through the system, each with a result and none with an error; at most {candidates_max} \
         candidates of a frame go into NMS, {:.1} objects of a frame came out",
        detections as f64 / frames as f64
    );
}

fn throughput(measured: &Measured, figures: &mut Figures) {
    let columns: [(&str, OfRound); 8] = [
        ("detect_fps_system", |round| round.system.fps),
        ("detect_fps_engine", |round| round.engine.fps),
        ("detect_ratio_to_engine", |round| round.system.fps / round.engine.fps),
        ("int8_fps", |round| round.int8.fps),
        ("fp32_fps", |round| round.float.fps),
        ("int8_over_fp32", |round| round.int8.fps / round.float.fps),
        ("detect_fps_system_fp32", |round| round.float_system.fps),
        ("int8_over_fp32_system", |round| round.system.fps / round.float_system.fps),
    ];
    let titles = [
        "system/s",
        "engine/s",
        "ratio",
        "int8 1x1/s",
        "fp32 1x1/s",
        "int8/fp32",
        "sys fp32/s",
        "sys int8/32",
        "others sys",
        "others eng",
    ];
    println!();
    row("round", titles.iter().map(|title| (*title).to_owned()));
    let values = columns.map(|(_, of)| measured.rounds.iter().map(of).collect::<Vec<_>>());
    for (number, round) in measured.rounds.iter().enumerate() {
        let others = [round.system.others, round.engine.others].map(|share| format!("{:.1}%", 100.0 * share));
        let cells = values.iter().map(|column| format!("{:.3}", column[number]));
        row(&(number + 1).to_string(), cells.chain(others));
    }
    row("median", values.iter().map(|column| format!("{:.3}", median(column))));
    row("spread", values.iter().map(|column| format!("{:.1}%", 100.0 * spread(column))));
    for ((name, _), column) in columns.iter().zip(&values) {
        figures.set(*name, median(column));
        figures.set(format!("{name}_spread"), spread(column));
    }
}

/// Each number of crops; the batch fill is the lowest of them.
fn cascades(cascades: &[Cascade], figures: &mut Figures) {
    let mut lowest_fill = f64::INFINITY;
    for Cascade { crops, crop_batch_max, workers, rounds } in cascades {
        println!(
            "\nCascade, {crops} crops a frame, four attribute models, at most {crop_batch_max} crops a run; bare engine: \
             {workers} processes x 1 thread\n"
        );
        let columns = ["cascade_fps_system", "cascade_fps_engine", "cascade_ratio_to_engine", "attribute_batch_fill"];
        let titles = ["system/s", "engine/s", "ratio", "batch fill", "others sys", "others eng"];
        row("round", titles.iter().map(|title| (*title).to_owned()));
        let mut values = [const { Vec::new() }; 4];
        for (number, (system, engine)) in rounds.iter().enumerate() {
            let fill = system.crop_runs.crops as f64 / (system.crop_runs.runs * u64::from(*crop_batch_max)) as f64;
            let numbers = [system.fps, engine.fps, system.fps / engine.fps, fill];
            let others = [system.others, engine.others].map(|share| format!("{:.1}%", 100.0 * share));
            row(&(number + 1).to_string(), numbers.iter().map(|number| format!("{number:.3}")).chain(others));
            values.iter_mut().zip(numbers).for_each(|(column, number)| column.push(number));
        }
        row("median", values.iter().map(|column| format!("{:.3}", median(column))));
        row("spread", values.iter().map(|column| format!("{:.1}%", 100.0 * spread(column))));
        for (name, column) in columns.iter().zip(&values) {
            figures.set(format!("{name}_{crops}"), median(column));
            figures.set(format!("{name}_{crops}_spread"), spread(column));
        }
        lowest_fill = lowest_fill.min(median(&values[3]));
        cascade_cpu(*crops, rounds, figures);
    }
    figures.set("attribute_batch_fill", lowest_fill);
}

/// Where the CPU time of a cascade went.
fn cascade_cpu(crops: u32, rounds: &[(System, Bare)], figures: &mut Figures) {
    let frames: f64 = rounds.iter().map(|(system, _)| system.sample.completed.len() as f64).sum();
    let of = |place: usize| rounds.iter().map(|(system, _)| system.cpu_s[place].1).sum::<f64>() / frames * 1e3;
    let groups = rounds[0].0.cpu_s.iter().enumerate().map(|(place, (group, _))| (group, of(place)));
    let groups: Vec<(&String, f64)> = groups.collect();
    let total: f64 = groups.iter().map(|(_, ms)| ms).sum();
    let engine = median(&rounds.iter().map(|(_, engine)| engine.cpu_s * 1e3).collect::<Vec<_>>());
    figures.set(format!("cascade_cpu_s_per_1000_frames_total_{crops}"), total);
    figures.set(format!("cascade_cpu_s_per_1000_frames_engine_{crops}"), engine);
    figures.set(format!("cascade_cpu_ratio_to_engine_{crops}"), engine / total);
    let groups: Vec<String> = groups.iter().map(|(group, ms)| format!("{group} {ms:.2}")).collect();
    println!("CPU ms a frame: {total:.2}, bare engine {engine:.2}, ratio {:.3}: {}", engine / total, groups.join(", "));
}

fn row(name: &str, cells: impl Iterator<Item = String>) {
    println!("{name:<8}{}", cells.map(|cell| format!("{cell:>12}")).collect::<String>());
}

fn int8_limit(rounds: &[Round], gmac: f64, figures: &mut Figures) {
    let limits = rounds.iter().filter_map(|round| round.int8_limit.as_ref());
    let Some(highest) = limits.max_by(|a, b| a.gmac_per_s.total_cmp(&b.gmac_per_s)) else { return };
    let limit = highest.gmac_per_s;
    figures.set("detector_gmac", gmac);
    figures.set("int8_limit_gmac_per_s", limit);
    figures.set("detect_share_of_int8_limit", figures.get("detect_fps_system") * gmac / limit);
    figures.set("engine_share_of_int8_limit", figures.get("detect_fps_engine") * gmac / limit);
    println!(
        "\nINT8 limit of these cores ({}, u8 times s8): {limit:.1} GMAC/s; {gmac:.2} GMAC an inference: the system \
         is at {:.1}% of it, the bare engine at {:.1}%",
        highest.instructions,
        100.0 * figures.get("detect_share_of_int8_limit"),
        100.0 * figures.get("engine_share_of_int8_limit")
    );
}

fn latencies(rounds: &[Round], figures: &mut Figures) {
    let all: Vec<f64> = rounds.iter().flat_map(|round| round.system.sample.latencies_ms.iter().copied()).collect();
    figures.set("latency_under_load_p50_ms", percentile(&all, 0.5));
    figures.set("latency_under_load_p99_ms", percentile(&all, 0.99));
    println!(
        "\nFrom push to result, under full load (most of it is waiting for the detector): p50 {:.0} ms, p99 {:.0} ms",
        figures.get("latency_under_load_p50_ms"),
        figures.get("latency_under_load_p99_ms")
    );
}

/// Where the CPU time and the frames' time went.
fn stages(rounds: &[Round], figures: &mut Figures) {
    let frames: f64 = rounds.iter().map(|round| round.system.sample.completed.len() as f64).sum();
    println!("\n{:<14}{:>18}{:>16}{:>16}", "", "CPU s/1000 frames", "waited ms/frame", "worked ms/frame");
    let mut total = 0.0;
    for (place, (group, _)) in rounds[0].system.cpu_s.iter().enumerate() {
        let cpu_s: f64 = rounds.iter().map(|round| round.system.cpu_s[place].1).sum();
        let per_1000 = cpu_s / frames * 1000.0;
        total += per_1000;
        figures.set(format!("cpu_s_per_1000_frames_{group}"), per_1000);
        let times =
            times(rounds, group).map(|(waited, worked)| format!("{:>16.2}{:>16.3}", waited / frames, worked / frames));
        println!("{group:<14}{per_1000:>18.3}{}", times.unwrap_or_default());
    }
    figures.set("cpu_s_per_1000_frames_total", total);
    println!("{:<14}{total:>18.3}", "total");
    let engine = median(&rounds.iter().map(|round| round.engine.cpu_s * 1000.0).collect::<Vec<_>>());
    figures.set("cpu_s_per_1000_frames_engine", engine);
    println!("{:<14}{engine:>18.3}   in the same layout", "bare engine");
}

/// Milliseconds that all frames waited for a stage, and that it worked on them.
fn times(rounds: &[Round], stage: &str) -> Option<(f64, f64)> {
    let all = rounds.iter().flat_map(|round| &round.system.sample.stage_ms).filter(|(name, ..)| name == stage);
    all.fold(None, |sum, (_, waited, worked)| {
        let (all_waited, all_worked) = sum.unwrap_or_default();
        Some((all_waited + waited, all_worked + worked))
    })
}

/// Whether the machine was this benchmark's own.
fn quiet(measured: &Measured, figures: &mut Figures) {
    let rounds = &measured.rounds;
    let cascades = measured.cascades.iter().flat_map(|cascade| &cascade.rounds);
    let others = |of: OfRound| rounds.iter().map(of).collect::<Vec<_>>();
    let bare: [fn(&Round) -> &Bare; 3] = [|round| &round.engine, |round| &round.int8, |round| &round.float];
    let beside_system = median(&others(|round| round.system.others));
    let beside_engine = median(&others(|round| round.engine.others));
    let idle = median(&others(|round| round.engine.idle_system));
    let most = rounds
        .iter()
        .flat_map(|round| bare.iter().map(|of| of(round).others).chain([round.system.others]))
        .chain(cascades.flat_map(|(system, engine)| [system.others, engine.others]))
        .fold(f64::NAN, f64::max);
    figures.set("others_cpu_share_system", beside_system);
    figures.set("others_cpu_share_engine", beside_engine);
    figures.set("others_cpu_share_max", most);
    figures.set("idle_system_cpu_share", idle);
    println!(
        "\nOther processes used {:.1}% of the machine beside the system, {:.1}% beside the bare engine, at most {:.1}%; \
         the idle system beside the bare engine {:.2}%",
        100.0 * beside_system,
        100.0 * beside_engine,
        100.0 * most,
        100.0 * idle
    );
    if most > OTHERS_MAX {
        println!("NOT A QUIET MACHINE: take no figure above for more than a sign that the benchmark works");
    }
}

fn verdict(name: &str, target: f64, figures: &Figures) {
    let value = figures.get(name);
    let met = if value >= target { "reached" } else { "NOT REACHED" };
    println!("{name} {value:.3}: the target of {target} is {met}");
}
