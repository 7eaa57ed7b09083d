//! Words for the operator.

/// Writes a line to standard error. That it cannot be written (a full disk, a logger that died) is no reason to stop
/// serving, where `eprintln!` would panic.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($words)*);
    }};
}
