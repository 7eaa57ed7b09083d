//! Decodes images that come by standard input, for tests/corrupt: one answer a request, by standard output. A panic, an
//! abort or memory beyond the limit ends the process, which is how the other side learns of it.
//!
//! A request is a length (u32) and an image's bytes. An answer is, in little-endian order: error code (u32; 0: none),
//! width and height of the upright image (u32 each; 0 where the headers are refused), bytes of memory that the image
//! took beyond what was held (u64), CPU time in microseconds (u64), a length (u32) and as many bytes: the pixels as
//! RGB8, or the error's message.

use std::{
    fs,
    io::{self, Read, Write},
    time::Duration,
};

use framepipe_frame::FrameError;
use framepipe_vision::{DecodeScale, Decoder, Limits, probe};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// Address space: 100 MP of 16-bit PNG, turned, and the program itself.
const ADDRESS_BYTES_MAX: u64 = 2 << 30;

fn main() -> io::Result<()> {
    let limit = Rlimit { current: Some(ADDRESS_BYTES_MAX), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit)?;
    let limits = Limits::default();
    let mut decoder = Decoder::new(limits).map_err(io::Error::other)?;
    let (mut requests, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let mut length = [0; 4];
    while requests.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        requests.read_exact(&mut bytes)?;
        // Makes the peak what is held now.
        fs::write("/proc/self/clear_refs", "5")?;
        let (held, began) = (memory("VmRSS:")?, thread_cpu());
        let (size, decoded) = decode(&mut decoder, &bytes, &limits);
        let cpu = thread_cpu() - began;
        let peak = memory("VmHWM:")?.saturating_sub(held);
        let (code, body) = match decoded {
            Ok(pixels) => (0, pixels),
            Err(error) => (error.code as u32, error.message.into_bytes()),
        };
        for number in [code, size.0, size.1] {
            answers.write_all(&number.to_le_bytes())?;
        }
        for number in [peak, cpu.as_micros() as u64] {
            answers.write_all(&number.to_le_bytes())?;
        }
        answers.write_all(&(body.len() as u32).to_le_bytes())?;
        answers.write_all(&body)?;
        answers.flush()?;
    }
    Ok(())
}

/// The upright image's size, and its pixels.
fn decode(decoder: &mut Decoder, bytes: &[u8], limits: &Limits) -> ((u32, u32), Result<Vec<u8>, FrameError>) {
    let header = match probe(bytes, limits) {
        Ok(header) => header,
        Err(error) => return ((0, 0), Err(error)),
    };
    let mut pixels = vec![0; header.rgb_bytes(DecodeScale::Full)];
    let decoded = decoder.decode_rgb(bytes, &header, &mut pixels);
    (header.oriented_size(), decoded.map(|()| pixels))
}

fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Bytes, of a line of /proc/self/status.
fn memory(name: &str) -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
}
