//! Whole-system tests of framepipe: real processes, real models, real `kill -9`. The tests are in `tests/`, each file
//! a claim; what they share is here.
//!
//! | file | what it holds |
//! |---|---|
//! | `home.rs` | folders of one test, and the configuration that points there |
//! | `server.rs` | a running pipeline: started, asked, signalled, stopped |
//! | `status.rs` | what `framepipe status --json` says |
//! | `scrape.rs` | what a pipeline tells over HTTP: metrics and readiness |
//! | `configurations.rs` | configurations that several tests share |
//! | `images.rs` | images to push: generated ones, and the repository's photos |
//! | `damage.rs` | what framepipe keeps, damaged on purpose |
//! | `kept.rs` | images that framepipe keeps, with numbers by which they are known wherever they lie |
//! | `cameras.rs` | cameras that must see each of their frames once, whatever dies |
//! | `findings.rs` | what was found in photos, as tests/reference writes it |
//! | `gpu.rs` | the GPU of tests that need one |
//! | `chaos/`, `bin/chaos.rs` | `scripts/chaos`: kills at random under load, and a ledger at the end |
//! | `figures.rs` | what is measured: a table for people, one flat JSON object, and what was missed |
//! | `bin/bench_*` | `scripts/bench-recovery`, `bench-overload`, `bench-swaps`, `bench-scale`, `bench-plan`: what is measured with whole pipelines |
//! | `swaps.rs` | models that tell their version, and a camera that shows which frames had which |
//! | `memory.rs` | what a pipeline has of the machine's memory |
//! | `terminal.rs` | a pseudo-terminal, and what a program draws on it |
//! | `small_tmpfs.rs` | a tmpfs that can be filled up |
//! | `wait.rs` | waiting for a condition, with a deadline; signals |

pub mod cameras;
pub mod chaos;
mod collector;
pub mod configurations;
pub mod damage;
pub mod figures;
pub mod findings;
pub mod gpu;
mod home;
pub mod images;
pub mod kept;
mod memory;
pub mod scrape;
mod server;
mod small_tmpfs;
mod status;
pub mod swaps;
mod terminal;
mod wait;

pub use collector::{Collector, Trace};
pub use home::Home;
pub use memory::Memory;
pub use server::{Server, program, repository};
pub use small_tmpfs::SmallTmpfs;
pub use status::{Jobs, PoolUse, Process, Repair, Status};
pub use terminal::Terminal;
pub use wait::{is_alive, send, wait_for, wait_until};
