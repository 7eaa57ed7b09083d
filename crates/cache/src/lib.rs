//! What is kept in memory, and what goes first when it is full. Pure: it names what is to be dropped, and others drop it.
//!
//! | file | what it does |
//! |---|---|
//! | `lru_k.rs` | the order in which entries go: LRU-K, of which LRU is the case K = 1 |
//! | `history.rs` | when an entry was referenced, resident or not |

mod history;
mod lru_k;

pub use history::K_MAX;
pub use lru_k::{Key, LruK, Policy, TooLarge};
