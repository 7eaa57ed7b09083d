//! The shim against TensorRTs of the tests' own, compiled against the headers of both versions: each function is called where that
//! version has it, with what it was given, and everything is freed once.

#![allow(unsafe_code, reason = "runs engines, and asks the fake library")]

mod support;

use std::{
    ffi::{CString, c_int, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, Mutex},
};

use framepipe_tensorrt::{
    BuildRequest, Context, DataType, Library, Mode, Plan, Precision, Profile, Severity, Shape, TrtError,
};

/// The headers of each version, and what the fake made of them says.
const VERSIONS: [(&str, &str); 2] = [("10.16", "10.16.0.7"), ("11.4", "11.4.0.7")];

type Heard = Arc<Mutex<Vec<(Severity, String)>>>;

fn open(folder: &Path, headers: &str) -> (Library, Heard) {
    let heard = Heard::default();
    let ears = heard.clone();
    let listener = move |severity, text: &str| ears.lock().expect("sound").push((severity, text.to_owned()));
    let library = Library::open(&[support::fake_tensorrt(folder, headers)], listener);
    (library.unwrap_or_else(|error| panic!("{error}")), heard)
}

/// How many objects a fake library has made that are not freed.
fn live(library: &Library, what: &str) -> c_int {
    let path = CString::new(library.path().as_os_str().as_bytes()).expect("a path");
    let name = CString::new(what).expect("a name");
    // SAFETY: the library is loaded already, and has this function.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(handle, name.as_ptr());
        assert!(!function.is_null(), "{what}");
        std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(function)()
    }
}

fn shape(sizes: &[i64]) -> Shape {
    Shape::new(sizes).expect("a shape")
}

fn words<T>(result: Result<T, TrtError>) -> String {
    result.err().expect("it is refused").to_string()
}

/// Runs a batch, of which each number is doubled.
fn run(context: &mut Context, batch: i64) {
    let input: Vec<f32> = (0..batch * 4).map(|number| number as f32).collect();
    let mut output = vec![0.0_f32; input.len()];
    let mut runs: c_int = 0;
    context.set_shape(0, &shape(&[batch, 4])).expect("it is in the profile");
    assert_eq!(context.shape(1).expect("inputs are set"), shape(&[batch, 4]));
    context.bind(0, input.as_ptr() as u64).expect("an address");
    context.bind(1, output.as_mut_ptr() as u64).expect("an address");
    // SAFETY: the fake's stream is a counter, its device memory the host's; both are large enough, and it runs at once.
    unsafe { context.enqueue((&raw mut runs).cast()) }.expect("everything is set");
    assert_eq!(runs, 1, "the stream arrives");
    assert!(input.iter().zip(&output).all(|(from, to)| 2.0 * from == *to), "{output:?}");
}

#[test]
fn engines_run_by_the_functions_of_their_own_version_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = support::driver(folder.path());
    let mut contexts = Vec::new();
    let mut libraries = Vec::new();
    for (headers, version) in VERSIONS {
        let (library, heard) = open(folder.path(), headers);
        assert_eq!(library.version().to_string(), version);
        let runtime = library.runtime(driver).expect("a runtime");
        assert_eq!(heard.lock().expect("sound")[0].0, Severity::Info);
        assert!(heard.lock().expect("sound")[0].1.starts_with("runtime of 1"));
        let broken = words(runtime.engine(b"no plan"));
        assert!(broken.contains("build it again") && broken.ends_with("the plan's magic number is wrong"), "{broken}");
        let engine = runtime.engine(b"plan").expect("a plan");
        let told: Vec<_> = engine.tensors().iter().map(|t| (t.name().into_owned(), t.mode, t.data_type)).collect();
        let [images, scores] = ["images", "scores"].map(str::to_owned);
        assert_eq!(told, [(images, Mode::Input, DataType::Float), (scores, Mode::Output, DataType::Half)]);
        assert!(engine.tensors().iter().all(|t| t.shape == shape(&[-1, 4]) && !t.is_on_host));
        contexts.push(engine.context().expect("a context")); // which outlives what it was made of
        libraries.push(library);
    }
    for context in &mut contexts {
        // SAFETY: nothing is run while addresses are missing.
        let missing = words(unsafe { context.enqueue(std::ptr::null_mut()) });
        assert!(missing.contains("every tensor an address") && missing.ends_with("something is not set"), "{missing}");
        for batch in [4, 1, 3] {
            run(context, batch);
        }
        assert!(words(context.set_shape(0, &shape(&[5, 4]))).ends_with("not in the profile"));
        assert!(matches!(context.bind(2, 256), Err(TrtError::NoTensor { index: 2, count: 2 })));
    }
    for library in &libraries {
        assert_eq!(live(library, "fakeLiveRun"), 3, "runtime, engine and context");
    }
    drop(contexts);
    for library in &libraries {
        assert_eq!(live(library, "fakeLiveRun"), 0);
    }
}

#[test]
fn a_build_asks_for_what_was_requested_and_its_refusals_have_the_builders_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let driver = support::driver(folder.path());
    let profile = Profile::new("images", shape(&[1, 3]), shape(&[4, 3]), shape(&[8, 3])).expect("a profile");
    let other = Profile::new("pictures", shape(&[1, 3]), shape(&[4, 3]), shape(&[8, 3])).expect("a profile");
    let larger = Profile::new("images", shape(&[1, 3]), shape(&[4, 3]), shape(&[9, 3])).expect("a profile");
    for (headers, _) in VERSIONS {
        let (library, _) = open(folder.path(), headers);
        assert!(library.can_build());
        let request = |onnx, precision, timings| BuildRequest {
            onnx,
            profile: &profile,
            precision,
            workspace_bytes: 4096,
            timings,
        };
        let build = |onnx, precision, timings| library.build(driver, &request(onnx, precision, timings));
        let profiled = "pool0=4096 images0=1x3 images1=4x3 images2=8x3";
        let flags = if headers == "10.16" { 2 } else { 0 };

        let Plan { plan, timings } = build(b"quantised", Precision::Model, b"earlier").expect("it is built");
        let asked = String::from_utf8(plan).expect("text");
        assert_eq!(asked, format!("plan flags={flags} {profiled} timings=earlier"));
        assert_eq!(timings, b"measured");
        let plan = build(b"float", Precision::Model, b"stale").expect("it is built").plan;
        assert!(plan.ends_with(b" timings=stale timings="), "{}", String::from_utf8_lossy(&plan));

        let fp16 = build(b"float", Precision::Fp16, b"");
        if headers == "10.16" {
            let asked = String::from_utf8(fp16.expect("it is built").plan).expect("text");
            assert_eq!(asked, format!("plan flags=0 flag=0 {profiled} timings="));
            let words = words(build(b"quantised", Precision::Fp16, b""));
            assert!(words.contains("ask for the precision of the model"), "{words}");
        } else {
            assert!(matches!(fp16, Err(TrtError::Fp16Flag { .. })));
        }

        let unreadable = words(build(b"unreadable", Precision::Model, b""));
        assert!(
            unreadable.contains("read this model") && unreadable.ends_with("what is this operator?"),
            "{unreadable}"
        );
        let empty = words(build(b"", Precision::Model, b""));
        assert!(empty.contains("read this model"), "{empty}");
        let unbuildable = words(build(b"unbuildable", Precision::Model, b""));
        assert!(unbuildable.ends_with("build an engine of this model; it says: no implementation of a layer"));
        for (profile, reason) in [(&other, "must be the model's"), (&larger, "more than the model takes")] {
            let words =
                words(library.build(driver, &BuildRequest { profile, ..request(b"float", Precision::Model, b"") }));
            assert!(words.contains("take this profile") && words.ends_with(reason), "{words}");
        }
        assert_eq!(live(&library, "fakeLiveBuild"), 0, "everything is freed");
    }
}
