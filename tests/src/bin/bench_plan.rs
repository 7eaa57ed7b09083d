//! `scripts/bench-plan`: costs that `framepipe plan` measures on one core, what the model makes of them on one and on two, and what
//! these do.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use framepipe_tests::{
    figures::{Arguments, Figures, finish, quantile},
    program, repository,
};
use serde_json::Value;

/// Most that the model may be wrong by.
const ERROR_MAX: f64 = 0.1;
/// Pipelines, and what their frames are.
const CASES: [(&str, &str); 3] = [("street", "1080p"), ("bench", "raw"), ("noop", "raw")];
const CORES: [u32; 2] = [1, 2];

/// What one check found.
struct Found {
    expected: f64,
    fps: f64,
    others: f64,
    error: f64,
}

/// Runs `framepipe plan` on a pipeline.
fn plan(case: (&str, &str), seconds: u32, arguments: &[&str]) -> Result<Value, String> {
    let (pipeline, image) = case;
    let mut command = Command::new(program());
    command.arg("plan").args(["--pipeline", pipeline, "--image", image, "--json"]).args(arguments);
    command.args(["--seconds", &seconds.to_string()]).current_dir(repository());
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("framepipe plan of {pipeline}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("framepipe plan of {pipeline}: {error}"))
}

/// One round of a pipeline: costs, then a check of each number of cores.
fn round(case: (&str, &str), seconds: u32, costs: &Path) -> Result<Vec<Found>, String> {
    let costs = costs.to_str().ok_or("the temporary folder's name is no UTF-8")?;
    plan(case, seconds, &["--cores", "1", "--measure", "--save", costs])?;
    let check = |cores: u32| {
        let cores = cores.to_string();
        let said = plan(case, seconds, &["--cores", &cores, "--costs", costs, "--check"])?;
        let of = |name: &str| said["check"][name].as_f64().ok_or(format!("framepipe plan says no {name}"));
        Ok(Found { expected: of("expected")?, fps: of("fps")?, others: of("others")?, error: of("error")? })
    };
    CORES.into_iter().map(check).collect()
}

fn measure(rounds: usize, seconds: u32, figures: &mut Figures) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (mut worst, mut others) = (0.0f64, 0.0f64);
    for case in CASES {
        let mut found = Vec::new();
        for number in 1..=rounds {
            println!("{}, round {number} of {rounds}", case.0);
            found.push(round(case, seconds, &folder.path().join(format!("{}.toml", case.0)))?);
        }
        for (place, cores) in CORES.iter().enumerate() {
            let median =
                |of: fn(&Found) -> f64| quantile(&found.iter().map(|round| of(&round[place])).collect::<Vec<_>>(), 0.5);
            let (pipeline, error) = (case.0, median(|found| found.error));
            let name = |what: &str| format!("scale_model_{what}_{pipeline}_{cores}");
            let of = format!("{pipeline}, cores: {cores}");
            figures.told(
                name("expected"),
                format!("{of}: expected of what others left, frames/s"),
                median(|found| found.expected),
            );
            figures.told(name("fps"), format!("{of}: measured, frames/s"), median(|found| found.fps));
            figures.told(name("error"), format!("{of}: the model's error, a part of it"), error);
            worst = worst.max(error.abs());
            others = found.iter().map(|round| round[place].others).fold(others, f64::max);
        }
    }
    figures.at_most("scale_model_error_max", "the model's largest error", worst, ERROR_MAX);
    figures.told("scale_model_others_max", "most that other programs used of the cores in a window", others);
    Ok(())
}

fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked: (usize, u32, _) =
            (arguments.number("--rounds", 3)?, arguments.number("--seconds", 5)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 == 0 || asked.1 == 0 { Err("give 1 round of 1 second or more".into()) } else { Ok(asked) }
    };
    let (rounds, seconds, json) = match asked() {
        Ok(asked) => asked,
        Err::<_, String>(error) => {
            eprintln!("bench-plan: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    if let Err(error) = measure(rounds, seconds, &mut figures) {
        eprintln!("bench-plan: {error}");
        return ExitCode::FAILURE;
    }
    finish(&figures, json.as_deref())
}
