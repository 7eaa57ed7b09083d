//! Shared memory for framepipe: segment, jobs, slots, hint rings, events, recovery.
