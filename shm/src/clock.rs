//! The clock that all processes share.

/// CLOCK_MONOTONIC in nanoseconds: the same for every process of the host.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
