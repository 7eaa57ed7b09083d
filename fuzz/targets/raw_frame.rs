//! Raw frames: a geometry that was accepted has every row within the bytes. 16 bytes of geometry, then pixels.
#![no_main]

use framepipe_frame::RawFrame;
use framepipe_vision::RawView;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((geometry, pixels)) = bytes.split_first_chunk::<16>() else { return };
    let raw: RawFrame = bytemuck::pod_read_unaligned(geometry);
    let Ok(view) = RawView::of(pixels, &raw) else { return };
    let needed = raw.bytes().expect("a geometry that was accepted has a size");
    assert!(needed <= pixels.len() as u64, "{raw:?} in {} bytes", pixels.len());
    match view {
        RawView::Packed(view) => {
            let read: usize = (0..view.height()).map(|y| view.row(y).len()).sum();
            assert_eq!(read, view.order().pixel_bytes() * (raw.width as usize * raw.height as usize));
        }
        RawView::Planar(view) => view.write_rgb(&mut vec![0; view.rgb_bytes()]),
    }
});
