use std::{
    env,
    process::{Child, Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;
use crate::Shape;

/// Names the folder in which a test's other process builds.
const CHILD: &str = "FRAMEPIPE_TENSORRT_CACHE_CHILD";

const VERSION: Version = Version { major: 10, minor: 16, patch: 1, build: 11 };

fn gpu() -> Gpu {
    Gpu { name: "Tesla T4".to_owned(), capability: (7, 5) }
}

fn profile(batch: i64) -> Profile {
    let shape = |batch| Shape::new(&[batch, 3, 8, 8]).expect("a shape");
    Profile::new("images", shape(1), shape(batch), shape(batch)).expect("a profile")
}

/// Looks for a plan of the usual key, and builds what `build` says.
fn get(folder: &Path, build: impl FnOnce(&[u8]) -> Result<Plan, TrtError>) -> Result<Entry, TrtError> {
    let (gpu, profile) = (gpu(), profile(4));
    EngineCache::new(folder.to_owned()).get_or_build(&key(&gpu, &profile), build)
}

fn key<'a>(gpu: &'a Gpu, profile: &'a Profile) -> EngineKey<'a> {
    let precision = Precision::Model;
    EngineKey { model_sha256: "aa", tensorrt: VERSION, gpu, profile, precision, workspace_bytes: 1 << 20 }
}

fn plan(plan: &[u8], timings: &[u8]) -> Plan {
    Plan { plan: plan.to_vec(), timings: timings.to_vec() }
}

fn never(_: &[u8]) -> Result<Plan, TrtError> {
    panic!("there is a plan: nothing is to be built")
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|own| own == ending)).collect()
}

#[test]
fn a_plan_is_built_once_and_found_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("engines");
    let entry = get(&place, |timings| Ok(plan(b"engine", timings))).expect("it is built");
    assert!(entry.is_new && entry.unsaved.is_none() && entry.plan == b"engine");
    let entry = get(&place, never).expect("it is found");
    assert!(!entry.is_new && entry.plan == b"engine");
    assert!(files(&place, "new").is_empty());
}

#[test]
fn whatever_an_engine_depends_on_makes_it_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = EngineCache::new(folder.path().to_owned());
    let (t4, four) = (gpu(), profile(4));
    let usual = key(&t4, &four);
    let (other_gpu, other_capability) = (Gpu { name: "L4".to_owned(), ..gpu() }, Gpu { capability: (8, 9), ..gpu() });
    let (eight, shapes) = (profile(8), four.shapes);
    let other_input = Profile::new("pixels", shapes[0], shapes[1], shapes[2]).expect("a profile");
    let keys = [
        usual.clone(),
        EngineKey { model_sha256: "ab", ..usual.clone() },
        EngineKey { tensorrt: Version { build: 12, ..VERSION }, ..usual.clone() },
        EngineKey { gpu: &other_gpu, ..usual.clone() },
        EngineKey { gpu: &other_capability, ..usual.clone() },
        EngineKey { profile: &eight, ..usual.clone() },
        EngineKey { profile: &other_input, ..usual.clone() },
        EngineKey { precision: Precision::Fp16, ..usual.clone() },
        EngineKey { workspace_bytes: 0, ..usual.clone() },
    ];
    for (index, key) in keys.iter().enumerate() {
        let entry = cache.get_or_build(key, |_| Ok(plan(&[index as u8], b""))).expect("it is built");
        assert!(entry.is_new, "{key:?} is taken for another");
    }
    for (index, key) in keys.iter().enumerate() {
        assert_eq!(cache.get_or_build(key, never).expect("it is found").plan, [index as u8]);
    }
}

#[test]
fn a_damaged_plan_never_serves_and_is_built_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for damage in ["cut", "flipped", "longer", "empty"] {
        get(folder.path(), |_| Ok(plan(b"engine", b""))).expect("it is built");
        let file = &files(folder.path(), "plan")[0];
        let mut bytes = fs::read(file).expect("the plan");
        match damage {
            "cut" => bytes.truncate(bytes.len() - 1),
            "flipped" => bytes[0] ^= 1,
            "longer" => bytes.push(0),
            _ => bytes.clear(),
        }
        fs::write(file, bytes).expect("it can be damaged");
        let entry = get(folder.path(), |_| Ok(plan(b"engine", b""))).expect("it is built again");
        assert!(entry.is_new && entry.plan == b"engine", "{damage}");
        assert_eq!(get(folder.path(), never).expect("it is found").plan, b"engine");
    }
}

#[test]
fn timings_go_from_build_to_build_of_one_gpu_and_damaged_ones_are_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = EngineCache::new(folder.path().to_owned());
    let (t4, four) = (gpu(), profile(4));
    let other = Gpu { name: "L4".to_owned(), ..gpu() };
    let build = |model, gpu, wanted: &'static [u8], next: &'static [u8]| {
        let key = EngineKey { model_sha256: model, gpu, ..key(&t4, &four) };
        let entry = cache.get_or_build(&key, |timings| {
            assert_eq!(timings, wanted, "{model}");
            Ok(plan(b"engine", next))
        });
        assert!(entry.expect("it is built").is_new);
    };
    build("aa", &t4, b"", b"one");
    build("ab", &t4, b"one", b"one two");
    build("ab", &other, b"", b"another");
    build("ac", &t4, b"one two", b"");
    build("ad", &t4, b"one two", b"one two three");
    for file in files(folder.path(), "timings") {
        fs::write(file, b"damaged").expect("it can be damaged");
    }
    build("ae", &t4, b"", b"");
}

#[test]
fn a_build_that_fails_leaves_nothing_and_the_next_one_tries() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = get(folder.path(), |_| Err(TrtError::NotBuilt)).expect_err("it fails");
    assert!(matches!(error, TrtError::NotBuilt));
    assert!(files(folder.path(), "plan").is_empty() && files(folder.path(), "timings").is_empty());
    assert!(get(folder.path(), |_| Ok(plan(b"engine", b""))).expect("it is built").is_new);
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_before_anything_is_built() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("engines"), "a file").expect("a file");
    let error = get(&folder.path().join("engines"), never).expect_err("it is a file");
    assert!(matches!(error, TrtError::Cache { .. }), "{error}");
}

#[test]
fn a_plan_that_cannot_be_kept_serves_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = get(folder.path(), |_| {
        let lock = &files(folder.path(), "lock")[0];
        fs::create_dir(lock.with_extension("new")).expect("a folder in the way");
        Ok(plan(b"engine", b""))
    });
    let entry = entry.expect("it is built");
    assert!(entry.plan == b"engine" && entry.unsaved.is_some());
}

#[test]
fn threads_that_want_one_plan_build_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (builds, start) = (AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let entry = get(folder.path(), |_| {
                    builds.fetch_add(1, Ordering::Relaxed);
                    Ok(plan(b"engine", b""))
                });
                assert_eq!(entry.expect("it is there").plan, b"engine");
            });
        }
    });
    assert_eq!(builds.into_inner(), 1);
}

/// Another process of this test program, which runs `child` alone.
fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "cache::tests::child", "--ignored", "--nocapture"]).env(CHILD, folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process")
}

/// Not a test: what the processes of the tests below run. It says that it builds, and goes on when it is told to.
#[test]
#[ignore = "run by other tests"]
fn child() {
    let Some(folder) = env::var_os(CHILD) else { return };
    let entry = get(Path::new(&folder), |_| {
        println!("\nbuilding");
        let mut word = String::new();
        io::stdin().read_line(&mut word).expect("a word");
        Ok(plan(word.as_bytes(), b""))
    });
    println!("\ngot {:?}", String::from_utf8(entry.expect("it is there").plan));
}

/// Reads a child's words until these.
fn wait_for(output: &mut impl io::BufRead, words: &str) {
    let mut line = String::new();
    while !line.starts_with(words) {
        line.clear();
        assert_ne!(output.read_line(&mut line).expect("its output"), 0, "it ended without {words}");
    }
}

#[test]
fn a_process_waits_for_the_plan_that_another_builds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut builder = spawn(folder.path());
    let mut output = io::BufReader::new(builder.stdout.take().expect("its output"));
    wait_for(&mut output, "building");
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| get(folder.path(), never).expect("it is there").plan);
        assert!(files(folder.path(), "plan").is_empty() && !waiting.is_finished());
        builder.stdin.take().expect("its input").write_all(b"theirs").expect("it listens");
        waiting.join().expect("nothing is built here")
    });
    assert_eq!(waiting, b"theirs");
    wait_for(&mut output, "got Ok(\"theirs\")");
    assert!(builder.wait().expect("it ends").success());
}

#[test]
fn a_builder_that_is_killed_leaves_its_place_to_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut builder = spawn(folder.path());
    wait_for(&mut io::BufReader::new(builder.stdout.take().expect("its output")), "building");
    thread::scope(|scope| {
        let next = scope.spawn(|| get(folder.path(), |_| Ok(plan(b"ours", b""))).expect("it is built"));
        builder.kill().expect("it lives");
        builder.wait().expect("it ends");
        let next = next.join().expect("it goes on");
        assert!(next.is_new && next.plan == b"ours");
    });
}
