//! Other numbers of processes while the pipeline serves: `framepipe scale`.
//!
//! More: they start in vacant places, and take frames from their stage's queue as soon as they are warm. Fewer: the surplus ones
//! are told to stop, finish what they have claimed, and end; what waits in the queue is the others'. The numbers are noted beside
//! the segment before anything is done, so that a launcher that takes it over has them in force.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use framepipe_pipeline::{
    Config, GATEWAY, Generations, KEEPER, PROCESSES_MAX, Pool, STAGES, StageConfig, StageRow, entries_of, process_name,
    stage_index,
};

use crate::{orders::Said, supervisor::Supervisor, work::Step};

/// A change of the numbers.
pub struct Scaling {
    since: Instant,
    /// Places that had no process.
    new: Vec<usize>,
    /// Places whose processes were told to stop.
    old: Vec<usize>,
    words: String,
}

impl Scaling {
    /// True where a place has its process by this change.
    pub fn has_started(&self, place: usize) -> bool {
        self.new.contains(&place)
    }
}

/// Fails unless these are stages, with numbers that they may have.
pub fn check(processes: &BTreeMap<String, u32>) -> Result<(), String> {
    if processes.is_empty() {
        return Err("no stage is named: say STAGE=N, such as detect=3".into());
    }
    for (stage, count) in processes {
        if [GATEWAY, KEEPER].map(process_name).contains(&stage.as_str()) {
            return Err(format!("there is one {stage}, and no more: {}", stages()));
        }
        if stage_index(stage).is_none() {
            return Err(format!("there is no stage {stage:?}: {}", stages()));
        }
        if !(1..=PROCESSES_MAX).contains(count) {
            return Err(format!("{stage}={count}: give 1 to {PROCESSES_MAX} processes"));
        }
    }
    Ok(())
}

/// What is said of a stage that has more processes than slots to write into, so that not all of them can work at once: none takes
/// a frame while one of the pools that it writes is used up, so the smallest counts.
fn crowd(row: &StageRow, stage: &StageConfig, config: &Config) -> Option<String> {
    let slots = |pool: &Pool| config.pools[*pool as usize].classes.iter().map(|(_, slots)| slots).sum::<u64>();
    let (slots, pool) = row.writes.iter().map(|pool| (slots(pool), pool.name())).min_by_key(|(slots, _)| *slots)?;
    (u64::from(stage.processes) > slots).then(|| {
        let name = row.name;
        format!(
            " ({name} has {slots} slots to write into, and more processes wait for one: [pools] {pool}, at the next start)"
        )
    })
}

/// The stages' names, for an operator.
fn stages() -> String {
    let names: Vec<&str> = STAGES.iter().map(|row| row.name).collect();
    format!("the stages are {}", names.join(", "))
}

impl Supervisor<'_> {
    /// Begins to change the numbers of processes.
    pub(crate) fn begin_scaling(&mut self, processes: &BTreeMap<String, u32>, said: &Said) -> Result<Scaling, String> {
        check(processes)?;
        let mut after = self.config.clone();
        let (mut changes, mut crowded) = (Vec::new(), String::new());
        for (row, stage) in STAGES.iter().zip(&mut after.stages) {
            let Some(count) = processes.get(row.name).filter(|count| **count != stage.processes) else { continue };
            changes.push(format!("{} from {} to {count}", row.name, stage.processes));
            stage.processes = *count;
            crowded.extend(crowd(row, stage, &self.config));
        }
        let words = match changes.as_slice() {
            [] => "every stage has as many processes already".into(),
            changes => changes.join(", ") + &crowded,
        };
        self.put_in_force(after).map_err(|error| format!("{error:#}. Nothing has changed"))?;
        let mut scaling = Scaling { since: Instant::now(), new: Vec::new(), old: Vec::new(), words };
        if changes.is_empty() {
            return Ok(scaling);
        }
        said.progress("new processes get warm, and surplus ones finish what they have");
        for stage in 0..STAGES.len() {
            self.fill(stage, &mut scaling);
        }
        Ok(scaling)
    }

    /// Fills places of a stage, or empties some, until it has as many as it shall.
    fn fill(&mut self, stage: usize, scaling: &mut Scaling) {
        let count = self.config.stages[stage].processes as usize;
        let wanted = self.wanted_of(stage);
        let vacant = entries_of(stage, self.parity()).filter(|place| self.is_vacant(*place));
        let new: Vec<usize> = vacant.take(count.saturating_sub(wanted.len())).collect();
        let mut old = wanted;
        // Who does not serve goes first, and of those that do the last.
        old.sort_by_key(|place| {
            (self.is_ready(*place), self.places[*place].child.is_some(), std::cmp::Reverse(*place))
        });
        old.truncate(old.len().saturating_sub(count));
        old.iter().for_each(|place| self.dismiss(*place));
        new.iter().for_each(|place| self.engage(*place));
        scaling.old.extend(old);
        scaling.new.extend(new);
    }

    /// Starts a process in a vacant place.
    pub(crate) fn engage(&mut self, place: usize) {
        self.places[place].renew();
        self.places[place].is_wanted = true;
        self.places[place].restart_at = Some(Instant::now()); // at the loop's next round, which tries again where it cannot
    }

    pub(crate) fn advance_scaling(&mut self, scaling: &mut Scaling) -> Step {
        let are_warm = scaling.new.iter().all(|place| self.is_ready(*place));
        let have_ended = scaling.old.iter().all(|place| self.places[*place].child.is_none());
        match self.are_late(&scaling.new, scaling.since) {
            Some(why) => Step::Failed(why),
            None if scaling.new.is_empty() && scaling.old.is_empty() => Step::Over(scaling.words.clone()),
            None if are_warm && have_ended => {
                let took = Duration::from_millis(scaling.since.elapsed().as_millis() as u64);
                Step::Over(format!("processes: {}, after {took:?}", scaling.words))
            }
            None => Step::Waits,
        }
    }

    /// Ends those that are not warm, and says what is in force then.
    pub(crate) fn undo_scaling(&mut self, scaling: &Scaling) -> String {
        let cold: Vec<usize> = scaling.new.iter().copied().filter(|place| !self.is_ready(*place)).collect();
        cold.into_iter().for_each(|place| self.dismiss(place));
        let mut after = self.config.clone();
        let counts: Vec<usize> = (0..STAGES.len()).map(|stage| self.wanted_of(stage).len()).collect();
        after.stages.iter_mut().zip(&counts).for_each(|(stage, count)| stage.processes = *count as u32);
        let noted = self.put_in_force(after).map_or_else(|error| format!(" ({error:#})"), |()| String::new());
        let counts = STAGES.iter().zip(counts).map(|(row, count)| format!("{} {count}", row.name));
        format!("The processes are now: {}{noted}", counts.collect::<Vec<_>>().join(", "))
    }

    /// Puts a configuration's numbers of processes, and whatever else it says of stages, in force.
    pub(crate) fn put_in_force(&mut self, config: Config) -> anyhow::Result<()> {
        let before = self.generations.lock().processes.clone();
        if let Err(error) = self.note(|generations| generations.processes = Generations::processes_of(&config)) {
            self.generations.lock().processes = before;
            return Err(error);
        }
        self.config = config;
        Ok(())
    }

    /// The parity of the generation that serves.
    pub(crate) fn parity(&self) -> usize {
        self.generations.lock().current().parity()
    }

    /// The places of a stage that shall have a process, of the generation that serves.
    pub(crate) fn wanted_of(&self, stage: usize) -> Vec<usize> {
        entries_of(stage, self.parity()).filter(|place| self.is_wanted(&self.places[*place])).collect()
    }

    /// True where a place has no process, and shall have none.
    pub(crate) fn is_vacant(&self, place: usize) -> bool {
        self.places[place].child.is_none() && !self.is_wanted(&self.places[place])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use framepipe_pipeline::Overrides;

    use super::*;

    #[test]
    fn more_processes_than_slots_that_they_write_into_are_told_with_the_pools() {
        let crowd = |stage: &str, pools: &str, processes| {
            let text = format!("[pipeline]\ndetector = \"x\"\n[pools]\n{pools}\n");
            let config = Config::parse(&text, Path::new("/x.toml"), &Overrides::default()).expect("it is good");
            let index = stage_index(stage).expect("a stage");
            crowd(&STAGES[index], &StageConfig { processes, ..config.stages[index].clone() }, &config)
        };
        let slots = |pool: &str, slots: u64| format!("{pool} = [{{ bytes = \"1 MiB\", slots = {slots} }}]\n");
        for (stage, pools, least, scarce) in [
            ("detect", "raw = [{ bytes = 0, slots = 5 }]".into(), 5, "raw"),
            // It takes an image slot and a tensor slot for one frame.
            ("preprocess", slots("image", 3) + "tensor = [{ bytes = 0, slots = 4 }]", 3, "image"),
            ("preprocess", slots("image", 4) + "tensor = [{ bytes = 0, slots = 3 }]", 3, "tensor"),
        ] {
            assert_eq!(crowd(stage, &pools, least), None);
            let told = format!(
                " ({stage} has {least} slots to write into, and more processes wait for one: [pools] {scarce}, at the next start)"
            );
            assert_eq!(crowd(stage, &pools, least + 1), Some(told));
        }
    }

    #[test]
    fn what_is_no_stage_or_no_number_of_processes_is_refused() {
        let said = |stage: &str, count| check(&BTreeMap::from([(stage.to_owned(), count)])).expect_err("it is wrong");
        assert!(said("detekt", 2).contains("there is no stage \"detekt\": the stages are ingest, preprocess, detect"));
        assert_eq!(said("detect", 0), "detect=0: give 1 to 64 processes");
        assert_eq!(said("detect", 65), "detect=65: give 1 to 64 processes");
        assert!(said("gateway", 2).starts_with("there is one gateway, and no more: the stages are ingest"));
        assert!(check(&BTreeMap::new()).is_err());
        assert_eq!(check(&BTreeMap::from([("detect".to_owned(), 1), ("ingest".to_owned(), 64)])), Ok(()));
    }
}
