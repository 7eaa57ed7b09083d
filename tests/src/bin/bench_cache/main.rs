//! `scripts/bench-cache`: images that come again, a backlog larger than memory, damage, and a large image, through whole
//! pipelines. The policies alone are measured by an example of crates/cache.
//!
//! | file | what it measures |
//! |---|---|
//! | `repeats.rs` | images that were seen before |
//! | `backlog.rs` | four times as many bytes of images as there is memory for them |
//! | `damage.rs` | damaged memory and files: no damaged image is ever served |
//! | `keeper.rs` | the keeper killed over and over |
//! | `large.rs` | one image of 40 MB |

mod backlog;
mod damage;
mod keeper;
mod large;
mod repeats;

use std::process::ExitCode;

use framepipe_tests::figures::{Arguments, Figures, finish};

const PARTS: [&str; 5] = ["repeats", "backlog", "damage", "keeper", "large"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let part = arguments.text("--part");
        let json = arguments.path("--json");
        let damages: usize = arguments.number("--damages", 1000)?;
        let kills: usize = arguments.number("--kills", 200)?;
        arguments.end()?;
        match part.as_deref() {
            Some(part) if !PARTS.contains(&part) => Err(format!("--part {part}: give one of {PARTS:?}")),
            _ => Ok((part, damages, kills, json)),
        }
    };
    let (part, damages, kills, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-cache: {error}");
            return ExitCode::from(2);
        }
    };
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let mut figures = Figures::default();
    if wants("repeats") {
        repeats::measure(&mut figures).await;
    }
    if wants("backlog") {
        backlog::measure(&mut figures).await;
    }
    if wants("damage") {
        damage::measure(damages, &mut figures).await;
    }
    if wants("keeper") {
        keeper::measure(kills, &mut figures).await;
    }
    if wants("large") {
        large::measure(&mut figures).await;
    }
    finish(&figures, json.as_deref())
}
