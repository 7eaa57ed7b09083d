//! Images that framepipe keeps (`HOLD_COPY`): each with its number in its bytes, so that a copy of it is known wherever it lies.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use framepipe_cache::{Area, Use};
use framepipe_client::{FrameResult, ResultsOptions, StreamExt as _};
use framepipe_proto::v1::{Hold, PushDataRequest};
use image::{RgbImage, imageops};
use tonic::Status;

use crate::{Home, Server, images::photo};

/// For all results of a stream.
const RESULTS_WAIT: Duration = Duration::from_secs(600);
const MARK: &[u8] = b"framepipe-image-";

/// A photo, decoded.
///
/// # Panics
/// When it is not there, or no JPEG.
pub fn pixels(name: &str) -> RgbImage {
    turbojpeg::decompress_image(&photo(name)).expect("the photo is a JPEG")
}

/// A JPEG of these pixels, as near to `bytes` bytes as its quality allows.
///
/// # Panics
/// Never: the encoder takes any pixels.
pub fn jpeg(pixels: &RgbImage, bytes: usize) -> Vec<u8> {
    let encoded = |quality| {
        let jpeg = turbojpeg::compress_image(pixels, quality, turbojpeg::Subsamp::Sub2x2);
        jpeg.expect("the encoder takes any pixels").to_vec()
    };
    let (mut low, mut high) = (10, 98);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if encoded(middle).len() > bytes { high = middle } else { low = middle }
    }
    encoded(low)
}

/// A photo as a camera of this size would see it, with grain of its own by `seed`: scaled up it would be too smooth.
pub fn camera_frame(name: &str, width: u32, height: u32, seed: u64) -> RgbImage {
    let mut frame = imageops::resize(&pixels(name), width, height, imageops::FilterType::CatmullRom);
    let mut random = seed | 1;
    for value in frame.iter_mut() {
        // xorshift64; the middle bits of one step make a grain of -7 to 7, denser in the middle.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let grain = (random >> 20 & 7) as i16 - (random >> 40 & 7) as i16;
        *value = (i16::from(*value) + grain).clamp(0, 255) as u8;
    }
    frame
}

/// A JPEG with a number in a comment behind its first marker.
pub fn numbered(jpeg: &[u8], number: usize) -> Vec<u8> {
    let comment = [MARK, format!("{number:08}").as_bytes()].concat();
    let length = (comment.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xfe], &length, &comment, &jpeg[2..]].concat()
}

/// The number of a JPEG that [`numbered`] made, by its first bytes.
pub fn number_of(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.get(6..)?.strip_prefix(MARK)?.get(..8)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Pushes images that framepipe is to keep: stored as files, and removed as soon as the call returns.
///
/// # Errors
/// What the server says.
///
/// # Panics
/// Where the inbox takes no file.
pub async fn push_kept(
    home: &Home,
    server: &Server,
    stream: &str,
    images: &[(String, Vec<u8>)],
    wait: Duration,
) -> Result<u64, Status> {
    let files: Vec<PathBuf> =
        images.iter().map(|(name, bytes)| home.store(&format!("{stream}-{name}"), bytes)).collect();
    let request = PushDataRequest {
        files: files.iter().map(|file| file.display().to_string()).collect(),
        names: images.iter().map(|(name, _)| name.clone()).collect(),
        stream: stream.to_owned(),
        wait_ms: wait.as_millis() as u64,
        hold: Hold::Copy.into(),
        ..PushDataRequest::default()
    };
    let answer = server.raw_client().push_data(request).await;
    files.iter().for_each(|file| fs::remove_file(file).expect("the test's own file"));
    answer.map(|answer| answer.into_inner().first_frame)
}

/// The results of a stream, by name, until all that was accepted is delivered.
///
/// # Panics
/// Where one cannot be read, comes twice, or all take too long.
pub async fn results_of(server: &Server, stream: &str) -> HashMap<String, FrameResult> {
    let options = ResultsOptions { until_drained: true, ..ResultsOptions::default() };
    let mut results = server.client().results(stream, options);
    let mut found = HashMap::new();
    let reading = async {
        while let Some(result) = results.next().await {
            let result = result.expect("it is readable");
            let name = result.name.clone();
            assert!(found.insert(name.clone(), result).is_none(), "{name} has two results");
        }
    };
    tokio::time::timeout(RESULTS_WAIT, reading).await.expect("all results come in time");
    found
}

/// The store of a running pipeline, seen from outside.
pub struct Store {
    folder: PathBuf,
    spill: PathBuf,
    chunk_bytes: u64,
    /// The area, of which no arena is mapped.
    pub area: Area,
}

impl Store {
    /// Of the pipeline of this name in these folders.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn of(home: &Home, name: &str) -> Self {
        let folder = home.shm().join(format!("framepipe-{name}/cache"));
        let area = Area::open(&folder, Use::NONE).expect("the pipeline runs");
        let chunk_bytes = area.geometry().arenas[0].block_bytes;
        Self { folder, spill: home.path("state").join("spill"), chunk_bytes, area }
    }

    /// Bytes of memory that an arena really takes.
    pub fn resident_bytes(&self, arena: &str) -> u64 {
        fs::metadata(self.folder.join(arena)).map_or(0, |file| file.blocks() * 512)
    }

    /// Bytes of memory that all of them take.
    pub fn memory_bytes(&self) -> u64 {
        ["images", "tensors", "results"].iter().map(|arena| self.resident_bytes(arena)).sum()
    }

    /// The file of an arena.
    ///
    /// # Panics
    /// Where it cannot be opened.
    pub fn arena(&self, arena: &str) -> File {
        File::options().read(true).write(true).open(self.folder.join(arena)).expect("the pipeline runs")
    }

    /// The offsets in the images' arena at which an image with a number begins.
    ///
    /// # Panics
    /// Where the arena cannot be read.
    pub fn images_in_memory(&self) -> HashMap<usize, u64> {
        let file = self.arena("images");
        let blocks = file.metadata().expect("it is open").len() / self.chunk_bytes;
        let mut first = [0; 64];
        let number = |block: u64| {
            file.read_exact_at(&mut first, block * self.chunk_bytes).expect("it is that long");
            number_of(&first).map(|number| (number, block * self.chunk_bytes))
        };
        (0..blocks).filter_map(number).collect()
    }

    /// The spilled images with a number, and their files.
    pub fn images_on_disk(&self) -> HashMap<usize, PathBuf> {
        let entries = fs::read_dir(&self.spill).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter_map(|path| Some((number_of(&spilled_bytes(&path, 64).ok()?)?, path))).collect()
    }

    /// Files in the folder of spilled images.
    pub fn spilled(&self) -> usize {
        fs::read_dir(&self.spill).map_or(0, Iterator::count)
    }
}

/// Where the image's bytes begin in a file of the spill folder.
pub const SPILL_HEAD_BYTES: u64 = 4096;

/// The first `most` bytes of a spilled image.
///
/// # Errors
/// Where the file is gone by now.
pub fn spilled_bytes(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let there = file.metadata()?.len().saturating_sub(SPILL_HEAD_BYTES);
    let mut bytes = vec![0; most.min(there as usize)];
    file.read_exact_at(&mut bytes, SPILL_HEAD_BYTES)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_image_is_the_same_image() {
        let plain = jpeg(&RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8, y as u8, 0])), 2000);
        let marked = numbered(&plain, 1234);
        assert_eq!((number_of(&marked), number_of(&plain)), (Some(1234), None));
        let decoded = |bytes: &[u8]| turbojpeg::decompress_image::<image::Rgb<u8>>(bytes).expect("it is a JPEG");
        assert_eq!(decoded(&marked), decoded(&plain));
    }
}
