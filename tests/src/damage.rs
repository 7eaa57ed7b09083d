//! Damage on purpose: bits flipped, parts cut off and whole pieces deleted, of images that framepipe keeps in memory and on
//! disk, while the frames of others are worked on.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use framepipe_client::{ErrorCode, FrameResult, Outcome};
use nix::sys::signal::Signal;
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    Home, Server,
    kept::{SPILL_HEAD_BYTES, Store, push_kept, results_of},
    wait_until,
};

/// The instance's name.
pub const NAME: &str = "damage";
/// Frames of a round, of which every second one is damaged.
pub const ROUND: usize = 100;
const WAIT: Duration = Duration::from_secs(60);

/// A pipeline that keeps a part of a round's images in memory and the rest on disk. Ingest is stopped meanwhile, which is no
/// hang here.
pub fn config(image_bytes: usize) -> String {
    let memory = image_bytes.next_multiple_of(CHUNK_BYTES) * ROUND * 2 / 3;
    format!(
        "name = \"{NAME}\"\n[pipeline]\ndetector = \"nanodet416-4c-int8\"\n[stages.ingest]\nhang_ms_max = 600000\n\
         [cache]\nmemory_bytes_max = {memory}\nchunk_bytes = {CHUNK_BYTES}\n"
    )
}

/// An image takes several chunks.
const CHUNK_BYTES: usize = 16 << 10;

/// What was done to a round's images.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// Images damaged in memory.
    pub in_memory: usize,
    /// Images damaged on disk.
    pub on_disk: usize,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// Pushes a round of images, damages every second one before its turn, and looks at all results: a damaged image must be an
/// error, and every other one have the result that `expected` says.
///
/// # Panics
/// Where any of that does not hold.
pub async fn round(
    home: &Home,
    server: &Server,
    number: usize,
    images: &[Vec<u8>],
    expected: &HashMap<usize, Outcome>,
) -> Done {
    server.signal_stage("ingest", Signal::SIGSTOP);
    let stream = format!("round-{number}");
    let batch: Vec<_> = images.iter().enumerate().map(|(it, bytes)| (it.to_string(), bytes.clone())).collect();
    push_kept(home, server, &stream, &batch, WAIT).await.expect("there is room");
    let store = Store::of(home, NAME);
    // Else the keeper might be about to move an image of which it has read the bytes already.
    wait_until("the keeper has moved what it will", WAIT, || {
        let in_both = || store.images_on_disk().keys().any(|image| store.images_in_memory().contains_key(image));
        store.area.memory_bytes() <= store.area.limits().0 && !in_both()
    });
    let mut random = Random(number as u64 * 2 + 1);
    let (mut damaged, mut done) = (BTreeSet::new(), Done::default());
    let arena = store.arena("images");
    for (image, offset) in store.images_in_memory().into_iter().filter(|(image, _)| image % 2 == 1) {
        // Within the first chunk, which begins here; the others lie wherever there was room.
        let bytes = (images[image].len() as u64).min(CHUNK_BYTES as u64);
        match random.below(3) {
            0 => flip(&arena, offset + random.below(bytes)),
            1 => clear(&arena, offset + CHUNK_BYTES as u64 / 2, CHUNK_BYTES as u64 / 2),
            _ => clear(&arena, offset, CHUNK_BYTES as u64),
        }
        damaged.insert(image);
        done.in_memory += 1;
    }
    for (image, path) in store.images_on_disk().into_iter().filter(|(image, _)| image % 2 == 1) {
        let file = File::options().read(true).write(true).open(&path).expect("it waits for its turn");
        let bytes = file.metadata().expect("it is open").len();
        match random.below(4) {
            0 => flip(&file, SPILL_HEAD_BYTES + random.below(bytes - SPILL_HEAD_BYTES)),
            1 => flip(&file, random.below(24)), // in its head: what it is, whose, and how long
            2 => file.set_len(random.below(bytes)).expect("it can be cut"),
            _ => fs::remove_file(&path).expect("it can be removed"),
        }
        damaged.insert(image);
        done.on_disk += 1;
    }
    assert_eq!(damaged.len(), images.len() / 2, "every second image waits in memory or on disk: {done:?}");
    server.signal_stage("ingest", Signal::SIGCONT);
    let results = results_of(server, &stream).await;
    assert_eq!(results.len(), images.len());
    results.values().for_each(|result| check(result, &damaged, expected));
    done
}

fn check(result: &FrameResult, damaged: &BTreeSet<usize>, expected: &HashMap<usize, Outcome>) {
    let image: usize = result.name.parse().expect("the test's own name");
    match &result.outcome {
        Some(Outcome::Error(error)) if damaged.contains(&image) => {
            assert_eq!(error.code(), ErrorCode::StoreDamaged, "image {image}: {}", error.message);
        }
        outcome => {
            assert!(!damaged.contains(&image), "image {image} is damaged, and was served: {outcome:?}");
            assert_eq!(outcome.as_ref(), expected.get(&image), "image {image}");
        }
    }
}

fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is that long");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("it can be written");
}

fn clear(file: &File, at: u64, bytes: u64) {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, bytes).expect("tmpfs has holes");
}
