//! Figures of the measuring programs: quantiles, a table of what was wanted and what was found, and what `--json FILE`
//! writes: one flat object of names and numbers, and the strings "machine", "date" and "commit".
//!
//! A name, once used, keeps its meaning.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::SystemTime,
};

use serde_json::{Map, Value};

use crate::repository;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Nothing: it is told alone.
    Told,
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
struct Figure {
    /// In the object.
    name: String,
    /// In the table, with its unit.
    what: String,
    found: f64,
    wanted: Wanted,
}

impl Figure {
    fn holds(&self) -> bool {
        match self.wanted {
            Wanted::Told => true,
            Wanted::AtMost(most) => self.found <= most,
            Wanted::AtLeast(least) => self.found >= least,
        }
    }
}

/// What a program has measured.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// A figure that is told alone.
    pub fn told(&mut self, name: impl Into<String>, what: impl Into<String>, found: f64) {
        self.push(name.into(), what.into(), found, Wanted::Told);
    }

    /// A figure that must be so much at most.
    pub fn at_most(&mut self, name: impl Into<String>, what: impl Into<String>, found: f64, most: f64) {
        self.push(name.into(), what.into(), found, Wanted::AtMost(most));
    }

    /// A figure that must be so much at least.
    pub fn at_least(&mut self, name: impl Into<String>, what: impl Into<String>, found: f64, least: f64) {
        self.push(name.into(), what.into(), found, Wanted::AtLeast(least));
    }

    /// # Panics
    /// Where the name is taken, or the figure is none.
    fn push(&mut self, name: String, what: String, found: f64, wanted: Wanted) {
        assert!(self.0.iter().all(|figure| figure.name != name), "{name} is two figures");
        assert!(found.is_finite(), "{name} is {found}");
        self.0.push(Figure { name, what, found, wanted });
    }

    /// What is not as it must be.
    pub fn missed(&self) -> Vec<String> {
        let told = |figure: &Figure| format!("{} is {}: {}", figure.name, number(figure.found), words(figure.wanted));
        self.0.iter().filter(|figure| !figure.holds()).map(told).collect()
    }

    /// Prints them as a Markdown table.
    pub fn print(&self) {
        println!("| what | found | wanted | holds |\n|---|---|---|---|");
        for figure in &self.0 {
            let Figure { what, found, wanted, .. } = figure;
            let holds = match (wanted, figure.holds()) {
                (Wanted::Told, _) => "",
                (_, true) => "yes",
                (_, false) => "no",
            };
            println!("| {what} | {} | {} | {holds} |", number(*found), words(*wanted));
        }
    }

    /// Writes them as one flat JSON object, with where, when, and of which commit they are.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.object())?;
        std::fs::write(path, text + "\n")
    }

    fn object(&self) -> Map<String, Value> {
        let origin = [("machine", machine()), ("date", date()), ("commit", commit())];
        let origin = origin.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text)));
        let figure = |figure: &Figure| (figure.name.clone(), value(figure.found));
        self.0.iter().map(figure).chain(origin).collect()
    }
}

/// Counts are whole numbers.
fn value(found: f64) -> Value {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0; // 2^53: beyond it, not all of them are numbers of f64
    if found.fract() == 0.0 && found.abs() < WHOLE_MAX { Value::from(found as i64) } else { Value::from(found) }
}

fn number(found: f64) -> String {
    if found.fract() == 0.0 { format!("{found:.0}") } else { format!("{found:.3}") }
}

fn words(wanted: Wanted) -> String {
    match wanted {
        Wanted::Told => String::new(),
        Wanted::AtMost(most) => format!("<= {}", number(most)),
        Wanted::AtLeast(least) => format!(">= {}", number(least)),
    }
}

/// The processor's name, as the kernel gives it.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

/// Today, in UTC: YYYY-MM-DD.
fn date() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().chars().take_while(|one| *one != 'T').collect()
}

/// The commit that is checked out; empty outside a checkout.
fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository()).output();
    let said = asked.ok().filter(|output| output.status.success());
    said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The figure of `values` below which the share `quantile` of them lies.
///
/// # Panics
/// Without values.
pub fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    assert!(!sorted.is_empty(), "nothing was measured");
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

/// The end of a benchmark: prints its figures, and writes them where it was asked to. A target that is missed is no
/// failure of the program's.
pub fn finish(figures: &Figures, json: Option<&Path>) -> ExitCode {
    figures.print();
    let written = json.map_or(Ok(()), |path| figures.write(path));
    if let Err(error) = written {
        eprintln!("the figures cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What a measuring program was asked for: `--NAME VALUE` pairs.
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// The program's own.
    pub fn parse() -> Result<Self, String> {
        Self::of(std::env::args().skip(1))
    }

    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut pairs = Vec::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Takes the number behind `--name`, or `default`.
    pub fn number<T: std::str::FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| format!("{name} {value}: give a number")),
        }
    }

    /// Takes the path behind `--name`.
    pub fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Takes the words behind `--name`.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().rposition(|(given, _)| given == name)?;
        let (_, value) = self.0.remove(place);
        self.0.retain(|(given, _)| given != name); // the last one counts
        Some(value)
    }

    /// Nothing else was given.
    pub fn end(self) -> Result<(), String> {
        self.0.first().map_or(Ok(()), |(name, _)| Err(format!("unknown argument {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), quantile(&values, 1.0)), (1.0, 3.0, 5.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn what_is_not_as_it_must_be_is_told_and_the_object_is_flat() {
        let mut figures = Figures::default();
        figures.told("kills", "kills", 12.0);
        figures.at_most("lost", "frames lost", 1.0, 0.0);
        figures.at_most("repair_ms_p50", "repair", 0.25, 1.0);
        figures.at_least("share", "share", 0.5, 0.9);
        figures.at_least("rate", "rate", 2.0, 2.0);
        assert_eq!(figures.missed(), ["lost is 1: <= 0", "share is 0.500: >= 0.900"]);
        let object = figures.object();
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(names, ["commit", "date", "kills", "lost", "machine", "rate", "repair_ms_p50", "share"]);
        for (name, value) in &object {
            let is_origin = ["machine", "date", "commit"].contains(&name.as_str());
            assert!(if is_origin { value.is_string() } else { value.is_number() }, "{name}: {value}");
        }
        assert_eq!((object["kills"].to_string(), object["repair_ms_p50"].to_string()), ("12".into(), "0.25".into()));
        assert_eq!(object["date"].as_str().map(str::len), Some("2026-01-31".len()), "{object:?}");
    }

    #[test]
    fn what_nobody_asks_for_is_unknown() {
        let given = |words: &str| Arguments::of(words.split_whitespace().map(str::to_owned));
        let mut arguments = given("--seconds 3 --json a --seconds 4").expect("pairs");
        assert_eq!(arguments.number("--seconds", 60), Ok(4));
        assert_eq!(arguments.number("--rate", 3.0), Ok(3.0));
        assert_eq!(arguments.path("--json"), Some(PathBuf::from("a")));
        assert_eq!(arguments.end(), Ok(()));
        assert_eq!(given("--second 3").and_then(Arguments::end), Err("unknown argument --second".into()));
        assert!(given("--seconds").is_err());
        assert!(given("--seconds x").expect("a pair").number("--seconds", 1).is_err());
    }
}
