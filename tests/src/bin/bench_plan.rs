//! `scripts/bench-plan`: costs that `framepipe plan` measures, what the model makes of them on one core and on two, and what these do,
//! at once after.

use std::process::{Command, ExitCode};

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
    /// None on one core, or where it could not be measured.
    further_core: Option<f64>,
}

/// Costs of a pipeline, on one core and on so many, and at once a check of what the model makes of them.
fn check((pipeline, image): (&str, &str), cores: u32, seconds: u32) -> Result<Found, String> {
    let mut command = Command::new(program());
    command.arg("plan").args(["--pipeline", pipeline, "--image", image, "--measure", "--check", "--json"]);
    command.args(["--cores", &cores.to_string(), "--seconds", &seconds.to_string()]).current_dir(repository());
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("framepipe plan of {pipeline}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let said: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("framepipe plan of {pipeline}: {error}"))?;
    let of = |name: &str| said["check"][name].as_f64().ok_or(format!("framepipe plan says no {name}"));
    let further_core = said["further_core"].as_f64();
    Ok(Found { expected: of("expected")?, fps: of("fps")?, others: of("others")?, error: of("error")?, further_core })
}

fn measure(rounds: usize, seconds: u32, figures: &mut Figures) -> Result<(), String> {
    let places: Vec<_> = CASES.into_iter().flat_map(|case| CORES.map(|cores| (case, cores))).collect();
    let mut found: Vec<Vec<Found>> = places.iter().map(|_| Vec::new()).collect();
    for number in 1..=rounds {
        for ((case, cores), found) in places.iter().zip(&mut found) {
            println!("round {number} of {rounds}: {}, cores: {cores}", case.0);
            found.push(check(*case, *cores, seconds)?);
        }
    }
    let (mut worst, mut others) = (0.0f64, 0.0f64);
    for (((pipeline, _), cores), found) in places.iter().zip(&found) {
        let median = |of: fn(&Found) -> f64| quantile(&found.iter().map(of).collect::<Vec<_>>(), 0.5);
        let name = |what: &str| format!("scale_model_{what}_{pipeline}_{cores}");
        let of = format!("{pipeline}, cores: {cores}");
        figures.told(
            name("expected"),
            format!("{of}: expected of what others left, frames/s"),
            median(|found| found.expected),
        );
        figures.told(name("fps"), format!("{of}: measured, frames/s"), median(|found| found.fps));
        figures.told(
            name("error"),
            format!("{of}: the model's error, a part of it, with its sign"),
            median(|found| found.error),
        );
        let error = median(|found| found.error.abs());
        figures.told(name("error_size"), format!("{of}: the same, without"), error);
        let further: Vec<f64> = found.iter().filter_map(|found| found.further_core).collect();
        if !further.is_empty() {
            let what = format!("{of}: what the further core adds, a part of the first");
            figures.told(name("further_core"), what, quantile(&further, 0.5));
        }
        worst = worst.max(error);
        others = found.iter().map(|round| round.others).fold(others, f64::max);
    }
    figures.at_most("scale_model_error_max", "the model's largest error, without its sign", worst, ERROR_MAX);
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
