//! Sizes of tensors, checked.

use std::{fmt, ops::Deref};

use crate::error::TrtError;

/// Sizes of a shape at most: TensorRT's bound.
pub const RANK_MAX: usize = 8;

/// A tensor's sizes, outermost first; -1 is a size that is not fixed.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rank: i32,
    sizes: [i64; RANK_MAX],
}

impl Shape {
    /// The shape of no sizes: a scalar's.
    pub(crate) const SCALAR: Self = Self { rank: 0, sizes: [0; RANK_MAX] };

    /// A shape of these sizes.
    ///
    /// # Errors
    /// [`TrtError::Shape`] of more than [`RANK_MAX`] sizes, or one below -1.
    pub fn new(sizes: &[i64]) -> Result<Self, TrtError> {
        if sizes.len() > RANK_MAX || sizes.iter().any(|&size| size < -1) {
            return Err(TrtError::Shape { sizes: sizes.to_vec() });
        }
        let mut shape = Self { rank: sizes.len() as i32, ..Self::SCALAR };
        shape.sizes[..sizes.len()].copy_from_slice(sizes);
        Ok(shape)
    }

    /// How many numbers a tensor of this shape has; `None` where a size is not fixed, or there are more than fit.
    pub fn numbers(&self) -> Option<usize> {
        self.iter().try_fold(1_usize, |product, &size| product.checked_mul(usize::try_from(size).ok()?))
    }
}

impl Deref for Shape {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        let rank = usize::try_from(self.rank).unwrap_or(0).min(RANK_MAX); // C++ writes it
        &self.sizes[..rank]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, size) in self.iter().enumerate() {
            write!(f, "{}{size}", if index == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The shapes of an input that an engine is built for: it takes those from the smallest to the largest, and is fastest at the best.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    pub(crate) input: String,
    /// Smallest, best, largest.
    pub(crate) shapes: [Shape; 3],
}

impl Profile {
    /// The profile of the input of this name.
    ///
    /// # Errors
    /// [`TrtError::Profile`] when ranks differ, a size is below 1, or `smallest <= best <= largest` does not hold of each size.
    pub fn new(input: &str, smallest: Shape, best: Shape, largest: Shape) -> Result<Self, TrtError> {
        let ordered =
            |from: &Shape, to: &Shape| from.len() == to.len() && from.iter().zip(to.iter()).all(|(a, b)| a <= b);
        let positive = smallest.iter().all(|&size| size >= 1);
        if !positive || !ordered(&smallest, &best) || !ordered(&best, &largest) || input.contains('\0') {
            let shapes = format!("{smallest} to {best} to {largest}");
            return Err(TrtError::Profile { input: input.to_owned(), shapes });
        }
        Ok(Self { input: input.to_owned(), shapes: [smallest, best, largest] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_a_bound_and_say_how_many_numbers_they_have() {
        let shape = Shape::new(&[2, 3, 416, 416]).expect("a shape");
        assert_eq!((shape.to_string().as_str(), shape.numbers()), ("2x3x416x416", Some(2 * 3 * 416 * 416)));
        assert_eq!(Shape::new(&[-1, 3]).expect("a shape").numbers(), None, "a size is not fixed");
        assert_eq!(Shape::new(&[i64::MAX, 3]).expect("a shape").numbers(), None, "more than fit");
        assert!(Shape::new(&[1; RANK_MAX]).is_ok());
        assert!(Shape::new(&[1; RANK_MAX + 1]).is_err());
        assert!(Shape::new(&[-2]).is_err());
    }

    #[test]
    fn a_profile_goes_from_smallest_to_largest() {
        let shape = |sizes: &[i64]| Shape::new(sizes).expect("a shape");
        let [one, four, eight] = [1, 4, 8].map(|batch| shape(&[batch, 3]));
        assert!(Profile::new("images", one, four, eight).is_ok());
        assert!(Profile::new("images", one, one, one).is_ok());
        assert!(Profile::new("images", one, eight, four).is_err());
        assert!(Profile::new("images", four, one, eight).is_err());
        assert!(Profile::new("images", shape(&[1]), four, eight).is_err(), "another rank");
        assert!(Profile::new("images", shape(&[-1, 3]), four, eight).is_err(), "not fixed");
        assert!(Profile::new("ima\0ges", one, four, eight).is_err());
    }
}
