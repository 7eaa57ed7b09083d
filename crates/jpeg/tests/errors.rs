//! What is refused, what is accepted, and what an error leaves behind.

#![allow(clippy::unwrap_used, reason = "a test")]

mod files;

use std::time::{Duration, Instant};

use files::{SCALES, encoded, inserted, options, patched, position, scans, whole, with_restarts, written};
use framepipe_jpeg::{Decompressor, JpegError, Options, Pixels, Report, Scale};
use proptest::prelude::*;
use turbojpeg::{PixelFormat, Subsamp};

const RGB: Options = Options { scale: Scale::Full, pixels: Pixels::Rgb, scans_max: 100, cpu_ms_max: 0 };

fn baseline() -> Vec<u8> {
    encoded(60, 50, PixelFormat::RGB, Subsamp::Sub2x2, false)
}

fn progressive() -> Vec<u8> {
    encoded(60, 50, PixelFormat::RGB, Subsamp::Sub2x2, true)
}

/// Reads one row of five and to the end.
fn sparse(bytes: &[u8], options: &Options) -> Result<Report, JpegError> {
    let mut decompressor = Decompressor::new()?;
    let mut rows = decompressor.start(bytes, options)?;
    let mut row = vec![0; rows.row_bytes()];
    while rows.next_row() + 5 < rows.height() {
        rows.skip(4);
        rows.read(&mut row)?;
    }
    rows.finish()
}

fn words(result: Result<Report, JpegError>) -> String {
    match result {
        Err(JpegError::Corrupt(words)) => words,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_refused_wherever_it_is_cut() {
    let mut decompressor = Decompressor::new().unwrap();
    for file in written(37, 41).into_iter().chain(patched()) {
        for scale in [Scale::Full, Scale::Eighth] {
            let options = options(scale, file.pixels);
            sparse(&file.bytes, &options).unwrap();
            let step = (file.bytes.len() / 100).max(1);
            let len = file.bytes.len();
            for cut in (0..len).step_by(step).chain([len - 2, len - 1]) {
                let cut = &file.bytes[..cut];
                assert!(matches!(sparse(cut, &options), Err(JpegError::Corrupt(_))), "{} at {}", file.name, cut.len());
                let found = whole(&mut decompressor, cut, &options);
                assert!(matches!(found, Err(JpegError::Corrupt(_))), "{} at {}", file.name, cut.len());
                let skipped = decompressor.start(cut, &options).and_then(|rows| rows.finish());
                assert!(matches!(skipped, Err(JpegError::Corrupt(_))), "{} at {}", file.name, cut.len());
            }
        }
    }
}

#[test]
fn stray_bytes_in_the_header_and_before_the_end_are_counted() {
    for file in [baseline(), progressive()] {
        assert_eq!(sparse(&file, &RGB), Ok(Report { stray_bytes: 0 }));
        let tables = position(&file, &[0xff, 0xdb]);
        let between = inserted(&file, tables, b"stray");
        assert_eq!(sparse(&between, &RGB), Ok(Report { stray_bytes: 5 }));
        let both = inserted(&between, between.len() - 2, &[0; 30]);
        let stray_bytes = sparse(&both, &RGB).unwrap().stray_bytes;
        assert!((5 + 30 - 8..=5 + 30).contains(&stray_bytes), "{stray_bytes}: libjpeg reads 8 bytes ahead");
        assert_eq!(sparse(&file, &RGB), Ok(Report { stray_bytes: 0 }), "counted anew");
    }
}

#[test]
fn stray_bytes_between_scans_and_among_restart_markers_are_corrupt_data() {
    let file = progressive();
    let between = inserted(&file, scans(&file)[3], &[0; 30]);
    assert!(words(sparse(&between, &RGB)).contains("extraneous bytes before marker"));

    let file = with_restarts(Subsamp::Sub2x2, 3, 3);
    assert_eq!(sparse(&file, &RGB), Ok(Report { stray_bytes: 0 }));
    let marker = position(&file, &[0xff, 0xd2]);
    assert!(words(sparse(&inserted(&file, marker, &[0; 30]), &RGB)).contains("extraneous bytes before marker 0xd2"));
    let before_end = inserted(&file, file.len() - 2, &[0; 30]);
    assert!(words(sparse(&before_end, &RGB)).contains("before marker 0xd9"));
    let mut lost = file.clone();
    lost.drain(marker..marker + 2);
    assert!(sparse(&lost, &RGB).is_err());

    let file = baseline();
    let expecting = inserted(&file, position(&file, &[0xff, 0xda]), &[0xff, 0xdd, 0, 4, 0, 2]);
    assert!(words(sparse(&expecting, &RGB)).contains("before marker 0xd9"));
}

#[test]
fn scans_are_bounded() {
    let file = progressive();
    let count = scans(&file).len() as u32;
    assert!(count > 5);
    assert!(sparse(&file, &Options { scans_max: count, ..RGB }).is_ok());
    let max = count - 1;
    assert_eq!(sparse(&file, &Options { scans_max: max, ..RGB }), Err(JpegError::TooManyScans { max }));
    assert!(sparse(&baseline(), &Options { scans_max: 1, ..RGB }).is_ok());
}

#[test]
fn cpu_time_is_bounded_whatever_takes_it() {
    let large = |subsamp, progressive| encoded(3000, 2000, PixelFormat::RGB, subsamp, progressive);
    let bounded = Options { cpu_ms_max: 2, ..RGB };
    let out_of_time = JpegError::OutOfTime { cpu_ms_max: 2 };
    for (name, file) in [
        ("read ahead", large(Subsamp::Sub2x2, true)),
        ("read", large(Subsamp::Sub2x2, false)),
        ("of large groups", large(Subsamp::Sub1x4, false)),
    ] {
        let mut decompressor = Decompressor::new().unwrap();
        for skips in [false, true] {
            let began = Instant::now();
            let result = if skips {
                decompressor.start(&file, &bounded).and_then(|rows| rows.finish()).map(drop)
            } else {
                whole(&mut decompressor, &file, &bounded).map(drop)
            };
            let taken = began.elapsed();
            assert_eq!(result, Err(out_of_time.clone()), "{name}, skips {skips}");
            assert!(taken < Duration::from_millis(500), "{name}, skips {skips}: {taken:?}");
        }
        assert!(whole(&mut decompressor, &file, &Options { cpu_ms_max: 600_000, ..RGB }).is_ok(), "{name}");
    }
}

#[test]
fn after_an_error_rows_give_that_error_alone_and_the_next_image_is_well() {
    let mut decompressor = Decompressor::new().unwrap();
    let file = encoded(200, 200, PixelFormat::RGB, Subsamp::Sub2x2, false);
    let expected = whole(&mut decompressor, &file, &RGB).unwrap();
    let mut rows = decompressor.start(&file[..file.len() / 2], &RGB).unwrap();
    let mut row = vec![0; rows.row_bytes()];
    let error = loop {
        if let Err(error) = rows.read(&mut row) {
            break error;
        }
    };
    assert!(matches!(error, JpegError::Corrupt(_)), "{error:?}");
    for _ in 0..3 {
        rows.skip(1);
        assert_eq!(rows.read(&mut row), Err(error.clone()));
    }
    assert_eq!(rows.finish(), Err(error));
    assert_eq!(whole(&mut decompressor, &file, &RGB).unwrap(), expected);
    // Neither dropped nor ended.
    std::mem::forget(decompressor.start(&file.clone(), &RGB).unwrap());
    assert_eq!(whole(&mut decompressor, &file, &RGB).unwrap(), expected);
    let mut rows = decompressor.start(&file, &RGB).unwrap();
    rows.read(&mut row).unwrap();
    drop(rows);
    assert_eq!(whole(&mut decompressor, &file, &RGB).unwrap(), expected);
}

#[test]
fn colours_that_cannot_be_given_are_an_error() {
    let ink = encoded(16, 16, PixelFormat::CMYK, Subsamp::None, false);
    assert!(sparse(&ink, &RGB).is_err());
    assert!(sparse(&baseline(), &Options { pixels: Pixels::Cmyk, ..RGB }).is_err());
    assert!(sparse(b"", &RGB).is_err());
}

#[test]
#[should_panic(expected = "rows from")]
fn more_rows_than_there_are_are_not_read() {
    let mut decompressor = Decompressor::new().unwrap();
    let file = baseline();
    let mut rows = decompressor.start(&file, &RGB).unwrap();
    rows.skip(49);
    let _ = rows.read(&mut [0; 2 * 180]);
}

#[test]
#[should_panic(expected = "bytes for rows of")]
fn part_of_a_row_is_not_read() {
    let mut decompressor = Decompressor::new().unwrap();
    let file = baseline();
    let _ = decompressor.start(&file, &RGB).unwrap().read(&mut [0; 181]);
}

#[test]
#[should_panic(expected = "pixels from")]
fn columns_outside_are_not_taken() {
    let mut decompressor = Decompressor::new().unwrap();
    let file = baseline();
    let _ = decompressor.start(&file, &RGB).unwrap().crop(59, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// What rows are left out decides nothing.
    #[test]
    fn a_patched_file_is_refused_by_all_who_read_it_or_by_none(
        file in any::<prop::sample::Index>(),
        scale in 0usize..4,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut files = written(37, 41);
        files.extend(patched());
        let mut file = files.swap_remove(file.index(files.len()));
        for (at, byte) in patches {
            let at = at.index(file.bytes.len());
            file.bytes[at] = byte;
        }
        let options = Options { cpu_ms_max: 5000, ..options(SCALES[scale], file.pixels) };
        let mut decompressor = Decompressor::new().unwrap();
        if decompressor.start(&file.bytes, &options).is_ok_and(|rows| rows.width() * rows.height() > 4_000_000) {
            return Ok(());
        }
        let found = whole(&mut decompressor, &file.bytes, &options).map(drop);
        prop_assert_eq!(sparse(&file.bytes, &options).map(drop), found.clone(), "{}", file.name);
        let skipped = decompressor.start(&file.bytes, &options).and_then(|rows| rows.finish()).map(drop);
        prop_assert_eq!(skipped, found, "{}", file.name);
    }
}
