//! What lies in slots and descriptors, written by another process: an error or records within the bytes.
#![no_main]

use framepipe_frame::{Descriptor, Request, attributes, detections, masks, raw};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Slots are aligned.
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    let slot: &[u8] = &bytemuck::cast_slice(&words)[..bytes.len()];
    if let Ok(found) = detections::read(slot) {
        assert!(size_of_val(found) <= slot.len());
    }
    if let Ok(bytes) = detections::read_masks(slot) {
        assert!(bytes.len() <= slot.len());
    }
    let runs: usize = masks::masks(slot).map_while(Result::ok).map(|(_, runs)| runs.len()).sum();
    assert!(runs <= slot.len());
    let numbers: usize = attributes::entries(slot).map_while(Result::ok).map(|(_, numbers)| numbers.len()).sum();
    assert!(4 * numbers <= slot.len());
    if let Ok(outputs) = raw::read(slot) {
        let numbers: usize = outputs.iter().map(|output| output.numbers.len()).sum();
        assert!(4 * numbers <= slot.len());
        assert!(outputs.iter().all(|output| output.shape.iter().product::<usize>() == output.numbers.len()));
    }
    if let Some(bytes) = slot.get(..size_of::<Descriptor>()) {
        let descriptor: Descriptor = bytemuck::pod_read_unaligned(bytes);
        if descriptor.check().is_ok() {
            assert!(descriptor.error().is_some() == (descriptor.error_code != 0));
        }
    }
    if let Some(bytes) = slot.get(..size_of::<Request>()) {
        let request: Request = bytemuck::pod_read_unaligned(bytes);
        let _ = (request.path.as_str(), request.name.as_str(), request.stream.as_str(), request.raw.bytes());
    }
});
