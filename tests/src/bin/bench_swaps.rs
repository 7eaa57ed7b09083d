//! `scripts/bench-swaps`: one version of a model takes another's place again and again, under load: no frame may be lost or
//! fail, and no memory be kept.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use framepipe_tests::{
    Home, Memory, Server,
    figures::{Arguments, Figures, finish, quantile},
    swaps::{Camera, MODEL, Models},
};

/// Swaps before memory is compared: allocators and caches have what they keep by then.
const WARM_UP: usize = 10;
/// Of the first and of the last swaps, the memory of so many.
const COMPARED: usize = 10;

/// What a change of the model took.
struct Swap {
    took: Duration,
    /// Of all processes, when it was over.
    mib: f64,
    /// Of the launcher, and of the gateway, which live through all of them.
    launcher_mib: f64,
    gateway_mib: f64,
}

fn swap(server: &Server, memory: &Memory, version: u32) -> Swap {
    let start = Instant::now();
    let output = server.run(&["model", "use", &format!("{MODEL}@{version}")]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), server.output());
    let launcher_mib = memory.mib_of(&["launcher"]);
    let gateway_mib = memory.mib_of(&["gateway"]) - launcher_mib;
    Swap { took: start.elapsed(), mib: memory.mib(), launcher_mib, gateway_mib }
}

fn median(swaps: &[Swap], of: impl Fn(&Swap) -> f64) -> f64 {
    quantile(&swaps.iter().map(of).collect::<Vec<f64>>(), 0.5)
}

async fn measure(count: usize, figures: &mut Figures) {
    let home = Home::new();
    let server = Server::start(&home, &Models::new(&home, 2).config()).await;
    let (camera, memory) = (Camera::start(&server), Memory::of(&home));
    let mut swaps = Vec::new();
    let start = Instant::now();
    for number in 0..WARM_UP + count {
        camera.wait_for_more();
        swaps.push(swap(&server, &memory, 2 - (number % 2) as u32));
        if number.is_multiple_of(10) {
            println!("{} of {} swaps", swaps.len(), WARM_UP + count);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    camera.wait_for_more();
    let frames = camera.pushed();
    // Fails where a frame has no result, two, or an error.
    let versions = camera.versions().await;
    server.stop();
    let (first, last) = (&swaps[WARM_UP..WARM_UP + COMPARED], &swaps[swaps.len() - COMPARED..]);
    let growth = |of: fn(&Swap) -> f64| median(last, of) / median(first, of);
    let took: Vec<f64> = swaps[WARM_UP..].iter().map(|swap| swap.took.as_secs_f64() * 1e3).collect();
    figures.at_least("swaps", "changes of the model", count as f64, 100.0);
    figures.at_least("swaps_seen", "changes that the results show", versions.len() as f64 - 1.0, swaps.len() as f64);
    figures.told("swap_frames", "frames accepted, each with one result that is no error", frames as f64);
    figures.told("swap_fps", "frames a second meanwhile", frames as f64 / seconds);
    figures.told("swap_ms", "one change, until the old model's last result is out, ms, median", quantile(&took, 0.5));
    figures.told("swap_p99_ms", "the same, p99", quantile(&took, 0.99));
    figures.told(
        "swap_memory_mib",
        "memory of all processes and of what they share, MiB",
        median(last, |swap| swap.mib),
    );
    figures.at_most("swap_memory_growth", "memory after all, over that after the first", growth(|swap| swap.mib), 1.02);
    for (who, of) in
        [("launcher", (|swap| swap.launcher_mib) as fn(&Swap) -> f64), ("gateway", |swap| swap.gateway_mib)]
    {
        figures.told(
            format!("swap_memory_{who}_first_mib"),
            format!("of the {who}, after the first, MiB"),
            median(first, of),
        );
        figures.told(format!("swap_memory_{who}_last_mib"), format!("of the {who}, after all, MiB"), median(last, of));
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let asked = || {
        let mut arguments = Arguments::parse()?;
        let asked: (usize, _) = (arguments.number("--swaps", 100)?, arguments.path("--json"));
        arguments.end()?;
        if asked.0 < COMPARED { Err(format!("give {COMPARED} swaps or more")) } else { Ok(asked) }
    };
    let (swaps, json) = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("bench-swaps: {error}");
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    measure(swaps, &mut figures).await;
    finish(&figures, json.as_deref())
}
