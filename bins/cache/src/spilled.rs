//! The files of images on disk: how many bytes they take, and those that nobody names any more, removed.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use framepipe_cache::{Area, Count, spill};
use framepipe_pipeline::GATEWAY;
use framepipe_shm::{Owner, Segment};

use crate::jobs;

/// Between two looks, and how many times as long as the last one took.
const LOOK: Duration = Duration::from_secs(1);
const REST: u32 = 10;

/// What is known of the folder.
pub struct Spilled {
    folder: PathBuf,
    /// Bytes of whole files.
    pub bytes: u64,
    next: Instant,
    has_failed: bool,
}

impl Spilled {
    /// The folder, not looked at yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, bytes: 0, next: Instant::now(), has_failed: false }
    }

    /// Looks, where it is time to.
    pub fn look_when_due(&mut self, area: &Area, segment: &Segment) {
        let start = Instant::now();
        if start < self.next {
            return;
        }
        let looked = self.look(area, segment);
        self.next = Instant::now() + LOOK.max(start.elapsed() * REST);
        if let Err(error) = &looked
            && !self.has_failed
        {
            tracing::error!("{}: {error}", self.folder.display());
        }
        self.has_failed = looked.is_err();
    }

    fn look(&mut self, area: &Area, segment: &Segment) -> io::Result<()> {
        // First the files, then who names them: a file of the dead is named by now, or never.
        let files = spill::list(&self.folder)?;
        let gateway = gateway_owner(segment);
        let named: HashSet<u64> = jobs::all(segment).map(|job| job.kept.id).collect();
        let (mut bytes, mut removed) = (0, 0);
        for file in files {
            // What the living gateway has written is its own business, named or not.
            let is_nobodys = owner_of(file.id) != gateway && !named.contains(&file.id);
            if is_nobodys && spill::clear(&self.folder, &file) {
                removed += 1;
            } else if file.is_whole {
                bytes += file.bytes;
            }
        }
        self.bytes = bytes;
        area.count(Count::SweptFiles, removed);
        Ok(())
    }
}

/// The owner id of the gateway that lives; 0: none does.
fn gateway_owner(segment: &Segment) -> Owner {
    let gateway = segment.processes().iter().find(|entry| entry.owner() != 0 && entry.identity().0 == GATEWAY);
    gateway.map_or(0, |entry| entry.owner())
}

/// Who made an image's file, by its id.
fn owner_of(id: u64) -> Owner {
    (id >> 48) as Owner
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use framepipe_frame::{Kept, Request};

    use super::*;
    use crate::bench::{Bench, GATEWAYS};

    #[test]
    fn files_of_the_dead_that_no_frame_names_go_and_all_others_stay() {
        let bench = Bench::new(8);
        let id = |owner: Owner, number: u64| u64::from(owner) << 48 | number;
        for id in [id(GATEWAYS, 1), id(9, 2), id(9, 3), id(0, 4)] {
            let mut writer = spill::Writer::begin(bench.disk(), id).expect("begun");
            writer.add(b"12345678").expect("written");
            writer.finish(0).expect("finished");
        }
        for id in [id(GATEWAYS, 5), id(9, 6)] {
            std::fs::write(bench.disk().join(format!("{id:016x}.new")), b"half").expect("written");
        }
        bench.accept(&Request { kept: Kept { id: id(9, 3), ..Kept::default() }, ..Request::zeroed() });
        let mut spilled = Spilled::new(bench.disk().to_owned());
        spilled.look_when_due(&bench.area, &bench.segment);
        let mut left: Vec<u64> = spill::list(bench.disk()).expect("read").iter().map(|file| file.id).collect();
        left.sort_unstable();
        assert_eq!(left, [id(GATEWAYS, 1), id(GATEWAYS, 5), id(9, 3)]);
        assert_eq!(spilled.bytes, 2 * (4096 + 8), "of whole files");
        assert_eq!(bench.area.counted(Count::SweptFiles), 3);
        bench.segment.processes()[0].vacate(); // the gateway dies
        spilled.look(&bench.area, &bench.segment).expect("it is readable");
        assert_eq!(bench.area.counted(Count::SweptFiles), 5);
    }
}
