//! What the steps of the cache cost, to see what a change does: `cargo bench -p framepipe-cache`.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::{
    collections::HashSet,
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use framepipe_cache::{
    Area, ArenaGeometry, ArenaKind, BlockRef, Geometry, Hasher, INLINE_WORDS, Kind, Offer, Record, Told, Use, Value,
};

const IMAGE_BYTES: usize = 500_000;
/// As configured, where nothing is said.
const CHUNK_BYTES: u64 = 256 << 10;
/// 1 GiB of them, of which a benchmark takes what it needs.
const CHUNKS: u64 = 1 << 12;
const OWNER: u16 = 1;

struct Store {
    folder: PathBuf,
    area: Area,
}

impl Store {
    fn new(block_bytes: u64, blocks: u64) -> Self {
        let folder = PathBuf::from(format!("/dev/shm/framepipe-cache-bench-{}", std::process::id()));
        let mut geometry = Geometry { entries: 1 << 16, ..Geometry::default() };
        geometry.arenas[ArenaKind::Images as usize] = ArenaGeometry { block_bytes, blocks };
        Area::make(&folder, geometry).unwrap();
        let area = Area::open(&folder, Use::ALL).unwrap();
        Self { folder, area }
    }

    fn put(&self, image: &[u8]) -> BlockRef {
        let mut taken = self.area.arena(ArenaKind::Images).take(OWNER, image.len()).unwrap();
        taken.write_at(0, image).unwrap();
        taken.describe(&Record { key: 0, sum: 1, bytes: image.len() as u64 });
        taken.hold()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn image(criterion: &mut Criterion) {
    let store = Store::new(CHUNK_BYTES, CHUNKS);
    let arena = store.area.arena(ArenaKind::Images);
    let image: Vec<u8> = (0..IMAGE_BYTES as u32).map(|i| (i * 7) as u8).collect();
    let mut group = criterion.benchmark_group("an image of 500 kB");
    group.throughput(Throughput::Bytes(IMAGE_BYTES as u64));
    group.bench_function("take, write, hold, free", |bench| {
        bench.iter(|| arena.free(OWNER, store.put(black_box(&image))));
    });
    let path = store.folder.join("a-file");
    group.bench_function("a file in tmpfs: make, write, remove", |bench| {
        bench.iter(|| {
            File::create(&path).unwrap().write_all_at(black_box(&image), 0).unwrap();
            fs::remove_file(&path).unwrap();
        });
    });
    let hasher = Hasher::new([7; 32]);
    group.bench_function("hash", |bench| bench.iter(|| hasher.of(black_box(&image))));
    let first = store.put(&image);
    group.bench_function("view", |bench| bench.iter(|| arena.view(black_box(first), IMAGE_BYTES).unwrap().len()));
    group.finish();
}

/// What a full arena of many small blocks costs: every call that looks for a free block, or counts them.
fn full(criterion: &mut Criterion) {
    const BLOCKS: u64 = 1 << 16;
    let store = Store::new(4096, BLOCKS);
    let arena = store.area.arena(ArenaKind::Images);
    let named: HashSet<u64> = (0..BLOCKS - 8).map(|_| store.put(&[1]).pack()).collect();
    let mut group = criterion.benchmark_group("65,536 blocks, 8 of them free");
    group.bench_function("take one, drop it", |bench| bench.iter(|| drop(arena.take(OWNER, 1).unwrap())));
    group.bench_function("take nine: refused", |bench| bench.iter(|| arena.take(OWNER, 9 * 4096).is_err()));
    group.bench_function("memory in use", |bench| bench.iter(|| store.area.memory_bytes()));
    group.bench_function("sweep", |bench| {
        bench.iter(|| arena.sweep(OWNER, arena.candidates(), &named, |_| true));
    });
    group.finish();
}

fn index(criterion: &mut Criterion) {
    let store = Store::new(CHUNK_BYTES, CHUNKS);
    let key = |number: u64| store.area.hasher().derive("key", 1, &number.to_le_bytes());
    let keys: Vec<u128> = (0..1 << 14).map(key).collect();
    for key in &keys {
        store.area.put(*key, &Value { kind: Kind::Tensors, block: 1, bytes: 1, inline: [1; INLINE_WORDS] });
    }
    let mut group = criterion.benchmark_group("index");
    let mut next = 0;
    let mut turn = || {
        next = (next + 1) % keys.len();
        keys[next]
    };
    group.bench_function("find, still", |bench| {
        bench.iter(|| store.area.find(turn()).is_some_and(|found| store.area.still(&found)));
    });
    group.bench_function("find nothing", |bench| bench.iter(|| store.area.find(turn() ^ 1 << 100).is_some()));
    let hasher = store.area.hasher();
    group.bench_function("derive", |bench| {
        bench.iter(|| hasher.derive("tensor", black_box(1), black_box(&[7; 16])));
    });
    group.bench_function("offer, hear", |bench| {
        bench.iter(|| {
            store.area.offer(OWNER, &Offer::about(Told::Touched, Kind::Tensors, turn()));
            store.area.hear(|_| true, |offer| _ = black_box(offer));
        });
    });
    group.finish();
}

criterion_group!(benches, image, full, index);
criterion_main!(benches);
