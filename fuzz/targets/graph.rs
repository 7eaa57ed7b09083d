//! The `[input]` table of a manifest: an error or a plan, whose tensor has a bounded size and whose text compiles to it.
#![no_main]

use framepipe_vision::{InputSpec, graph::SIDE_MAX};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(spec) = toml::from_str::<InputSpec>(text) else { return };
    let Ok(input) = spec.clone().compile() else { return };
    let side = SIDE_MAX as usize;
    assert!(input.plan.shape().iter().all(|length| (1..=side).contains(length)), "{:?}", input.plan.shape());
    assert!(input.plan.tensor_bytes() <= 3 * side * side * input.plan.dtype().bytes());
    let written = toml::to_string(&spec).expect("what was read can be written");
    let again = toml::from_str::<InputSpec>(&written).expect("what was written can be read");
    assert_eq!(again.compile().expect("it compiled before").plan.shape(), input.plan.shape(), "{written}");
});
