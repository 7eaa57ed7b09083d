//! The program of a graph against ONNX Runtime, on the host; and the kernels against the program's twin, where there is a GPU.

use std::path::{Path, PathBuf};

use framepipe_infer::{CpuModel, ModelFile, Options, Runtime, Samples};
use framepipe_model::Manifest;

use prost::Message as _;

use super::graph::{Operator, Program, Then};
use super::onnx::{Attribute, GraphProto, ModelProto, Node, ValueInfo};
use super::tiles::Tiles;
use super::{lower, twin};
use crate::{Choice, Device, GpuError, Int8Model};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The file of a model of the repository, which scripts/setup makes.
fn model_file(name: &str) -> PathBuf {
    let models = std::env::var_os("FRAMEPIPE_MODELS").map_or_else(|| root().join("models"), PathBuf::from);
    models.join(name).join("1/model.onnx")
}

/// Numbers like those of a normalised image: a slow wave and noise, other ones for each seed.
fn sample(program: &Program, seed: u64) -> Vec<f32> {
    let [channels, height, width] = program.input;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..channels * height * width)
        .map(|index| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let noise = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            let (y, x) = ((index / width % height) as f32, (index % width) as f32);
            1.2 * ((y + seed as f32) / 31.0).sin() * (x / 17.0).cos() + noise
        })
        .collect()
}

/// Where two lists of numbers differ: their cosine, and the largest difference as part of the largest number.
fn compare(ours: &[f32], theirs: &[f32]) -> (f32, f32) {
    assert_eq!(ours.len(), theirs.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
    let most = theirs.iter().fold(f32::MIN_POSITIVE, |most, number| most.max(number.abs()));
    let difference = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    (cosine as f32, difference / most)
}

/// The program of a graph puts out what ONNX Runtime puts out of the graph. That fuses and rounds some operators in its own
/// way (a sum of two tensors, a bilinear enlargement), by a step here and there, which later layers spread.
#[test]
fn a_program_says_what_onnx_runtime_says() {
    let runtime = Runtime::load(&root().join("build/lib/libonnxruntime.so")).expect("run scripts/setup");
    for (name, cosine_min) in [("resnet18-a-224-random-int8", 0.9999), ("nanodet416-4c-int8", 0.9995)] {
        let file = model_file(name);
        let program = lower::program(&file).unwrap();
        let manifest = Manifest::load(file.parent().expect("a model lies in a folder")).unwrap();
        let outputs: Vec<&str> = program.outputs.iter().map(|output| &output.name[..]).collect();
        let options = Options { threads: 2, batch_max: 1 };
        let model = ModelFile { path: &file, sha256: &manifest.sha256 };
        let mut model = CpuModel::open(&runtime, model, &manifest.input, &outputs, options).unwrap();
        let sample = sample(&program, 7);
        let ours = twin::run(&program, &sample);
        let theirs = model.run(1, Samples::F32(&sample)).unwrap();
        for (index, ours) in ours.iter().enumerate() {
            let (shape, numbers) = theirs.sample(index, 0);
            assert_eq!(shape, program.outputs[index].shape, "{name}: {}", outputs[index]);
            let (cosine, difference) = compare(ours, numbers);
            println!(
                "{name}: {}: cosine {cosine}, largest difference {difference} of the largest number",
                outputs[index]
            );
            assert!(cosine > cosine_min, "{name}: {}: cosine {cosine}, difference {difference}", outputs[index]);
        }
    }
}

#[test]
fn sums_and_functions_become_part_of_the_convolutions() {
    let count = |program: &Program, is: fn(&Operator) -> bool| program.operators.iter().filter(|op| is(op)).count();
    let resnet = lower::program(&model_file("resnet18-4class-416-random-int8")).unwrap();
    assert_eq!(count(&resnet, |op| matches!(op, Operator::Add { .. })), 0);
    assert_eq!(count(&resnet, |op| matches!(op, Operator::Conv(conv) if matches!(conv.then, Then::Add(_)))), 8);
    assert_eq!(resnet.operators.len(), 26, "24 convolutions, the gathered input, a pool");
    assert_eq!(resnet.macs() / 1_000_000, 6_858);
    let nanodet = lower::program(&model_file("nanodet416-4c-int8")).unwrap();
    assert_eq!(
        count(&nanodet, |op| matches!(op, Operator::Conv(conv) if matches!(conv.then, Then::LeakyRelu(_)))),
        28,
        "LeakyRelu"
    );
}

#[test]
fn a_graph_that_cannot_be_run_says_which_operator_and_what_to_do() {
    let error = |name: &str| lower::program(&model_file(name)).unwrap_err().to_string();
    let float = error("tiny-face-416");
    assert!(float.contains("Conv") && float.contains("not quantised"), "{float}");
    let missing = error("there-is-none");
    assert!(missing.contains("there-is-none") && missing.contains("No such file"), "{missing}");
    let garbage = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(garbage.path(), [0xff; 64]).unwrap();
    assert!(lower::program(garbage.path()).unwrap_err().to_string().contains("is no ONNX file"));
}

/// A file that was damaged where its operators are, by some bytes at random, is an error or another program: never a panic.
#[test]
fn a_damaged_graph_is_an_error_or_a_program() {
    /// Operators lie at a file's start, weights behind them.
    const OPERATORS_BYTES: usize = 40_000;
    const FILES: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let mut errors = 0;
    for name in ["nanodet416-4c-int8", "resnet18-a-224-random-int8"] {
        let whole = std::fs::read(model_file(name)).unwrap();
        for seed in 1..=FILES / 2 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as usize >> 8
            };
            let mut bytes = whole.clone();
            for _ in 0..1 + random() % 6 {
                bytes[random() % OPERATORS_BYTES] = random() as u8;
            }
            std::fs::write(&file, &bytes).unwrap();
            errors += u64::from(lower::program(&file).is_err());
        }
    }
    println!("{errors} of {FILES} are errors");
    assert!((FILES / 4..FILES).contains(&errors), "damage is seen, and not all of it makes a graph unusable: {errors}");
}

/// A model's file, changed by `change` and written anew.
fn changed(name: &str, change: impl FnOnce(&mut GraphProto)) -> tempfile::NamedTempFile {
    let mut model = ModelProto::decode(&std::fs::read(model_file(name)).unwrap()[..]).unwrap();
    change(model.graph.as_mut().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), model.encode_to_vec()).unwrap();
    file
}

/// A sum that is quantised twice, as there are exporters that quantise for each reader, is the same sum twice.
#[test]
fn what_is_quantised_twice_is_made_twice() {
    const MODEL: &str = "resnet18-a-224-random-int8";
    let file = changed(MODEL, |graph| {
        let sum = graph.node.iter().find(|node| node.op_type == "Add").unwrap().output[0].clone();
        let of = |node: &&Node, kind: &str, input: &str| node.op_type == kind && node.input[0] == input;
        let mut quantize = graph.node.iter().find(|node| of(node, "QuantizeLinear", &sum)).unwrap().clone();
        let mut dequantize =
            graph.node.iter().find(|node| of(node, "DequantizeLinear", &quantize.output[0])).unwrap().clone();
        let first = dequantize.output[0].clone();
        (quantize.output[0], dequantize.input[0]) = ("twice".into(), "twice".into());
        dequantize.output[0] = "again".into();
        // Behind the first, which is read by then.
        let at = graph.node.iter().position(|node| node.input.contains(&first)).unwrap();
        graph.node.splice(at + 1..at + 1, [quantize, dequantize]);
        let named = |name: String| ValueInfo { name, ..graph.output[0].clone() };
        let outputs = [named(first), named("again".into())];
        graph.output.extend(outputs);
    });
    let (whole, twice) = (lower::program(&model_file(MODEL)).unwrap(), lower::program(file.path()).unwrap());
    let sample = sample(&whole, 3);
    let (whole, twice) = (twin::run(&whole, &sample), twin::run(&twice, &sample));
    assert_eq!(whole[0], twice[0]);
    assert_eq!(twice[1], twice[2]);
    assert!(twice[1].iter().any(|number| *number > 0.0));
}

/// What a graph says and is not heeded is an error: numbers that are wrong without a word are the worst.
#[test]
fn what_is_not_heeded_is_refused() {
    let refused = |change: &dyn Fn(&mut GraphProto)| {
        let file = changed("nanodet416-4c-int8", |graph| change(graph));
        lower::program(file.path()).expect_err("it is not heeded").to_string()
    };
    let dilated = refused(&|graph| {
        let pool = graph.node.iter_mut().find(|node| node.op_type == "MaxPool").unwrap();
        pool.attribute.push(Attribute { name: "dilations".into(), ints: vec![2, 2], ..Attribute::default() });
    });
    assert!(dilated.contains("MaxPool") && dilated.contains("dilations"), "{dilated}");
    let biased = refused(&|graph| {
        let conv = graph.node.iter().find(|node| node.op_type == "Conv").unwrap();
        let bias = conv.input[2].clone();
        let scale = graph.node.iter().find(|node| node.output[0] == bias).unwrap().input[1].clone();
        let scale = graph.initializer.iter_mut().find(|constant| constant.name == scale).unwrap();
        scale.raw_data.chunks_exact_mut(4).for_each(|number| {
            let doubled = 2.0 * f32::from_le_bytes(number.try_into().expect("four bytes"));
            number.copy_from_slice(&doubled.to_le_bytes());
        });
        assert!(!scale.raw_data.is_empty());
    });
    assert!(biased.contains("biases"), "{biased}");
    let resized = refused(&|graph| {
        let resize = graph.node.iter_mut().find(|node| node.op_type == "Resize").unwrap();
        resize.attribute.retain(|attribute| attribute.name != "coordinate_transformation_mode");
        let mode = Attribute {
            name: "coordinate_transformation_mode".into(),
            s: b"asymmetric".to_vec(),
            ..Attribute::default()
        };
        resize.attribute.push(mode);
    });
    assert!(resized.contains("Resize") && resized.contains("half_pixel"), "{resized}");
    let split = refused(&|graph| {
        let split = graph.node.iter_mut().find(|node| node.op_type == "Split").unwrap();
        let sizes = split.input[1].clone();
        let sizes = graph.initializer.iter_mut().find(|constant| constant.name == sizes).unwrap();
        let huge = [i64::MAX, i64::MAX, 50].map(i64::to_le_bytes);
        (sizes.dims, sizes.raw_data) = (vec![3], huge.concat());
    });
    assert!(split.contains("Split"), "{split}");
}

/// The device, or none where there is no GPU, unless FRAMEPIPE_GPU_TESTS says that there has to be one.
fn device(compute_capability: Option<(i32, i32)>) -> Option<Device> {
    let opened = match compute_capability {
        None => Device::open(&Choice::First),
        Some(pretended) => Device::open_as(&Choice::First, pretended),
    };
    match opened {
        Ok(device) => Some(device),
        Err(GpuError::Unavailable(reason)) if std::env::var("FRAMEPIPE_GPU_TESTS").as_deref() != Ok("require") => {
            println!("skipped: {reason}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Every kernel gives each sample of every batch the numbers of the twin, to the last bit.
#[test]
fn the_gpu_says_what_the_twin_says() {
    let Some(device) = device(None) else { return };
    compare_with_twin(&device, &["resnet18-a-224-random-int8", "nanodet416-4c-int8"]);
}

#[test]
fn a_larger_model_on_the_gpu_says_what_its_twin_says() {
    let Some(device) = device(None) else { return };
    compare_with_twin(&device, &["resnet18-4class-416-random-int8"]);
}

/// So do the kernels for Turing (T4), on whatever device there is.
#[test]
fn the_kernels_for_turing_say_what_the_twin_says() {
    let Some(device) = device(Some((7, 5))) else { return };
    compare_with_twin(&device, &["resnet18-a-224-random-int8", "nanodet416-4c-int8"]);
}

fn compare_with_twin(device: &Device, names: &[&str]) {
    for name in names {
        let file = model_file(name);
        let program = lower::program(&file).unwrap();
        let outputs: Vec<&str> = program.outputs.iter().map(|output| &output.name[..]).collect();
        let mut model = Int8Model::open(device, &file, &outputs, 3).unwrap();
        let inputs: Vec<Vec<f32>> = (1..=3).map(|seed| sample(&program, seed)).collect();
        let expected: Vec<Vec<Vec<f32>>> = inputs.iter().map(|input| twin::run(&program, input)).collect();
        let (buffer, addresses) = model.samples(3).unwrap();
        for (index, input) in inputs.iter().enumerate() {
            buffer.write(index * model.sample_bytes(), input).unwrap();
        }
        for tile in [None].into_iter().chain((0..Tiles::COUNT).map(Some)) {
            if let Some(tile) = tile {
                model.plan.use_tile(tile);
                model.recorded = (1..=3).map(|batch| model.record(batch)).collect::<Result<_, _>>().unwrap();
            }
            for batch in [&[0][..], &[2, 1], &[1, 0, 2]] {
                let chosen: Vec<u64> = batch.iter().map(|index| addresses[*index]).collect();
                // SAFETY: samples of this model lie there.
                unsafe { model.run(&chosen) }.unwrap();
                for (place, index) in batch.iter().enumerate() {
                    for (output, expected) in expected[*index].iter().enumerate() {
                        let ours = model.output(output, place);
                        let wrong =
                            ours.iter().zip(expected).filter(|(ours, theirs)| !are_same(**ours, **theirs)).count();
                        assert_eq!(
                            wrong,
                            0,
                            "{name}, tile {tile:?}, batch {batch:?}, sample {index}, {}: of {}",
                            outputs[output],
                            ours.len()
                        );
                    }
                }
            }
        }
    }
}

/// Equal, or as far apart as two ways to sum up in f32 (the heads in f32 alone).
fn are_same(ours: f32, theirs: f32) -> bool {
    (ours - theirs).abs() <= 1e-4 * theirs.abs().max(1.0)
}
