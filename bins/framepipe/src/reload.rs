//! The configuration read again while the pipeline serves: SIGHUP, `framepipe reload`.
//!
//! What it says of stages is done: numbers of processes as `framepipe scale` does, the rest by new processes in place of those of the
//! stages that it is about, one after the other. Whatever else differs from what the pipeline was started with is named, and waits for
//! the next start. What counts is what has changed in the configuration: numbers of processes that an operator, or `--auto`, has put
//! in force stay, where the configuration says what it said before.

use std::collections::{BTreeMap, BTreeSet};

use framepipe_pipeline::{Config, STAGES, StageConfig};
use serde_json::Value;

use crate::{cpus::Pins, orders::Said, restart::Restarting, scale::Scaling, supervisor::Supervisor, work::Step};

/// Where the configuration comes from: read as at the start, for so many cores.
pub type Source = Box<dyn Fn(Option<u32>) -> anyhow::Result<Config> + Send + Sync>;

/// A configuration that was read again, and what it binds processes to.
pub struct Read {
    config: Config,
    pins: Pins,
}

impl Read {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn again(source: &Source, cores: u32) -> Result<Box<Self>, String> {
        let read = || {
            let config = source(Some(cores))?;
            let pins = Pins::of(&config)?;
            anyhow::Ok(Box::new(Self { config, pins }))
        };
        read().map_err(|error| format!("the configuration is wrong: {error:#}").trim_end().to_owned())
    }
}

/// A reload that is being made.
pub struct Reloading {
    scaling: Option<Scaling>,
    restarting: Restarting,
    /// By stage, how it was before: in force, and as it had been read.
    before: Vec<StageConfig>,
    loaded_before: Vec<StageConfig>,
    pins_before: Pins,
    words: Vec<String>,
}

impl Reloading {
    /// The change of numbers, and the restart, that it is made of.
    pub fn parts(&self) -> (Option<&Scaling>, &Restarting) {
        (self.scaling.as_ref(), &self.restarting)
    }
}

/// A key that says something else than it did.
#[derive(PartialEq, Eq, Debug)]
struct Difference {
    key: String,
    was: String,
    is: String,
}

impl Supervisor<'_> {
    /// Begins to do what the configuration says by now.
    pub(crate) fn begin_reload(&mut self, read: Result<Box<Read>, String>, said: &Said) -> Result<Reloading, String> {
        let Read { config: new, pins } = *read.map_err(|why| format!("{why}. Nothing has changed"))?;
        let (live, waiting): (Vec<_>, Vec<_>) =
            differences(&self.loaded, &new).into_iter().partition(|one| one.key.starts_with("stages."));
        let mut words: Vec<String> = live.iter().map(|one| format!("{}: {} -> {}", one.key, one.was, one.is)).collect();
        words.extend(waiting.iter().map(|one| format!("{}: {} -> {} needs a restart", one.key, one.was, one.is)));
        let (before, pins_before) = (self.config.stages.clone(), self.pins.clone());
        let mut counts = BTreeMap::new();
        let mut renewed = BTreeSet::new();
        for (stage, row) in STAGES.iter().enumerate() {
            let (was, is) = (&self.loaded.stages[stage], &new.stages[stage]);
            if was.processes != is.processes {
                counts.insert(row.name.to_owned(), is.processes);
            }
            let processes = before[stage].processes;
            // The launcher looks at hang_ms_max; the gateway has it for readiness, from its next start on.
            let as_started = |stage: &StageConfig| StageConfig { processes: 0, hang_ms_max: 0, ..stage.clone() };
            if as_started(&before[stage]) != as_started(is) {
                renewed.insert(stage);
            }
            self.config.stages[stage] = StageConfig { processes, ..is.clone() };
        }
        self.pins.take_stages(pins);
        let scaling = match counts.is_empty() {
            true => None,
            false => match self.begin_scaling(&counts, said) {
                Ok(scaling) => Some(scaling),
                Err(why) => {
                    (self.config.stages, self.pins) = (before, pins_before);
                    return Err(why);
                }
            },
        };
        let loaded_before = std::mem::replace(&mut self.loaded.stages, new.stages);
        let parity = self.parity();
        let old = self.places.iter().enumerate().filter(|(_, place)| {
            place.is_worker() && place.parity == parity && renewed.contains(&place.stage) && self.is_wanted(place)
        });
        let old: Vec<(usize, u32)> =
            old.filter_map(|(index, place)| Some((index, place.child.as_ref()?.pid))).collect();
        words.iter().for_each(|words| said.progress(words));
        if words.is_empty() {
            words.push("the configuration says what it said".into());
        }
        let restarting = Restarting::of(old.into_iter());
        Ok(Reloading { scaling, restarting, before, loaded_before, pins_before, words })
    }

    pub(crate) fn advance_reload(&mut self, reloading: &mut Reloading, said: &Said) -> Step {
        let Some(scaling) = &mut reloading.scaling else {
            return match self.advance_restart(&mut reloading.restarting, said) {
                Step::Over(_) => Step::Over(format!("reloaded: {}", reloading.words.join("; "))),
                step => step,
            };
        };
        match self.advance_scaling(scaling) {
            Step::Over(_) => {
                reloading.scaling = None;
                Step::Goes
            }
            step => step,
        }
    }

    /// Leaves the stages that were not restarted to the end as they were, and says what is then.
    pub(crate) fn undo_reload(&mut self, reloading: &Reloading) -> String {
        let scaled = reloading.scaling.as_ref().map(|scaling| format!("{}. ", self.undo_scaling(scaling)));
        let restarted = self.undo_restart(&reloading.restarting);
        let left = reloading.restarting.places_left();
        let mut stay: BTreeSet<usize> = left.map(|place| self.places[place].stage).collect();
        if scaled.is_some() {
            stay.extend(0..STAGES.len());
            self.loaded.stages = reloading.loaded_before.clone(); // so that the next reload tries the numbers again
        }
        for stage in stay.iter().copied() {
            let tuned_as =
                |before: &StageConfig, now: &StageConfig| StageConfig { processes: now.processes, ..before.clone() };
            self.config.stages[stage] = tuned_as(&reloading.before[stage], &self.config.stages[stage]);
            self.loaded.stages[stage] = tuned_as(&reloading.loaded_before[stage], &self.loaded.stages[stage]);
            self.pins.leave_stage(stage, &reloading.pins_before);
        }
        let stay: Vec<&str> = stay.into_iter().map(|stage| STAGES[stage].name).collect();
        let stay = if stay.is_empty() {
            String::new()
        } else {
            format!(". What is new of {} is not in force", stay.join(", "))
        };
        format!("{}{restarted}{stay}", scaled.unwrap_or_default())
    }
}

/// What two configurations say otherwise, by the keys of the file.
fn differences(was: &Config, is: &Config) -> Vec<Difference> {
    let (was, is) = (keys(was), keys(is));
    let all: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let said = |keys: &BTreeMap<String, Value>, key: &String| match keys.get(key) {
        None | Some(Value::Null) => "nothing".into(),
        Some(value) => value.to_string(),
    };
    let differ = all.into_iter().filter(|key| was.get(*key) != is.get(*key));
    differ.map(|key| Difference { key: key.clone(), was: said(&was, key), is: said(&is, key) }).collect()
}

/// What a configuration says, by the keys of the file.
fn keys(config: &Config) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    let Ok(Value::Object(fields)) = serde_json::to_value(config) else { return keys };
    for (field, value) in fields {
        let names: Vec<&str> = match field.as_str() {
            "stages" => STAGES.iter().map(|row| row.name).collect(),
            "pools" => framepipe_pipeline::Pool::ALL.iter().map(|pool| pool.name()).collect(),
            _ => Vec::new(),
        };
        match value {
            Value::Array(each) if !names.is_empty() => {
                names.iter().zip(each).for_each(|(name, value)| flatten(format!("{field}.{name}"), value, &mut keys));
            }
            value => flatten(section_of(&field), value, &mut keys),
        }
    }
    keys
}

/// The key in the file that a field of the checked configuration comes from.
fn section_of(field: &str) -> String {
    let section = match field {
        "detector" | "attributes" | "device" | "mps" | "jpeg" | "score_threshold" | "crops_max" | "crop_batch_max"
        | "attempts_max" => "pipeline.",
        "models" | "onnxruntime" | "run" | "state" | "shm" => "paths.",
        "frames_max" => "server.",
        _ => "",
    };
    format!("{section}{field}")
}

fn flatten(key: String, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                // Which the file does not have: it says what is in them right there.
                let is_inner = matches!(field.as_str(), "pinning" | "classes");
                flatten(if is_inner { key.clone() } else { format!("{key}.{field}") }, value, keys);
            }
        }
        value => drop(keys.insert(key, value)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use framepipe_pipeline::Overrides;

    use super::*;

    fn config(more: &str) -> Config {
        let text = format!("[pipeline]\ndetector = \"x@1\"\n{more}");
        let on_two = Overrides { cores: Some(2), ..Overrides::default() };
        Config::parse(&text, Path::new("/etc/framepipe/x.toml"), &on_two).expect("it is good")
    }

    #[test]
    fn what_differs_is_named_as_the_file_names_it() {
        for (more, expected) in [
            ("", vec![]),
            ("crops_max = 7\n", vec![("pipeline.crops_max", "32", "7")]),
            ("[server]\nframes_max = 9\n", vec![("server.frames_max", "4096", "9")]),
            (
                "[server]\ntcp = \"\"\ncpus = \"0-1\"\n",
                vec![("server.cpus", "nothing", "\"0-1\""), ("server.tcp", "\"127.0.0.1:50051\"", "nothing")],
            ),
            ("[paths]\nshm = \"/tmp\"\n", vec![("paths.shm", "\"/dev/shm\"", "\"/tmp\"")]),
            (
                "[stages.detect]\nbatch_max = 4\nnuma_node = 1\n",
                vec![("stages.detect.batch_max", "1", "4"), ("stages.detect.numa_node", "nothing", "1")],
            ),
            ("[pools]\ntensor = [{ slots = 3 }]\n", vec![("pools.tensor", "[[0,16]]", "[[0,3]]")]),
            ("[limits]\npixels_max = 5\n", vec![("limits.pixels_max", "100000000", "5")]),
        ] {
            let found = differences(&config(""), &config(more));
            let found: Vec<(&str, &str, &str)> =
                found.iter().map(|one| (one.key.as_str(), one.was.as_str(), one.is.as_str())).collect();
            assert_eq!(found, expected, "{more}");
        }
    }
}
