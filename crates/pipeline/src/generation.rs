//! Generations: the models that serve frames from one moment on. A frame keeps the generation that it was accepted for, and
//! is processed by that one's workers, so that models change while frames are in flight (`framepipe model use`).
//!
//! Queues and places in the process table are told apart by a generation's parity: at most two serve at a time.

use std::{collections::BTreeMap, fs, io, path::Path};

use framepipe_model::{Manifest, ManifestError, ModelRef};
use serde::{Deserialize, Serialize};

use crate::{Config, PROCESSES_MAX, STAGES, stages::queue_before};

/// Name of [`Generations`]' file in the segment's folder.
const FILE: &str = "generations.json";

/// The models of a pipeline, with their versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counted from 0, which the segment was made for.
    pub number: u64,
    /// The detector.
    pub detector: ModelRef,
    /// The attribute models.
    pub attributes: Vec<ModelRef>,
}

impl Generation {
    /// The first generation: the newest version of each model of the configuration that names none.
    ///
    /// # Errors
    /// Where there is no such model.
    pub fn first(config: &Config) -> Result<Self, ManifestError> {
        let pinned = |model: &ModelRef| Manifest::find(&config.models, model).map(|manifest| manifest.reference());
        Ok(Self {
            number: 0,
            detector: pinned(&config.detector)?,
            attributes: config.attributes.iter().map(pinned).collect::<Result<_, _>>()?,
        })
    }

    /// 0 or 1.
    pub fn parity(&self) -> usize {
        Self::parity_of(self.number)
    }

    /// 0 or 1, of the generation of this number.
    pub fn parity_of(number: u64) -> usize {
        (number % 2) as usize
    }

    /// The configuration with this generation's models.
    pub fn applied_to(&self, config: &Config) -> Config {
        Config { detector: self.detector.clone(), attributes: self.attributes.clone(), ..config.clone() }
    }

    /// All models, the detector first.
    pub fn models(&self) -> impl Iterator<Item = &ModelRef> {
        std::iter::once(&self.detector).chain(&self.attributes)
    }

    /// The generation after this one, with `new` in place of the model called `old`; `None` where there is none.
    pub fn with(&self, old: &str, new: &ModelRef) -> Option<Self> {
        let mut next = Self { number: self.number + 1, ..self.clone() };
        let models = std::iter::once(&mut next.detector).chain(&mut next.attributes);
        let mut replaced = models.filter(|model| model.name == old).map(|model| *model = new.clone());
        replaced.next()?;
        replaced.for_each(drop);
        Some(next)
    }
}

/// What is known of a segment's generations, kept beside it for a launcher that takes it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generations {
    /// The models that the configuration named.
    pub configured: Vec<ModelRef>,
    /// The cores that the segment was laid out for.
    pub cores: u32,
    /// The one that the segment was made for.
    pub made_for: Generation,
    /// Those that may have frames in flight, and the one that gets warm, in order.
    pub living: Vec<Generation>,
    /// The highest number that any has had.
    pub last: u64,
    /// The processes that each stage shall have, which change while the pipeline serves.
    pub processes: BTreeMap<String, u32>,
}

impl Generations {
    /// Of a segment that is made for `first`.
    pub fn of(config: &Config, first: Generation) -> Self {
        let configured = Self::configured(config);
        let (living, last, cores) = (vec![first.clone()], first.number, config.cores);
        Self { configured, cores, living, last, made_for: first, processes: Self::processes_of(config) }
    }

    /// The processes of each stage, as a configuration says.
    pub fn processes_of(config: &Config) -> BTreeMap<String, u32> {
        STAGES.iter().zip(&config.stages).map(|(row, stage)| (row.name.to_owned(), stage.processes)).collect()
    }

    /// The configuration with the numbers of processes that are in force.
    pub fn in_force(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for (row, stage) in STAGES.iter().zip(&mut config.stages) {
            let noted = self.processes.get(row.name).copied();
            stage.processes = noted.filter(|count| (1..=PROCESSES_MAX).contains(count)).unwrap_or(stage.processes);
        }
        config
    }

    /// The models that a configuration names, the detector first.
    pub fn configured(config: &Config) -> Vec<ModelRef> {
        std::iter::once(&config.detector).chain(&config.attributes).cloned().collect()
    }

    /// The one that new frames are accepted for, where no other one gets warm.
    pub fn current(&self) -> &Generation {
        self.living.last().unwrap_or(&self.made_for)
    }

    /// The one before that of this number.
    pub fn before(&self, number: u64) -> Option<Generation> {
        self.living.iter().rfind(|one| one.number < number).cloned()
    }

    /// The number of the generation that follows the current one: of the other parity, and never had before.
    pub fn next_number(&self) -> u64 {
        let next = self.last + 1;
        if Generation::parity_of(next) == self.current().parity() { next + 1 } else { next }
    }

    /// Forgets those that new frames were not led to yet, at a segment whose new frames enter at this queue.
    pub fn settle(&mut self, entry_queue: usize) {
        let serves = |one: &Generation| queue_before(0, one.parity()) == entry_queue;
        while self.living.len() > 1 && !self.living.last().is_some_and(serves) {
            self.living.pop();
        }
    }

    /// Those of a segment, if it has any yet.
    ///
    /// # Errors
    /// What the operating system says; `InvalidData` where they are another version's.
    pub fn read(segment: &Path) -> io::Result<Option<Self>> {
        match fs::read(segment.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    /// Writes them, whole or not at all.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, segment: &Path) -> io::Result<()> {
        let aside = segment.join(format!("{FILE}.new"));
        fs::write(&aside, serde_json::to_vec(self)?)?;
        fs::rename(aside, segment.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> ModelRef {
        text.parse().expect("a model")
    }

    #[test]
    fn the_next_generation_has_another_model_in_the_place_of_one() {
        let first = Generation {
            number: 0,
            detector: reference("finder@1"),
            attributes: vec![reference("age@1"), reference("age@1")],
        };
        let next = first.with("age", &reference("years@3")).expect("there is one");
        let years = reference("years@3");
        assert_eq!((next.number, &next.detector, next.attributes), (1, &first.detector, vec![years.clone(), years]));
        assert_eq!(first.with("finder", &reference("finder@2")).expect("there is one").detector, reference("finder@2"));
        assert_eq!(first.with("nobody", &reference("finder@2")), None);
    }

    #[test]
    fn the_numbers_of_processes_that_were_noted_are_in_force_where_they_can_be() {
        let text = "[pipeline]\ndetector = \"finder@1\"\n[stages.detect]\nprocesses = 2\n";
        let config = Config::parse(text, Path::new("x.toml"), &crate::Overrides::default()).expect("it is good");
        let first = Generation { number: 0, detector: reference("finder@1"), attributes: vec![] };
        let mut noted = Generations::of(&config, first);
        assert_eq!(noted.in_force(&config), config);
        let detect = |noted: &Generations| {
            noted.in_force(&config).stages[crate::stage_index("detect").expect("a stage")].processes
        };
        for (count, in_force) in [(1, 1), (PROCESSES_MAX, PROCESSES_MAX), (0, 2), (PROCESSES_MAX + 1, 2)] {
            noted.processes.insert("detect".into(), count);
            assert_eq!(detect(&noted), in_force, "{count} is noted");
        }
        noted.processes.clear();
        assert_eq!(detect(&noted), 2, "nothing is noted");
    }

    #[test]
    fn a_generation_that_was_given_up_leaves_its_number_and_not_its_place() {
        let first = Generation { number: 0, detector: reference("finder@1"), attributes: vec![] };
        let configured = vec![reference("finder")];
        let mut all = Generations {
            configured,
            cores: 2,
            living: vec![first.clone()],
            last: 0,
            made_for: first.clone(),
            processes: BTreeMap::new(),
        };
        assert_eq!(all.next_number(), 1);
        all.last = 1; // given up
        assert_eq!(all.next_number(), 3, "of the other parity than 0");
        all.living.push(Generation { number: 3, ..first.clone() });
        all.last = 3;
        assert_eq!((all.current().number, all.before(3).map(|one| one.number)), (3, Some(0)));
        let mut led = all.clone();
        led.settle(queue_before(0, 1));
        assert_eq!(led, all, "new frames are led to the newest");
        all.settle(queue_before(0, 0));
        assert_eq!(all.current().number, 0, "it was not warm yet");
    }
}
