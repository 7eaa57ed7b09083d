//! The engine, and models whose answers are known by hand.

mod onnx;

use std::path::{Path, PathBuf};

use framepipe_infer::{CpuModel, InferError, ModelFile, Options, Runtime};
use framepipe_vision::{Input, InputSpec};

pub use onnx::Size::{Fixed, Open};
pub use onnx::{F32, Graph, I32, I64, Size, U8};

/// A batch that the model leaves open.
pub const BATCH: Size = Open("N");
/// Rows and columns of every image.
pub const SIDE: usize = 4;
/// Numbers of an image.
pub const SAMPLE: usize = 3 * SIDE * SIDE;

/// The library that `scripts/setup` fetched.
pub fn library() -> PathBuf {
    let path = std::env::var_os("FRAMEPIPE_ORT_LIB")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/lib/libonnxruntime.so"), PathBuf::from);
    assert!(
        path.exists(),
        "no ONNX Runtime library at {}: run scripts/setup, or set FRAMEPIPE_ORT_LIB",
        path.display()
    );
    path
}

/// The library, loaded.
pub fn runtime() -> Runtime {
    Runtime::load(&library()).expect("the library loads")
}

/// An image of `dtype`.
pub fn input(dtype: &str) -> Input {
    input_of("images", SIDE, "nchw", dtype)
}

/// A tensor of `width` x [`SIDE`] pixels.
pub fn input_of(tensor: &str, width: usize, order: &str, dtype: &str) -> Input {
    let table = format!(
        r#"
        tensor = {tensor:?}
        graph = [
            {{ op = "decode" }},
            {{ op = "resize", fit = "stretch", width = {width}, height = {SIDE} }},
            {{ op = "layout", order = {order:?} }},
            {{ op = "cast", dtype = {dtype:?} }},
        ]
        "#
    );
    toml::from_str::<InputSpec>(&table).expect("a valid table").compile().expect("a valid graph")
}

/// `double` = 2 * images; `sums` = the sums of all 3x3 windows over all channels; `counts` and
/// `few` = images as integers.
pub fn arithmetic(batch: Size) -> Vec<u8> {
    let image = [batch, Fixed(3), Fixed(4), Fixed(4)];
    let ones: Vec<u8> = std::iter::repeat_n(1f32.to_le_bytes(), 27).flatten().collect();
    Graph::default()
        .input("images", F32, &image)
        .constant("two", F32, &[1], &2f32.to_le_bytes())
        .constant("ones", F32, &[1, 3, 3, 3], &ones)
        .node("Mul", &["images", "two"], "double", &[])
        .node("Conv", &["images", "ones"], "sums", &[])
        .node("Cast", &["images"], "counts", &[("to", I64)])
        .node("Cast", &["images"], "few", &[("to", I32)])
        .output("double", F32, &image)
        .output("sums", F32, &[batch, Fixed(1), Fixed(2), Fixed(2)])
        .output("counts", I64, &image)
        .output("few", I32, &image)
        .file()
}

/// `flat` = images in another shape, which holds at run time only.
pub fn reshaped(sizes: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    let open: Vec<Size> = ["A", "B", "C"][..sizes.len()].iter().map(|name| Open(name)).collect();
    Graph::default()
        .input("images", F32, &[BATCH, Fixed(3), Open("H"), Open("W")])
        .constant("shape", I64, &[sizes.len() as u64], &raw)
        .node("Reshape", &["images", "shape"], "flat", &[])
        .output("flat", F32, &open)
        .file()
}

/// `places` = where images are not zero, a row each, whole numbers; `floats` = the same in a batch of one; `bytes` = images
/// of another type. The input has no batch.
pub fn rows() -> Vec<u8> {
    let image = [Fixed(3), Fixed(4), Fixed(4)];
    let shape: Vec<u8> = [1i64, -1, 3].iter().flat_map(|size| size.to_le_bytes()).collect();
    Graph::default()
        .input("images", F32, &image)
        .constant("shape", I64, &[3], &shape)
        .node("NonZero", &["images"], "columns", &[])
        .node("Transpose", &["columns"], "places", &[])
        .node("Cast", &["places"], "wide", &[("to", F32)])
        .node("Reshape", &["wide", "shape"], "floats", &[])
        .node("Cast", &["images"], "bytes", &[("to", U8)])
        .output("places", I64, &[Open("N"), Fixed(3)])
        .output("floats", F32, &[Fixed(1), Open("N"), Fixed(3)])
        .output("bytes", U8, &image)
        .file()
}

/// A model file in a folder of its own.
pub struct File(tempfile::TempDir);

impl File {
    pub fn new(bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("model.onnx"), bytes).expect("it is writable");
        Self(dir)
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("model.onnx")
    }

    pub fn open_by(
        &self,
        runtime: &Runtime,
        input: &Input,
        outputs: &[&str],
        options: Options,
    ) -> Result<CpuModel, InferError> {
        CpuModel::open(runtime, ModelFile { path: &self.path(), sha256: "a5" }, input, outputs, options)
    }

    pub fn open(&self, input: &Input, outputs: &[&str], batch_max: usize) -> Result<CpuModel, InferError> {
        let options = Options { threads: 1, batch_max };
        self.open_by(&runtime(), input, outputs, options)
    }
}

/// Opens a model of f32 on one thread.
pub fn open(bytes: &[u8], outputs: &[&str], batch_max: usize) -> Result<CpuModel, InferError> {
    File::new(bytes).open(&input("f32"), outputs, batch_max)
}
