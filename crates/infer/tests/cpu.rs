//! [`CpuModel`] against the real engine, on graphs whose answers are known by hand.

mod support;

use std::path::Path;

use framepipe_infer::{CpuModel, InferError, ModelFile, Options, Runtime, Samples};
use framepipe_vision::Input;
use support::*;

fn ramp(batch: usize) -> Vec<f32> {
    (0..batch * SAMPLE).map(|index| index as f32).collect()
}

/// The sum of the 3x3 windows of all channels of a sample of `ramp`, at `row` and `column`.
fn window_sum(sample: usize, row: usize, column: usize) -> f32 {
    let at = |channel: usize, y: usize, x: usize| (sample * SAMPLE + (channel * SIDE + y) * SIDE + x) as f32;
    (0..27).map(|k| at(k / 9, row + k / 3 % 3, column + k % 3)).sum()
}

#[test]
fn every_batch_gives_each_sample_its_own_answer_in_the_order_asked_for() {
    let mut model = open(&arithmetic(BATCH), &["sums", "double"], 4).unwrap();
    for batch in [4, 1, 3, 2] {
        let numbers = ramp(batch);
        let mut seen = Vec::new();
        model
            .run_f32(batch, &numbers, |output, shape, values| match output {
                0 => {
                    assert_eq!(shape, [batch, 1, 2, 2]);
                    for (index, value) in values.iter().enumerate() {
                        assert_eq!(*value, window_sum(index / 4, index / 2 % 2, index % 2));
                    }
                    seen.push(output);
                }
                _ => {
                    assert_eq!(shape, [batch, 3, SIDE, SIDE]);
                    assert!(values.iter().zip(&numbers).all(|(double, number)| *double == 2.0 * number));
                    seen.push(output);
                }
            })
            .unwrap();
        assert_eq!(seen, [0, 1]);
    }
    let numbers = ramp(3);
    let outputs = model.run(3, Samples::F32(&numbers)).unwrap();
    assert_eq!((outputs.len(), outputs.batch(), outputs.is_empty()), (2, 3, false));
    let (shape, values) = outputs.sample(0, 2);
    assert_eq!((shape, values[3]), (&[1, 2, 2][..], window_sum(2, 1, 1)));
}

#[test]
fn bytes_go_in_as_they_are() {
    let image = [BATCH, Fixed(3), Fixed(4), Fixed(4)];
    let graph = Graph::default()
        .input("images", U8, &image)
        .node("Cast", &["images"], "levels", &[("to", F32)])
        .output("levels", F32, &image);
    let mut model = File::new(&graph.file()).open(&input("u8"), &["levels"], 2).unwrap();
    model.warm_up(&[]).unwrap();
    let bytes: Vec<u8> = (0..2 * SAMPLE).map(|index| (index * 5 % 256) as u8).collect();
    let mut runs = 0;
    model
        .run_u8(2, &bytes, |_, shape, levels| {
            assert_eq!(shape, [2, 3, SIDE, SIDE]);
            assert!(levels.iter().zip(&bytes).all(|(level, byte)| *level == f32::from(*byte)));
            runs += 1;
        })
        .unwrap();
    assert_eq!(runs, 1);
    let error = model.run_f32(2, &ramp(2), |_, _, _| ()).unwrap_err();
    assert_eq!(error.to_string(), "a batch of 2 needs 96 numbers of U8, got 96 of F32");
}

#[test]
fn warm_up_learns_the_shapes_of_one_sample() {
    let mut model = open(&arithmetic(BATCH), &["double", "sums"], 4).unwrap();
    assert!(model.output_shapes().is_empty());
    model.warm_up(&[2, 3]).unwrap();
    assert_eq!(model.output_shapes(), [vec![3, SIDE, SIDE], vec![1, 2, 2]]);
    let error = model.warm_up(&[5]).unwrap_err();
    assert_eq!(error, InferError::Batch { batch: 5, batch_max: 4 });
}

#[test]
fn a_model_fixed_to_one_sample_clamps_the_batch() {
    let mut model = open(&arithmetic(Fixed(1)), &["sums"], 8).unwrap();
    assert_eq!(model.batch_max(), 1);
    model.warm_up(&[]).unwrap();
    assert_eq!(model.run_f32(2, &ramp(2), |_, _, _| ()), Err(InferError::Batch { batch: 2, batch_max: 1 }));
    assert_eq!(open(&arithmetic(BATCH), &["sums"], 8).unwrap().batch_max(), 8);
    let error = open(&arithmetic(Fixed(2)), &["sums"], 8).unwrap_err().to_string();
    assert!(error.contains("a batch that is open, or 1"), "{error}");
}

#[test]
fn a_contract_that_the_model_does_not_keep_is_named_at_open() {
    let file = File::new(&arithmetic(BATCH));
    let good = input("f32");
    let refused = |input: &Input, outputs: &[&str]| file.open(input, outputs, 1).unwrap_err().to_string();

    let error = refused(&input_of("pictures", SIDE, "nchw", "f32"), &["sums"]);
    assert!(error.contains(r#"has no input "pictures", but "images""#), "{error}");
    let error = refused(&good, &["sums", "boxes"]);
    assert!(error.contains(r#"has no output "boxes", but "double", "sums", "counts", "few""#), "{error}");
    let error = open(&rows(), &["bytes"], 1).unwrap_err().to_string();
    assert!(error.contains(r#"the output "bytes" is"#) && error.contains("not a tensor of f32, i64 or i32"), "{error}");
    let error = refused(&input_of("images", 5, "nchw", "f32"), &["sums"]);
    assert!(error.contains("not a tensor of f32 [batch, 3, 4, 5]"), "{error}");
    let error = refused(&input_of("images", 5, "nhwc", "f32"), &["sums"]);
    assert!(error.contains("not a tensor of f32 [batch, 4, 5, 3]"), "{error}");
    let error = refused(&input("u8"), &["sums"]);
    assert!(error.contains("not a tensor of u8 [batch, 3, 4, 4]"), "{error}");

    let two_inputs = Graph::default()
        .input("images", F32, &[BATCH, Fixed(3), Fixed(4), Fixed(4)])
        .input("scale", F32, &[Fixed(1)])
        .node("Mul", &["images", "scale"], "double", &[])
        .output("double", F32, &[BATCH, Fixed(3), Fixed(4), Fixed(4)]);
    let error = open(&two_inputs.file(), &["double"], 1).unwrap_err();
    assert!(matches!(error, InferError::SeveralInputs { .. }), "{error}");
    for options in [(0, 1), (1, 0), (1, 5000)] {
        let options = Options { threads: options.0, batch_max: options.1 };
        let error = CpuModel::open(&runtime(), nowhere("model.onnx"), &good, &["sums"], options).unwrap_err();
        assert!(matches!(error, InferError::Option { .. }), "{error}");
    }
}

#[test]
fn samples_of_another_count_never_reach_the_engine() {
    let mut model = open(&arithmetic(BATCH), &["sums"], 2).unwrap();
    for (batch, length) in [(1, SAMPLE - 1), (1, SAMPLE + 1), (2, SAMPLE), (1, 0)] {
        let error = model.run_f32(batch, &vec![0.0; length], |_, _, _| ()).unwrap_err();
        assert!(matches!(error, InferError::Samples { .. }), "{error}");
    }
    for batch in [0, 3, usize::MAX] {
        let error = model.run_f32(batch, &ramp(1), |_, _, _| ()).unwrap_err();
        assert_eq!(error, InferError::Batch { batch, batch_max: 2 });
    }
}

#[test]
fn an_engine_that_fails_is_an_error_and_the_model_lives_on() {
    let mut model = open(&reshaped(&[-1, 7]), &["flat"], 7).unwrap();
    let error = model.run_f32(1, &ramp(1), |_, _, _| panic!("nothing came out")).unwrap_err();
    assert!(matches!(error, InferError::Run { .. }), "{error}");
    let mut model = open(&reshaped(&[0, -1]), &["flat"], 7).unwrap();
    model.warm_up(&[]).unwrap();
    assert_eq!(model.output_shapes(), [vec![SAMPLE]]);
}

#[test]
fn whole_numbers_come_out_as_f32_which_holds_them_exactly() {
    for output in ["counts", "few"] {
        let mut model = open(&arithmetic(BATCH), &[output, "double"], 2).unwrap();
        model.warm_up(&[]).unwrap();
        assert_eq!(model.output_shapes(), [[3, SIDE, SIDE], [3, SIDE, SIDE]]);
        let mut numbers = ramp(2);
        (numbers[SAMPLE], numbers[SAMPLE + 1]) = (16_777_216.0, -16_777_216.0);
        let outputs = model.run(2, Samples::F32(&numbers)).unwrap();
        assert_eq!(outputs.sample(0, 1).1, &numbers[SAMPLE..]);
        assert_eq!(outputs.sample(1, 1).1[2], 2.0 * numbers[SAMPLE + 2]);
        drop(outputs);
        for beyond in [16_777_218.0, -16_777_218.0] {
            numbers[3] = beyond;
            let error = model.run(2, Samples::F32(&numbers)).err().expect(output).to_string();
            assert!(error.contains(&format!("{output:?} has the number {beyond:.0}")), "{error}");
        }
    }
}

/// An image that is not zero at these places.
fn image_of(places: &[usize]) -> Vec<f32> {
    (0..SAMPLE).map(|place| f32::from(places.contains(&place))).collect()
}

#[test]
fn outputs_of_any_number_of_rows_are_filled_up_with_zeroes() {
    let shapes = [vec![3, 3], vec![3, 3]];
    let mut model = open(&rows(), &["floats", "places"], 8).unwrap().filled_up(Some(&shapes));
    model.warm_up(&[]).unwrap();
    assert_eq!((model.batch_max(), model.output_shapes()), (1, &shapes[..]));
    // The third place of a run is not left to the next.
    for (places, expected) in [
        (&[1, 22, 47][..], [0., 0., 1., 1., 1., 2., 2., 3., 3.]),
        (&[47], [2., 3., 3., 0., 0., 0., 0., 0., 0.]),
        (&[], [0.; 9]),
    ] {
        let image = image_of(places);
        let outputs = model.run(1, Samples::F32(&image)).unwrap();
        for output in 0..2 {
            assert_eq!(outputs.tensor(output).0, [1, 3, 3]);
            assert_eq!(outputs.sample(output, 0), (&[3, 3][..], &expected[..]), "{places:?}");
        }
    }
}

#[test]
fn more_rows_than_there_may_be_fail_the_run_and_not_the_next() {
    let mut model = open(&rows(), &["places"], 1).unwrap().filled_up(Some(&[vec![2, 3]]));
    let crowd = image_of(&[1, 2, 3]);
    let error = model.run(1, Samples::F32(&crowd)).err().expect("three rows do not fit").to_string();
    assert!(error.contains("[3, 3], more rows than those of [2, 3]: raise"), "{error}");
    assert!(model.run(1, Samples::F32(&image_of(&[1, 2]))).is_ok());
    for shape in [vec![3], vec![3, 4], vec![3, 3, 1], vec![]] {
        let mut model = open(&rows(), &["places"], 1).unwrap().filled_up(Some(&[shape]));
        let error = model.run(1, Samples::F32(&crowd)).err().expect("they are rows of 3").to_string();
        assert!(error.contains("correct the manifest"), "{error}");
    }
}

#[test]
fn outputs_that_mix_the_samples_are_refused() {
    let mut model = open(&reshaped(&[-1]), &["flat"], 2).unwrap();
    let error = model.warm_up(&[]).unwrap_err().to_string();
    assert!(error.contains(r#"the output "flat" is [96], its first size is not the batch of 2"#), "{error}");
    // Always [2, n, 4]: right by its first size for 2 samples, wrong for 1.
    let mut model = open(&reshaped(&[2, -1, 4]), &["flat"], 2).unwrap();
    assert!(model.run_f32(2, &ramp(2), |_, _, _| ()).is_ok());
    assert!(model.run_f32(1, &ramp(1), |_, _, _| ()).is_err());
}

#[test]
fn files_that_are_no_model_are_errors() {
    let garbage = open(b"this is no model", &["sums"], 1).unwrap_err();
    assert!(matches!(garbage, InferError::Open { .. }), "{garbage}");
    let whole = arithmetic(BATCH);
    let cut = open(&whole[..whole.len() / 2], &["sums"], 1).unwrap_err();
    assert!(matches!(cut, InferError::Open { .. }), "{cut}");
    let options = Options { threads: 1, batch_max: 1 };
    let missing = CpuModel::open(&runtime(), nowhere("/nowhere/model.onnx"), &input("f32"), &[], options).unwrap_err();
    assert!(missing.to_string().contains("run scripts/setup"), "{missing}");
    let image = [BATCH, Fixed(3), Fixed(4), Fixed(4)];
    let unknown = Graph::default()
        .input("images", F32, &image)
        .node("FlashAttention9", &["images"], "sums", &[])
        .output("sums", F32, &image);
    let unknown = open(&unknown.file(), &["sums"], 1).unwrap_err().to_string();
    assert!(unknown.contains("FlashAttention9") && unknown.contains("export it again"), "{unknown}");
}

#[test]
fn a_library_that_is_missing_broken_or_another_is_an_error() {
    let missing = Runtime::load(Path::new("/nowhere/libonnxruntime.so")).unwrap_err();
    let text = missing.to_string();
    assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("run scripts/setup"), "{text}");
    let loaded = runtime();
    assert_eq!(runtime().library(), loaded.library(), "a second load is the same library");
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("libother.so");
    std::fs::write(&other, b"no library").unwrap();
    assert!(matches!(Runtime::load(&other).unwrap_err(), InferError::OtherLibrary { .. }));
}

#[test]
fn a_model_can_move_to_its_thread() {
    let mut model = open(&arithmetic(BATCH), &["sums"], 1).unwrap();
    let sum = std::thread::spawn(move || {
        let numbers = ramp(1);
        let outputs = model.run(1, Samples::F32(&numbers)).unwrap();
        outputs.sample(0, 0).1[0]
    });
    assert_eq!(sum.join().unwrap(), window_sum(0, 0, 0));
}

fn nowhere(path: &str) -> ModelFile<'_> {
    ModelFile { path: Path::new(path), sha256: "" }
}

/// The optimised graph on disk gives the same numbers to the last bit, and what is wrong with it is nobody's trouble.
#[test]
fn an_optimised_graph_serves_again_and_a_broken_one_never_does() {
    let folder = tempfile::tempdir().unwrap();
    let graphs = folder.path().join("graphs");
    let runtime = runtime().caching_graphs_in(graphs.clone());
    let file = File::new(&arithmetic(BATCH));
    let options = Options { threads: 1, batch_max: 2 };
    let answers = || {
        let mut model = file.open_by(&runtime, &input("f32"), &["sums", "double"], options).unwrap();
        let mut answers = Vec::new();
        model.run_f32(2, &ramp(2), |_, _, numbers| answers.extend_from_slice(numbers)).unwrap();
        answers
    };
    let entries = || -> Vec<_> { std::fs::read_dir(&graphs).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let first = answers();
    let made = entries();
    assert_eq!(made.len(), 1, "{made:?}");
    let modified = || std::fs::metadata(&made[0]).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(answers(), first);
    assert_eq!((entries(), modified()), (made.clone(), before), "it was read, not made again");
    let graph = std::fs::read(&made[0]).unwrap();
    std::fs::write(&made[0], &graph[..graph.len() / 2]).unwrap();
    assert_eq!(answers(), first);
    assert_eq!(std::fs::read(&made[0]).unwrap(), graph, "made again");
    // Whole as its name tells, and no graph: the engine refuses it, and the model's own is taken.
    std::fs::remove_file(&made[0]).unwrap();
    let name = made[0].file_name().unwrap().to_str().unwrap();
    let (prefix, _) = name.rsplit_once(&format!("-{}-", graph.len())).unwrap();
    std::fs::write(graphs.join(format!("{prefix}-7-{:08x}.onnx", crc32fast::hash(b"garbage"))), b"garbage").unwrap();
    assert_eq!(answers(), first);
    // No folder can be made there.
    let runtime = runtime.caching_graphs_in(file.path());
    assert!(file.open_by(&runtime, &input("f32"), &["sums"], options).is_ok());
}
