use super::*;
use framepipe_frame::FrameError;
use framepipe_vision::{Decoder, Limits, generate::noise, probe};
use proptest::prelude::*;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

fn jpeg(subsampling: Subsamp, is_progressive: bool) -> Vec<u8> {
    let (width, height) = (37, 29);
    let pixels = noise(3, 3 * width * height);
    let mut compressor = Compressor::new().unwrap();
    compressor.set_subsamp(subsampling).unwrap();
    compressor.set_quality(85).unwrap();
    compressor.set_progressive(is_progressive).unwrap();
    let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format: PixelFormat::RGB };
    compressor.compress_to_vec(image).unwrap()
}

/// A grey image of 6 blocks, 2 between restart markers, whose data are `compressed`; a block is two bits, 0 and 0.
fn with_restarts(compressed: &[u8]) -> Vec<u8> {
    with_symbol(0, compressed)
}

/// The same, where the only code behind a block's first number means `symbol`.
fn with_symbol(symbol: u8, compressed: &[u8]) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8, 0xff, DQT, 0, 67, 0];
    file.extend([1; 64]);
    file.extend([0xff, SOF0, 0, 11, 8, 0, 16, 0, 20, 1, 1, 0x22, 0]);
    for (which, symbol) in [(0x00, 0), (0x10, symbol)] {
        file.extend([0xff, DHT, 0, 20, which, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, symbol]);
    }
    file.extend([0xff, DRI, 0, 4, 0, 2, 0xff, SOS, 0, 8, 1, 1, 0, 0, 63, 0]);
    file.extend(compressed);
    file
}

const WHOLE: [u8; 9] = [0x0f, 0xff, 0xd0, 0x0f, 0xff, 0xd1, 0x0f, 0xff, EOI];

fn on_cpu(file: &[u8]) -> Result<(), FrameError> {
    let header = probe(file, &Limits::default())?;
    let mut pixels = vec![0; header.rgb_bytes(Default::default())];
    Decoder::new(Limits::default())?.decode_rgb(file, &header, &mut pixels)
}

#[test]
fn whole_baseline_files_are_sound() {
    for subsampling in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Gray] {
        let mut file = jpeg(subsampling, false);
        assert_eq!(check(&file), Ok(()), "{subsampling:?}");
        file.extend(b"what lies behind the end");
        assert_eq!(check(&file), Ok(()), "{subsampling:?}");
        assert_eq!(check(&jpeg(subsampling, true)), Err("it is not a baseline JPEG"), "{subsampling:?}");
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_not() {
    let file = jpeg(Subsamp::Sub2x2, false);
    for length in 0..file.len() {
        assert!(check(&file[..length]).is_err(), "{length} bytes of {}", file.len());
    }
}

#[test]
fn restart_markers_are_all_there_and_in_order() {
    assert_eq!(on_cpu(&with_restarts(&WHOLE)), Ok(()));
    let check = |compressed: &[u8]| check(&with_restarts(compressed));
    assert_eq!(check(&WHOLE), Ok(()));
    assert_eq!(check(&[0x0f, 0xff, 0xd0, 0x0f, 0xff, EOI]), Err("a restart marker is missing"));
    assert_eq!(check(&[0x0f, 0xff, 0xd1, 0x0f, 0xff, 0xd0, 0x0f, 0xff, EOI]), Err("a restart marker is missing"));
    assert_eq!(check(&[0x0f, 0xff, 0xd0, 0x0f, 0xff, 0xd1, 0x0f, 0xff, SOS]), Err("it goes on behind its scan"));
    assert_eq!(check(&WHOLE[..7]), Err("it has no end marker"));
    assert_eq!(check(&[0x0f, 0xff, 0xd0, 0x0f, 0xff, 0xd1, 0xff, EOI]), Err("its compressed data end too early"));
    assert_eq!(check(&[0x4f, 0xff, 0xd0]), Err("its compressed data hold what is no code"));
    assert_eq!(
        check(&[0x0f, 1, 0xff, 0xd0, 0x0f, 0xff, 0xd1, 0x0f, 0xff, EOI]),
        Err("its compressed data go on behind their end")
    );
}

#[test]
fn a_block_has_no_more_numbers_than_places() {
    // Two zeros and a number, 21 times, are the 63 behind a block's first. That is 43 bits, of two blocks 86.
    let third = [0; 11];
    let whole = [&third[..], &[0xff, 0xd0], &third, &[0xff, 0xd1], &third, &[0xff, EOI]].concat();
    assert_eq!(check(&with_symbol(0x21, &whole)), Ok(()));
    // Fifteen zeros and a number four times are 64.
    assert_eq!(check(&with_symbol(0xf1, &whole)), Err("a block has too many numbers"));
}

#[test]
fn a_table_that_is_missing_is_seen() {
    let mut file = with_restarts(&WHOLE);
    let quantisation = file.windows(2).position(|pair| pair == [0xff, DQT]).unwrap();
    file[quantisation + 4] = 1;
    assert_eq!(check(&file), Err("a table is missing"));
    let none = [0; 16];
    let more_than_there_are = {
        let mut counts = none;
        counts[0] = 3;
        counts
    };
    assert!(Codes::new(&more_than_there_are, &[1, 2, 3], false).is_err());
    let one = {
        let mut counts = none;
        counts[0] = 1;
        counts
    };
    assert!(Codes::new(&one, &[16], true).is_err() && Codes::new(&one, &[16], false).is_ok());
}

/// How a file is broken: where, and what becomes of the bytes there.
#[derive(Clone, Debug)]
enum Damage {
    Flip(u8),
    Drop(usize),
    Insert(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0u32..8).prop_map(|bit| Damage::Flip(1 << bit)),
        any::<u8>().prop_map(Damage::Flip),
        (1usize..50).prop_map(Damage::Drop),
        Just(Damage::Drop(usize::MAX)),
        any::<u8>().prop_map(Damage::Insert),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// That is why nvJPEG, which is not strict, may have what is sound.
    #[test]
    fn what_is_sound_is_taken_by_the_cpu(
        subsampling in prop_oneof![Just(Subsamp::None), Just(Subsamp::Sub2x1), Just(Subsamp::Sub2x2), Just(Subsamp::Gray)],
        at in 0.0f64..1.0,
        in_data in prop::bool::weighted(0.8),
        damage in damage(),
        restarts in prop::bool::weighted(0.1),
    ) {
        let mut file = if restarts { with_restarts(&WHOLE) } else { jpeg(subsampling, false) };
        let data = file.windows(2).position(|pair| pair == [0xff, SOS]).unwrap() + 8;
        let from = if in_data { data } else { 0 };
        let at = from + (at * (file.len() - 2 - from) as f64) as usize;
        match damage {
            Damage::Flip(bits) => file[at] ^= bits,
            // The end marker stays.
            Damage::Drop(count) => drop(file.drain(at..at.saturating_add(count).min(file.len() - 2))),
            Damage::Insert(byte) => file.insert(at, byte),
        }
        if check(&file).is_ok() {
            prop_assert_eq!(on_cpu(&file), Ok(()), "byte {} of {}", at, file.len());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200) {
        let _ = check(&bytes);
        let mut file = with_restarts(&WHOLE);
        let at = at.min(file.len());
        file.splice(at..at, bytes);
        let _ = check(&file);
    }
}
