//! Decode, orient, resize, crop and non-maximum suppression.
