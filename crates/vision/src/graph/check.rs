//! What can be wrong with a graph: which operator, and what to change.

use super::{OPERATORS_MAX, SIDE_MAX};

/// Why a graph cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("graph{}: {fault}", place(operator.as_ref()))]
pub struct GraphError {
    /// The operator's place, from 0, and its name; `None`: it is the whole graph's fault.
    pub operator: Option<(usize, &'static str)>,
    /// What is wrong.
    pub fault: Fault,
}

fn place(operator: Option<&(usize, &'static str)>) -> String {
    operator.map(|(at, name)| format!("[{at}] ({name})")).unwrap_or_default()
}

/// What is wrong with an operator, or with the whole graph.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// There is none, or there are too many.
    #[error("{0} operators: give 1 to {OPERATORS_MAX}")]
    Count(usize),
    /// It takes an image's bytes or a detection, which only the first operator has.
    #[error("must be the first operator, and only the first")]
    NotFirst,
    /// Nothing has made pixels yet.
    #[error(
        "has no pixels to work on: a graph begins with decode (detectors) or crop of a detection (attribute models)"
    )]
    NoPixels,
    /// It stands in the wrong place.
    #[error("must stand {0}")]
    Order(&'static str),
    /// It stands there a second time.
    #[error("stands there twice, which one pass cannot do: leave one out")]
    Twice,
    /// An argument that is missing, or one too many.
    #[error("{0}")]
    Arguments(&'static str),
    /// A value that cannot be.
    #[error("{argument} = {value}: {advice}")]
    Value {
        /// Which argument.
        argument: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        advice: String,
    },
    /// The tensor would have another size for each image.
    #[error("ends with pixels of a size that varies: {0}")]
    SizeVaries(&'static str),
    /// Whole numbers of 8 bits cannot hold what normalize gives.
    #[error("u8 holds grey levels as they are: leave out normalize, or cast to f32")]
    NormalizedU8,
    /// A graph for something else.
    #[error("begins with {found}, and {wanted}")]
    Begins {
        /// Its first operator.
        found: &'static str,
        /// What is wanted.
        wanted: &'static str,
    },
}

impl Fault {
    pub(super) fn value(argument: &'static str, value: impl ToString, advice: impl ToString) -> Self {
        Self::Value { argument, value: value.to_string(), advice: advice.to_string() }
    }
}

/// A side of a tensor.
pub(super) fn side(argument: &'static str, pixels: u32) -> Result<u32, Fault> {
    if (1..=SIDE_MAX).contains(&pixels) {
        return Ok(pixels);
    }
    Err(Fault::value(argument, pixels, format!("give 1 to {SIDE_MAX} pixels")))
}
