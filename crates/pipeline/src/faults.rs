//! Faults on demand, for tests: a frame whose name holds `fault:STAGE:KIND` makes that stage fail while it has the frame in
//! hand; the gateway, when it has written the frame's record and has not freed its job. Compiled only with debug assertions or
//! the feature `fault-injection`: a release build has none of it.

use framepipe_frame::{Descriptor, Request};

/// Nothing, in a release build.
#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
pub fn strike<'f>(_: &str, _: impl Iterator<Item = (&'f Request, &'f mut Descriptor)>) {}

/// What the names of these frames ask of a stage is done: the process ends, or never returns, or its record is broken.
#[cfg(any(debug_assertions, feature = "fault-injection"))]
pub fn strike<'f>(stage: &str, frames: impl Iterator<Item = (&'f Request, &'f mut Descriptor)>) {
    for (request, descriptor) in frames {
        let name = request.name.as_str();
        let Some((_, fault)) = name.split_once("fault:") else { continue };
        let kind = fault.split_once(':').filter(|(at, _)| *at == stage).map(|(_, kind)| kind);
        match kind.and_then(|kind| kind.split('.').next()) {
            Some("abort") => {
                tracing::warn!("struck by {name}");
                std::process::abort();
            }
            Some("kill") => {
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            }
            Some(exit) if exit.starts_with("exit-") => std::process::exit(exit["exit-".len()..].parse().unwrap_or(1)),
            Some("hang") => loop {
                std::thread::park();
            },
            Some("scribble") => *descriptor = bytemuck::pod_read_unaligned(&[0xa5; size_of::<Descriptor>()]),
            _ => {}
        }
    }
}
