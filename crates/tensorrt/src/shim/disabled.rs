//! No tables: the build found no headers of TensorRT.

use super::Api;

/// The functions for libraries of a major version: none.
pub(crate) fn table(_major: u32) -> Option<&'static Api> {
    None
}
