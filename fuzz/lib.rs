//! What the fuzz targets share: one file a target in `targets/`, each with what it promises. `scripts/fuzz` runs them.

use framepipe_vision::{DecodeScale, Decoder, Header, Limits, Region, Rows, probe};

/// Small, so that a header's claim costs no time. The clock is not a fault of the bytes here: AddressSanitizer is slow.
pub const LIMITS: Limits =
    Limits { pixels_max: 1 << 18, side_max: 4096, scans_max: 20, metadata_bytes_max: 1 << 16, cpu_ms_max: 0 };

/// An image's pixels, and that a second decoder, which has just met other bytes, gives the same.
pub fn decode(bytes: &[u8]) -> Option<(Header, Vec<u8>)> {
    let header = probe(bytes, &LIMITS).ok()?;
    let mut first = vec![0; header.rgb_bytes(DecodeScale::Full)];
    let mut decoder = Decoder::new(LIMITS).expect("there is memory");
    let decoded = decoder.decode_rgb(bytes, &header, &mut first);
    let _ = decoder.decode_rgb(&bytes[..bytes.len() / 2], &header, &mut vec![0; first.len()]);
    let mut second = vec![255; first.len()];
    assert_eq!(decoder.decode_rgb(bytes, &header, &mut second), decoded, "the error is the same");
    decoded.ok()?;
    assert!(first == second, "pixels depend on what was decoded before, or are not written");
    Some((header, first))
}

/// The rows of a JPEG, those of every third, and a part of it, are those of the whole.
pub fn check_rows(bytes: &[u8]) {
    let Ok(header) = probe(bytes, &LIMITS) else { return };
    let whole = decode(bytes);
    let mut decoder = Decoder::new(LIMITS).expect("there is memory");
    for scale in [DecodeScale::Half, DecodeScale::Quarter, DecodeScale::Eighth] {
        let mut out = vec![0; header.rgb_bytes(scale)];
        let scaled = decoder.decode_scaled(bytes, &header, scale, &mut out);
        assert_eq!(scaled.is_ok(), whole.is_some(), "at {scale:?}: {scaled:?}");
    }
    if !Decoder::has_rows(&header) {
        return;
    }
    let row_bytes = 3 * header.width as usize;
    if let Ok(mut rows) = decoder.rows(bytes, &header, DecodeScale::Full) {
        let every_third = (0..header.height).step_by(3).all(|y| match (rows.row(y), &whole) {
            (Ok(row), Some((_, pixels))) => row == &pixels[y as usize * row_bytes..][..row_bytes],
            (Ok(_), None) => true,
            (Err(_), whole) => whole.is_none(),
        });
        assert!(every_third, "rows differ from those of the whole image");
        assert_eq!(rows.finish().is_ok(), whole.is_some(), "the end is read whatever rows were");
    }
    let middle = |side: u32| (side / 3, (side / 3 + side / 2 + 1).min(side));
    let ((left, right), (top, bottom)) = (middle(header.width), middle(header.height));
    let region = Region { left, top, right, bottom };
    let mut out = vec![0; region.rgb_bytes()];
    let decoded = decoder.decode_region(bytes, &header, &region, &mut out);
    if let Some((_, pixels)) = whole {
        decoded.expect("a part of a whole image");
        for (row, y) in out.chunks_exact(3 * region.width() as usize).zip(top..) {
            let at = y as usize * row_bytes + 3 * left as usize;
            assert!(row == &pixels[at..at + row.len()], "row {y} of the part differs from that of the whole image");
        }
    }
}
