//! What the journal claims, proven from outside: one module a kind of claim.
//! (`cfg(test)` tells clippy that these are tests throughout.)

#[cfg(test)]
mod damage;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
#[cfg(test)]
mod support;
