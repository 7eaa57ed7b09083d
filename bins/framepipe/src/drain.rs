//! `framepipe drain`: whoever waits for the pipeline's end hears how many frames are left, and how it ended.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use framepipe_shm::Segment;

use crate::control::{Answer, say};

/// Between two words on how many frames are left.
const EVERY: Duration = Duration::from_millis(500);
/// Those who wait, at once.
const WAITING_MAX: usize = 16;

/// Those who wait for the end. Their connections end with the launcher's process, which tells them that it is gone.
pub struct Farewell {
    segment: &'static Segment,
    waiting: Mutex<Vec<UnixStream>>,
}

impl Farewell {
    /// Of a pipeline.
    pub fn new(segment: &'static Segment) -> Arc<Self> {
        Arc::new(Self { segment, waiting: Mutex::default() })
    }

    /// Has one more wait.
    pub fn wait(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let mut waiting = self.waiting();
        if waiting.len() >= WAITING_MAX {
            return say(&stream, &Answer::Failed(format!("{WAITING_MAX} wait for the end already; it drains")));
        }
        waiting.push(stream);
        if waiting.len() == 1 {
            let farewell = self.clone();
            thread::Builder::new().name("drain".into()).spawn(move || farewell.count_down())?;
        }
        Ok(())
    }

    /// Says how many frames are left, until the process ends, or nobody waits any more.
    fn count_down(&self) {
        let mut said = None;
        loop {
            let [_, writing, ready, claimed] = self.segment.job_census();
            let left = writing + ready + claimed;
            if said != Some(left) && !self.tell(&Answer::Progress(format!("{left} frames left"))) {
                return;
            }
            said = Some(left);
            thread::sleep(EVERY);
        }
    }

    /// Says how it ended.
    pub fn end(&self, answer: &Answer) {
        self.tell(answer);
    }

    /// False: nobody waits.
    fn tell(&self, answer: &Answer) -> bool {
        let mut waiting = self.waiting();
        waiting.retain(|stream| say(stream, answer).is_ok()); // the others have gone, or do not read
        !waiting.is_empty()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
