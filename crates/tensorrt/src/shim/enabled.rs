//! The tables of a build that found TensorRT's headers.

use super::Api;

unsafe extern "C" {
    safe static framepipe_trt10_api: Api;
    safe static framepipe_trt11_api: Api;
}

/// The functions for libraries of a major version; `None` of one that the shim is not compiled for.
pub(crate) fn table(major: u32) -> Option<&'static Api> {
    match major {
        10 => Some(&framepipe_trt10_api),
        11 => Some(&framepipe_trt11_api),
        _ => None,
    }
}
