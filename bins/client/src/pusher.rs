//! Sends files in batches, one after another. Where there is no room, the server lets the call wait; a batch that is refused for
//! what it is, or finds no room for long, is sent in halves, so that in the end one image alone is refused.

use std::{io::ErrorKind, time::Duration};

use anyhow::{Context as _, bail};
use framepipe_client::{Batch, Client, Error, Hold, PushRequest};
use tokio::sync::{mpsc::Sender, watch};

use crate::batches::{Batches, Image};

/// For a batch to find room as a whole, before it is tried in halves.
const WHOLE_WAIT: Duration = Duration::from_secs(5);

/// What to do about an inbox.
const INBOX: &str =
    "give --inbox as `framepipe up` has it (FRAMEPIPE_INBOX, with --address), or --hold upload, which needs none";

/// Who keeps the images until their results come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// This command, in the inbox.
    Reference,
    /// The server, which copies them from the inbox.
    Copy,
    /// The server, to which they are sent.
    Upload,
}

/// What the pusher tells.
#[derive(Debug)]
pub enum Event {
    /// So many more files are known.
    Read(usize),
    /// So many images are being sent, and have no answer yet; 0: they were refused, and none are.
    UnderWay(usize),
    /// A batch has become frames.
    Accepted(Batch),
    /// A file has not.
    Refused {
        /// Its name.
        name: String,
        /// "UNREADABLE" or "REFUSED".
        code: &'static str,
        /// Why.
        message: String,
    },
}

/// Sends files.
pub struct Pusher {
    /// To whom.
    pub client: Client,
    /// The stream; empty: one that the server makes for the first batch.
    pub stream: String,
    /// Who keeps the images.
    pub keep: Keep,
    /// For one image to find room.
    pub wait: Duration,
    /// Most images of a batch.
    pub images_max: usize,
    /// Who hears of it.
    pub events: Sender<Event>,
    /// True once nothing more is to be sent.
    pub stopping: watch::Receiver<bool>,
}

impl Pusher {
    /// Sends all of them. Ends early where nobody hears it, or wants more of them; then a call that is under way is heard to its end.
    pub async fn run(mut self, mut batches: Batches) -> anyhow::Result<()> {
        loop {
            let images_max = self.images_max;
            // Reading may block: the results are read meanwhile.
            let read = tokio::task::spawn_blocking(move || {
                let batch = batches.next(images_max);
                (batches, batch)
            });
            let read = tokio::select! {
                read = read => read,
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => return Ok(()), // a list may never go on
            };
            let (rest, batch) = read.context("reading files")?;
            let batch = batch?;
            batches = rest;
            self.tell(Event::Read(batch.images.len() + batch.unreadable.len())).await?;
            for (name, message) in batch.unreadable {
                self.tell(Event::Refused { name, code: "UNREADABLE", message }).await?;
            }
            self.push(&batch.images).await?;
            if batch.is_last || *self.stopping.borrow() {
                return Ok(());
            }
        }
    }

    async fn push(&mut self, images: &[Image]) -> anyhow::Result<()> {
        let mut parts = vec![images]; // the last is the next one; at most one for each halving
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            if *self.stopping.borrow() {
                return Ok(());
            }
            self.tell(Event::UnderWay(part.len())).await?;
            let error = match self.call(part).await {
                Ok(batch) => {
                    self.stream.clone_from(&batch.stream);
                    self.tell(Event::Accepted(batch)).await?;
                    continue;
                }
                Err(error) => error,
            };
            let is_crowded = matches!(error, Error::Overloaded { .. });
            if error.is_refusal() {
                self.tell(Event::UnderWay(0)).await?;
            }
            match (error, part) {
                (Error::InvalidRequest(message), [image]) => {
                    self.tell(Event::Refused { name: image.name.clone(), code: "REFUSED", message }).await?;
                }
                (Error::InvalidRequest(_) | Error::Overloaded { .. }, [_, _, ..]) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                    if is_crowded {
                        self.images_max = first.len();
                    }
                }
                (error @ Error::Overloaded { .. }, _) => {
                    return Err(error).with_context(|| format!("no room for {} s", self.wait.as_secs()));
                }
                (Error::Inbox { path, why }, _) => {
                    let is_it_up = match why.kind() {
                        ErrorKind::NotFound => "is the pipeline up on this host? ",
                        _ => "",
                    };
                    bail!("cannot write into the inbox {}: {why}: {is_it_up}{INBOX}", path.display())
                }
                (Error::PermissionDenied(words), _) if self.keep != Keep::Upload => {
                    bail!("an image did not get through the inbox: {words}: {INBOX}")
                }
                (error, _) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn call(&self, part: &[Image]) -> Result<Batch, Error> {
        let wait = if part.len() > 1 { self.wait.min(WHOLE_WAIT) } else { self.wait };
        let request = PushRequest::images(part.iter().map(|image| &image.bytes))
            .names(part.iter().map(|image| image.name.as_str()))
            .stream(self.stream.as_str())
            .wait(wait);
        match self.keep {
            Keep::Reference => self.client.push(request).await,
            Keep::Copy => self.client.push(request.hold(Hold::Copy)).await,
            Keep::Upload => self.client.upload(request).await,
        }
    }

    async fn tell(&self, event: Event) -> anyhow::Result<()> {
        self.events.send(event).await.ok().context("nobody hears what becomes of the images")
    }
}
