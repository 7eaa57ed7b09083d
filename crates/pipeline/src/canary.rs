//! The canary: a frame of the gateway's own, by which it sees that frames get through. It has the segment's reserved job, so
//! that a full table does not stop it, and no frame number; no client ever sees it. Every stage processes it as any frame, and
//! counts it nowhere.

/// Its image, in place of a client's file: a small JPEG.
pub const IMAGE: &[u8] = include_bytes!("canary.jpg");

/// In place of a frame's number.
pub const FRAME: u64 = u64::MAX;

/// Its name: empty, unless a test asks for a fault ([`crate::faults`]) by this variable.
#[cfg(any(debug_assertions, feature = "fault-injection"))]
pub fn name() -> String {
    std::env::var("FRAMEPIPE_FAULT_CANARY").unwrap_or_default()
}

/// Its name: empty.
#[cfg(not(any(debug_assertions, feature = "fault-injection")))]
pub fn name() -> String {
    String::new()
}
