//! The gateway: the one process that speaks gRPC, takes frames in and hands results out. It alone allocates and frees
//! jobs, and it alone has the journal.
//!
//! | file | what it does |
//! |---|---|
//! | `checks.rs` | what can be known of a PushData call from its words alone |
//! | `source.rs` | the files that it names: opened beneath the roots, checked, not read |
//! | `hub.rs` | what all calls share: journals, streams, budget, idempotency keys |
//! | `admission.rs` | the budget in frames and bytes, shared fairly between streams; the line of those that wait |
//! | `idempotency.rs` | which keys were answered, and how |
//! | `accept.rs` | PushData: checks, asks for room, reserves, drafts, accepts |
//! | `insist.rs` | its steps on other threads, again and again where the call waits |
//! | `store.rs`, `copy.rs` | the images that framepipe keeps: in memory or on disk; read from files, or as they come |
//! | `upload.rs` | Upload: PushData whose images come with the call |
//! | `deliver.rs`, `encode.rs` | finished jobs become records of the journal, then are freed, then are shown |
//! | `kept_results.rs` | results that are given again to images of the same content |
//! | `pull.rs` | PullResult: one reader a stream |
//! | `traces.rs`, `traces/` | frames' spans, for a collector of traces |
//! | `service.rs` | the gRPC service and its listeners |
//! | `http.rs`, `http/places.rs`, `metrics.rs` | `/metrics`, `/readyz` and `/livez`; who is connected; what is told there |
//! | `health.rs` | whether frames get through |
//! | `connections.rs`, `calls.rs` | how many connections there are, and how many calls are read at once |

mod accept;
mod admission;
mod calls;
mod checks;
mod connections;
mod copy;
mod deliver;
mod encode;
mod health;
mod http;
mod hub;
mod idempotency;
mod insist;
mod kept_results;
mod metrics;
mod pull;
mod service;
mod source;
mod store;
mod traces;
mod upload;

use std::{process::ExitCode, sync::Arc, thread};

use framepipe_pipeline::{Command, Exit, Plan, Process, Report, log};

use crate::{deliver::Deliverer, hub::Hub, traces::Traces};

const ABOUT: &str = "framepipe-gateway: the gRPC server of a pipeline.";

fn main() -> ExitCode {
    let process = match Process::start(ABOUT) {
        Ok(process) => process,
        Err(exit) => return exit.into(),
    };
    let process: &'static Process = Box::leak(Box::new(process));
    let exit = run(process).unwrap_or_else(|error| process.failed(&format!("{error:#}")));
    log::end();
    exit.into()
}

fn run(process: &'static Process) -> anyhow::Result<Exit> {
    let plan = Plan::of(&process.order.config)?;
    let hub = Arc::new(Hub::open(process, &plan)?);
    let for_commands = hub.clone();
    process.hear_commands(move |command| match command {
        Command::Drain => for_commands.drain(),
        Command::Stop => for_commands.stop(),
        Command::Encode(generation) => {
            match for_commands.encoders.add(&process.order.config, &generation, &for_commands.gate) {
                Ok(()) => process.report(Report::Encodes { generation: generation.number }),
                // The launcher has looked at the models: it gives up in time.
                Err(error) => tracing::error!("generation {}: {error:#}", generation.number),
            }
        }
        Command::Start(_) => {}
    });
    let traces = Traces::start(&process.order.config, hub.run, hub.metrics.traces.clone())?;
    let mut deliverer = Deliverer::new(process, hub.clone(), traces);
    deliverer.take_stock()?;
    let for_end = hub.clone();
    let delivery = thread::Builder::new().name("deliver".into()).spawn(move || {
        let ended = deliverer.run();
        // Before the last connection ends, which a client may put off until the launcher's patience is over.
        if ended.is_ok()
            && let Err(error) = for_end.close()
        {
            tracing::error!("unread results stay in memory, for the next start: {error}");
        }
        for_end.stop(); // without delivery there is no service
        // Last: nothing that frames or results need waits for a collector.
        ended.map(|traces| traces.into_iter().for_each(Traces::end))
    })?;
    service::serve(process, hub)?;
    Ok(match delivery.join() {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(lost)) => process.lost(&lost),
        Err(_) => anyhow::bail!("the delivery thread panicked"),
    })
}
