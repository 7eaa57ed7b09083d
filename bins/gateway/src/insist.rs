//! A call's steps, on threads that may wait for files where it takes that; where there is no room and the call waits, again once
//! there may be.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tonic::{Code, Status};

use crate::{
    accept::{Call, too_many_wait},
    checks::Origin,
};

/// A call that waits counts as so many bytes, at least, of those that all such calls may keep in memory.
const WAITING_BYTES_LEAST: usize = 64 << 10;

/// How long a call insists, and what it holds meanwhile.
pub struct Insistence<P> {
    call: Arc<Call>,
    until: Instant,
    /// What it is read under, until it waits.
    permit: Option<P>,
    waiting: Option<OwnedSemaphorePermit>,
}

impl<P> Insistence<P> {
    /// Of a call that is read under this permit.
    pub fn new(call: Arc<Call>, permit: Option<P>) -> Self {
        Self { until: Instant::now() + call.wait(), call, permit, waiting: None }
    }

    /// Takes the permit back, where the call did not wait.
    pub fn take_permit(&mut self) -> Option<P> {
        self.permit.take()
    }

    /// Gives it another permit.
    pub fn give_permit(&mut self, permit: P) {
        self.permit = Some(permit);
    }

    /// The client took so long to send: that is no wait for room.
    pub fn prolong(&mut self, by: Duration) {
        self.until += by;
    }

    /// Others may be read from here on: the call counts among those that wait, and takes its part of their memory.
    pub fn let_others_be_read(&mut self) -> Result<(), Status> {
        if self.waiting.is_none() {
            let bytes = self.call.request.encoded_len().max(WAITING_BYTES_LEAST);
            let waiting = self.call.hub.waiting.clone();
            let permit = waiting.try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
            self.waiting = Some(permit.map_err(|_| too_many_wait())?);
        }
        drop(self.permit.take());
        Ok(())
    }

    /// Takes a step, which gives the call a place in the line where there is no room and it waits.
    pub async fn on<T: Send + 'static>(&mut self, step: fn(&Call) -> Result<T, Status>) -> Result<T, Status> {
        loop {
            let ended = self.once(step).await;
            let is_refused = ended.as_ref().is_err_and(|status| status.code() == Code::ResourceExhausted);
            let refusal = match ended {
                Err(refusal) if is_refused && !self.call.wait().is_zero() => refusal,
                ended => return self.noted(ended),
            };
            self.let_others_be_read()?;
            let Some(ticket) = self.call.ticket() else { return self.noted(Err(refusal)) };
            if timeout_at(self.until, ticket.news.notified()).await.is_err() {
                return self.noted(Err(refusal));
            }
        }
    }

    async fn once<T: Send + 'static>(&self, step: fn(&Call) -> Result<T, Status>) -> Result<T, Status> {
        if self.call.is_quick() {
            return step(&self.call);
        }
        let copying = match self.call.checked.origin {
            Origin::Copied => Some(self.call.hub.copying.clone().acquire_owned().await.expect("nobody closes it")),
            Origin::Referenced | Origin::Uploaded => None,
        };
        let call = self.call.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _copying = copying; // the thread's, whatever becomes of the call
            step(&call)
        });
        task.await.map_err(|error| Status::internal(format!("the call failed: {error}")))?
    }

    /// Counts a call that ends for want of room to keep its images.
    fn noted<T>(&self, ended: Result<T, Status>) -> Result<T, Status> {
        if ended.is_err() && self.call.lacks_store() {
            self.call.hub.store.count_refused();
        }
        ended
    }
}
