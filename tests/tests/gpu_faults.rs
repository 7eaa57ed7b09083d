//! A GPU that is lost to a process, and one without memory. Skipped where there is no GPU, unless FRAMEPIPE_GPU_TESTS=require says that
//! there has to be one. They take all of the GPU's memory: to be run beside nothing else.
#![allow(unsafe_code, reason = "launches a kernel that is wrong")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use framepipe_gpu::{Buffer, GpuError, Int8Model, Module, Slab, frame_error, within_memory};
use framepipe_tests::{
    gpu::{device, hog},
    repository,
};

const MODEL: &str = "resnet18-a-224-random-int8";
const OUTPUT: &str = "logits";
/// Writes to where no memory is.
const WRONG: &str = "
    .version 6.5
    .target sm_75
    .address_size 64
    .visible .entry wrong(.param .u64 where) {
        .reg .u64 %address;
        ld.param.u64 %address, [where];
        st.global.u64 [%address], %address;
        ret;
    }
";
/// Says to this program that it is the process that loses its GPU.
const LOSES: &str = "FRAMEPIPE_TEST_LOSES_ITS_GPU";
/// How `Exit::Device` ends a process, as the launcher reads it.
const STATUS: i32 = 4;
/// Held by each test: one leaves no memory for another.
static GPU: Mutex<()> = Mutex::new(());

fn model_file() -> PathBuf {
    repository().join("models").join(MODEL).join("1/model.onnx")
}

fn run_one(model: &mut Int8Model) -> Vec<f32> {
    let (buffer, addresses) = model.samples(1).unwrap();
    let numbers: Vec<f32> = (0..model.sample_bytes() / 4).map(|index| (index as f32 / 977.0).sin()).collect();
    buffer.write(0, &numbers).unwrap();
    // SAFETY: a sample of the model lies there.
    unsafe { model.run(&addresses) }.unwrap();
    model.output(0, 0).to_vec()
}

#[test]
fn a_device_without_memory_is_an_error_and_gives_smaller_batches_when_it_has_some() {
    const BATCH: usize = 64;
    let _alone = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device() else { return };
    let mut whole = Int8Model::open(&device, &model_file(), &[OUTPUT], BATCH).unwrap();
    let (needed, expected) = (whole.device_bytes(), run_one(&mut whole));
    drop(whole);
    let mut taken = hog(&device);
    let open = |batch| Int8Model::open(&device, &model_file(), &[OUTPUT], batch);
    for error in
        [Buffer::new(&device, 64 << 20).err(), Slab::make(&device, 64 << 20).err(), within_memory(BATCH, open).err()]
    {
        let Some(GpuError::OutOfMemory { ref what, free: Some([free, total]) }) = error else {
            panic!("{error:?} is not that there is no memory")
        };
        println!("{what}: {free} of {total}");
        assert!(free < 64 << 20 && free < total, "{free} of {total} are free");
        assert!(error.unwrap().to_string().contains("lower batch_max"));
    }
    let mut free = 0;
    while free < needed / 2 {
        free += taken.pop().unwrap().bytes();
    }
    let mut smaller = within_memory(BATCH, open).unwrap();
    println!(
        "batches of {BATCH} need {needed} bytes; where {free} are free there are batches of {}",
        smaller.batch_max()
    );
    assert!((1..BATCH).contains(&smaller.batch_max()));
    assert_eq!(run_one(&mut smaller), expected);
}

#[test]
fn a_process_that_has_lost_its_gpu_knows_it_and_ends() {
    if std::env::var_os(LOSES).is_some() {
        lose();
    }
    let _alone = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(device) = device() else { return };
    let kept = Buffer::of(&device, &[7u64]).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_has_lost_its_gpu_knows_it_and_ends", "--nocapture"]);
    let output = command.env(LOSES, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(STATUS), "{said}");
    println!("{said}");
    // Other processes have theirs.
    let mut numbers = [0u64];
    kept.read(0, &mut numbers).unwrap();
    assert_eq!(numbers, [7]);
}

/// Loses the GPU, and ends as a stage does that meets it.
fn lose() {
    let device = device().unwrap();
    let buffer = Buffer::of(&device, &[1u64]).unwrap();
    let module = Module::load(&device, WRONG, WRONG).unwrap();
    // SAFETY: the parameter is the kernel's; what it does is the test.
    unsafe { module.function("wrong").unwrap().launch([1, 1, 1], 1, 0, &8u64) }.unwrap();
    let error = device.synchronize().unwrap_err();
    assert!(matches!(error, GpuError::Lost { .. }), "{error}");
    eprintln!("{error}");
    let after = buffer.read(0, &mut [0u64]).unwrap_err();
    assert!(matches!(after, GpuError::Lost { .. }), "and so it stays: {after}");
    frame_error(after);
    unreachable!("a stage whose GPU is lost has ended");
}
