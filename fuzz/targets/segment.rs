//! The header of a shared-memory segment that somebody else made: an error, or the segment that was made; and a geometry
//! out of it: an error or a size, never an overflow.
#![no_main]

use std::{cell::LazyCell, fs, os::unix::fs::FileExt, path::PathBuf};

use bytemuck::Zeroable;
use framepipe_shm::{Access, Geometry, PoolGeometry, Segment};
use tempfile::TempDir;

/// In the header, before the geometry.
const WORDS_BYTES: usize = 56;

struct Made {
    _parent: TempDir,
    folder: PathBuf,
    header: Vec<u8>,
}

thread_local! {
    static MADE: LazyCell<Made> = LazyCell::new(make);
}

fn make() -> Made {
    let parent = tempfile::tempdir_in("/dev/shm").expect("there is room in /dev/shm");
    let folder = parent.path().join("segment");
    let mut pools = Geometry::zeroed().pools;
    pools[0] = PoolGeometry::new(&[(4096, 2)]);
    let geometry = Geometry {
        pipeline: 1,
        jobs: 2,
        reserved: 0,
        queues: 2,
        processes: 2,
        request_bytes: 64,
        descriptor_bytes: 64,
        keys: 2,
        key_bytes: 64,
        handed: 0,
        pools,
    };
    drop(Segment::create(&folder, geometry, 1, 0).expect("a small segment fits"));
    let mut header = fs::read(folder.join("control")).expect("it was made");
    header.truncate(WORDS_BYTES + size_of::<Geometry>());
    Made { _parent: parent, folder, header }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(geometry) = bytes.get(..size_of::<Geometry>()) {
        let _ = Segment::bytes_needed(&bytemuck::pod_read_unaligned(geometry));
    }
    MADE.with(|made| {
        // Each 3 bytes change one of the header.
        let mut header = made.header.clone();
        for change in bytes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % header.len();
            header[at] ^= change[2];
        }
        let file = fs::File::options().write(true).open(made.folder.join("control")).expect("it was made");
        file.write_all_at(&header, 0).expect("it was made");
        if let Ok(segment) = Segment::open(&made.folder, Access::Gateway { reads: 1 }) {
            let geometry = bytemuck::bytes_of(segment.geometry());
            assert!(geometry == &made.header[WORDS_BYTES..], "a geometry that nobody made");
        }
    });
});
