//! A model on CPU threads, by ONNX Runtime.
//!
//! Memory: the engine's arena grows to about what the largest batch needs and keeps it. Batches never exceed
//! `batch_max`, so it is bounded, and warming up with every batch size takes all of it at start.

use std::path::{Path, PathBuf};

use framepipe_vision::{DataType, Input};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::TensorRef;

use crate::contract::Contract;
use crate::outputs::Made;
use crate::{InferError, Outputs, Runtime};

/// Most threads of one session.
const THREAD_COUNT_MAX: usize = 256;
/// Largest batch of any model.
const BATCH_MAX: usize = 1024;

/// A model file, as its manifest names it.
#[derive(Clone, Copy, Debug)]
pub struct ModelFile<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// Its sha256 in hexadecimal, by which its optimised graph is known.
    pub sha256: &'a str,
}

/// How a model is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads of one run, the calling one among them.
    pub threads: usize,
    /// Largest batch.
    pub batch_max: usize,
}

/// A batch's numbers: its samples one after another, each channel by channel, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'a> {
    /// For a model of f32.
    F32(&'a [f32]),
    /// For a model of u8.
    U8(&'a [u8]),
}

impl<'a> Samples<'a> {
    /// The numbers in these bytes, which are aligned to them: they lie in a slot, which begins at a page, or in memory
    /// made for them.
    pub fn of(dtype: DataType, bytes: &'a [u8]) -> Self {
        match dtype {
            DataType::F32 => Self::F32(bytemuck::cast_slice(bytes)),
            DataType::U8 => Self::U8(bytes),
        }
    }
}

/// A model, opened and compared with what its caller expects.
pub struct CpuModel {
    file: PathBuf,
    session: Session,
    run_options: RunOptions<HasSelectedOutputs>,
    contract: Contract,
    batch_max: usize,
    output_shapes: Vec<Vec<usize>>,
    /// Shapes of the outputs of a sample with most rows, where their number varies.
    rows_max: Option<Vec<Vec<usize>>>,
    made: Vec<Made>,
}

impl CpuModel {
    /// Opens a model file for batches of `input`, and for the tensors `outputs` in this order; others that it
    /// has are not computed.
    ///
    /// # Errors
    /// When the engine refuses the file, or the model has not the tensors that are named, with their types and sizes.
    pub fn open(
        runtime: &Runtime,
        file: ModelFile<'_>,
        input: &Input,
        outputs: &[&str],
        options: Options,
    ) -> Result<Self, InferError> {
        let ModelFile { path: file, sha256 } = file;
        check_option("threads", options.threads, THREAD_COUNT_MAX)?;
        check_option("batch_max", options.batch_max, BATCH_MAX)?;
        let refused = |reason: String| InferError::Open { file: file.to_owned(), reason };
        if !file.is_file() {
            return Err(InferError::MissingModel { file: file.to_owned() });
        }
        let session = session(runtime, file, sha256, options.threads).map_err(|error| refused(error.to_string()))?;
        let contract = Contract::check(file, &session, input, outputs)?;
        let selected = outputs.iter().fold(OutputSelector::no_default(), |selected, name| selected.with(*name));
        let run_options = RunOptions::new().map_err(|error| refused(error.to_string()))?.with_outputs(selected);
        let batch_max = contract.batch.unwrap_or(options.batch_max);
        Ok(Self {
            file: file.to_owned(),
            session,
            run_options,
            contract,
            batch_max,
            output_shapes: Vec::new(),
            rows_max: None,
            made: outputs.iter().map(|_| Made::default()).collect(),
        })
    }

    /// Where there are `shapes`, those of the outputs of a sample with most rows: the graph puts out as many rows as it
    /// finds something, with no batch or a batch of 1. It is run on one sample at a time, and its outputs are filled up
    /// (`outputs.rs`).
    #[must_use]
    pub fn filled_up(mut self, shapes: Option<&[Vec<usize>]>) -> Self {
        if let Some(shapes) = shapes {
            assert_eq!(shapes.len(), self.made.len(), "a shape for each output");
            self.rows_max = Some(shapes.to_vec());
            self.batch_max = 1;
        }
        self
    }

    /// Largest batch: the one asked for, or 1 where the model is fixed to it.
    pub fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Shapes of the outputs, the batch left out, in order; empty before [`CpuModel::warm_up`].
    pub fn output_shapes(&self) -> &[Vec<usize>] {
        &self.output_shapes
    }

    /// Runs zeroes through the model in the largest batch, a batch of 1 and each of `batches`, so that the first frame
    /// finds code and memory in place, and learns the shapes of the outputs.
    ///
    /// # Errors
    /// When a run fails, or an output's shape depends on more than the batch.
    pub fn warm_up(&mut self, batches: &[usize]) -> Result<(), InferError> {
        let length = self.contract.sample_length() * self.batch_max;
        match self.contract.dtype {
            DataType::F32 => self.warm_up_on(batches, Samples::F32(&vec![0.0; length])),
            DataType::U8 => self.warm_up_on(batches, Samples::U8(&vec![0; length])),
        }
    }

    fn warm_up_on(&mut self, batches: &[usize], zeroes: Samples<'_>) -> Result<(), InferError> {
        // The largest first: what it takes from memory serves the others.
        let one = (self.batch_max > 1).then_some(1);
        let batches = [self.batch_max].into_iter().chain(one).chain(batches.iter().copied());
        for batch in batches {
            self.check_batch(batch)?;
            let outputs = self.run(batch, zeroes.first(batch * self.contract.sample_length()))?;
            let shapes: Vec<Vec<usize>> =
                (0..outputs.len()).map(|output| outputs.sample(output, 0).0.to_vec()).collect();
            drop(outputs);
            if !self.output_shapes.is_empty() && self.output_shapes != shapes {
                let reason = format!(
                    "the outputs' shapes are {:?} in one batch and {shapes:?} in another: export the model with \
                     outputs of fixed size",
                    self.output_shapes
                );
                return Err(InferError::Run { file: self.file.clone(), reason });
            }
            self.output_shapes = shapes;
        }
        Ok(())
    }

    /// Runs one batch. The samples are read where they lie, the outputs lent from where the engine put them.
    ///
    /// # Errors
    /// When the samples are not `batch` of the right type, when the engine fails, or puts out something else than
    /// tensors of `batch` parts whose numbers f32 holds, or more rows than there may be.
    pub fn run(&mut self, batch: usize, samples: Samples<'_>) -> Result<Outputs<'_>, InferError> {
        self.check_batch(batch)?;
        self.check_samples(batch, samples)?;
        let [channels, rows, columns] = self.contract.sample;
        let shape = [batch, channels, rows, columns];
        let shape = if self.contract.has_batch { &shape[..] } else { &shape[1..] };
        let failed = |error: ort::Error| InferError::Run { file: self.file.clone(), reason: error.to_string() };
        let input: SessionInputValue<'_> = match samples {
            Samples::F32(numbers) => TensorRef::from_array_view((shape, numbers)).map_err(failed)?.into(),
            Samples::U8(numbers) => TensorRef::from_array_view((shape, numbers)).map_err(failed)?.into(),
        };
        let values = self.session.run_with_options([input], &self.run_options).map_err(failed)?;
        Outputs::check(&self.file, values, batch, self.rows_max.as_deref(), &mut self.made)
    }

    /// [`CpuModel::run`] on f32, giving each output's index, shape (with the batch) and numbers to `take`.
    ///
    /// # Errors
    /// As [`CpuModel::run`].
    pub fn run_f32(
        &mut self,
        batch: usize,
        input: &[f32],
        take: impl FnMut(usize, &[usize], &[f32]),
    ) -> Result<(), InferError> {
        self.run(batch, Samples::F32(input)).map(|outputs| give(&outputs, take))
    }

    /// [`CpuModel::run`] on u8, giving each output's index, shape (with the batch) and numbers to `take`.
    ///
    /// # Errors
    /// As [`CpuModel::run`].
    pub fn run_u8(
        &mut self,
        batch: usize,
        input: &[u8],
        take: impl FnMut(usize, &[usize], &[f32]),
    ) -> Result<(), InferError> {
        self.run(batch, Samples::U8(input)).map(|outputs| give(&outputs, take))
    }

    fn check_batch(&self, batch: usize) -> Result<(), InferError> {
        let batch_max = self.batch_max;
        if (1..=batch_max).contains(&batch) { Ok(()) } else { Err(InferError::Batch { batch, batch_max }) }
    }

    fn check_samples(&self, batch: usize, samples: Samples<'_>) -> Result<(), InferError> {
        let length = batch * self.contract.sample_length();
        let (dtype, actual) = match samples {
            Samples::F32(numbers) => (DataType::F32, numbers.len()),
            Samples::U8(numbers) => (DataType::U8, numbers.len()),
        };
        if (dtype, actual) == (self.contract.dtype, length) {
            return Ok(());
        }
        let expected = format!("{length} numbers of {:?}", self.contract.dtype);
        Err(InferError::Samples { batch, expected, actual: format!("{actual} of {dtype:?}") })
    }
}

impl Samples<'_> {
    fn first(&self, length: usize) -> Self {
        match self {
            Self::F32(numbers) => Self::F32(&numbers[..length]),
            Self::U8(numbers) => Self::U8(&numbers[..length]),
        }
    }
}

impl std::fmt::Debug for CpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuModel")
            .field("file", &self.file)
            .field("contract", &self.contract)
            .field("batch_max", &self.batch_max)
            .finish_non_exhaustive()
    }
}

fn give(outputs: &Outputs<'_>, mut take: impl FnMut(usize, &[usize], &[f32])) {
    for output in 0..outputs.len() {
        let (shape, numbers) = outputs.tensor(output);
        take(output, shape, numbers);
    }
}

fn check_option(option: &'static str, value: usize, max: usize) -> Result<(), InferError> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(InferError::Option { option, value, max }) }
}

/// A session of the model's optimised graph, from the cache where it has that; else the graph is optimised, and kept there.
fn session(runtime: &Runtime, file: &Path, sha256: &str, threads: usize) -> ort::Result<Session> {
    let optimised = || -> ort::Result<SessionBuilder> {
        Ok(builder(runtime, threads)?.with_optimization_level(GraphOptimizationLevel::All)?)
    };
    let Some(cache) = &runtime.graphs else { return optimised()?.commit_from_file(file) };
    if let Some(graph) = cache.find(sha256) {
        let mut builder = builder(runtime, threads)?.with_optimization_level(GraphOptimizationLevel::Disable)?;
        if let Ok(session) = builder.commit_from_memory(&graph) {
            return Ok(session);
        }
    }
    if let Some(draft) = cache.draft(sha256) {
        let mut builder = optimised()?.with_optimized_model_path(&draft.path)?;
        if let Ok(session) = builder.commit_from_file(file) {
            let _ = draft.finish(); // a full disk, say: the next start tries again
            return Ok(session);
        }
    }
    optimised()?.commit_from_file(file) // whose error is the model's
}

fn builder(runtime: &Runtime, threads: usize) -> ort::Result<SessionBuilder> {
    Ok(Session::builder(&runtime.environment)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // A spinning thread takes the core that another stage needs.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A planned block for each batch size: NanoDet in batches of 1 to 8 took 337 MB with it and 210 MB without, and
        // the same time.
        .with_memory_pattern(false)?)
}
