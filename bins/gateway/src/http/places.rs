//! The places of connections. Where all are taken, a further connection gets the one of that which has waited longest for its
//! client: for a request's end to come, or for the answer to be taken. One that is being answered keeps its place. So clients that
//! say nothing, or little, keep none from being answered.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All places.
pub struct Places {
    free: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
    /// A connection has begun to wait.
    news: Notify,
}

/// Connections that wait for their clients, by the order in which they began to.
#[derive(Default)]
struct Waiting {
    next: u64,
    closings: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place. Dropped, it is free.
pub struct Place {
    all: Arc<Places>,
    /// Told when the connection must end.
    closing: Arc<Notify>,
    /// Its turn among those that wait; none: it is being answered.
    turn: Mutex<Option<u64>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many.
    pub fn new(count: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count));
        Arc::new(Self { free, waiting: Mutex::default(), news: Notify::new() })
    }

    /// One of them, for a connection that waits for its client. Given up while it waits, it may have closed another all the same.
    pub async fn take(self: &Arc<Self>) -> Place {
        let free = || async { self.free.clone().acquire_owned().await.expect("nobody closes it") };
        let permit = loop {
            match self.free.clone().try_acquire_owned() {
                Ok(permit) => break permit,
                Err(_) if self.close_longest() => break free().await, // it ends at once
                Err(_) => {}
            }
            tokio::select! {
                permit = free() => break permit,
                () = self.news.notified() => {}
            }
        };
        let place = Place { all: self.clone(), closing: Arc::default(), turn: Mutex::default(), _permit: permit };
        place.waits();
        place
    }

    /// False where none waits.
    fn close_longest(&self) -> bool {
        self.waiting().closings.pop_first().map(|(_, closing)| closing.notify_one()).is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

impl Place {
    /// From now on the connection waits for its client.
    pub fn waits(&self) {
        let mut waiting = self.all.waiting();
        let turn = waiting.next;
        waiting.next += 1;
        waiting.closings.insert(turn, self.closing.clone());
        *self.turn() = Some(turn);
        self.all.news.notify_one();
    }

    /// From now on it is being answered.
    pub fn is_answered(&self) {
        let turn = self.turn().take();
        if let Some(turn) = turn {
            self.all.waiting().closings.remove(&turn);
        }
    }

    /// Waits until the connection must end.
    pub async fn must_end(&self) {
        self.closing.notified().await;
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_answered();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Weak, time::Duration};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A connection that is there until it must end, which is told.
    fn open(place: Place, number: usize, ended: &mpsc::UnboundedSender<usize>) -> Weak<Place> {
        let (place, ended) = (Arc::new(place), ended.clone());
        let seen = Arc::downgrade(&place);
        tokio::spawn(async move {
            place.must_end().await;
            ended.send(number).expect("the test hears it");
        });
        seen
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_for_its_client_makes_room() {
        let all = Places::new(3);
        let take = || async { timeout(LIMIT, all.take()).await.expect("there is one") };
        let (ended, mut heard) = mpsc::unbounded_channel();
        let mut places = Vec::new();
        for number in 0..3 {
            places.push(open(take().await, number, &ended));
        }
        let of = |number: usize| places[number].upgrade().expect("it is open");
        of(0).is_answered();
        of(1).is_answered();
        of(0).waits(); // for its answer to be taken

        let mut others = Vec::new();
        for longest in [2, 0] {
            others.push(take().await);
            others.iter().for_each(Place::is_answered);
            assert_eq!(heard.recv().await, Some(longest), "0 has begun to wait after 2, and 1 is being answered");
        }
        let coming = tokio::spawn({
            let all = all.clone();
            async move { all.take().await }
        });
        tokio::task::yield_now().await;
        assert!(!coming.is_finished(), "all are being answered");
        of(1).waits();
        others.push(timeout(LIMIT, coming).await.expect("there is one").expect("no panic"));
        assert_eq!(heard.recv().await, Some(1));
        drop(others);
        assert_eq!((all.free.available_permits(), all.waiting().closings.len()), (3, 0));
    }
}
