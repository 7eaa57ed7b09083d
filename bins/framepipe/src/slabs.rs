//! The slabs of handed pools: made by the launcher, which has each of them as a descriptor, maps none, and hands them to the
//! stages that read or write the pool. They die with the last process that has one, unlike the segment; a launcher that takes
//! a segment over makes new ones.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use framepipe_pipeline::{Config, Device, Pool, Slab};
use framepipe_shm::Geometry;
use nix::errno::Errno;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::{gpu::Gpu, gpu_slab};

/// Makes the slabs of a segment of this geometry; `gpu`: the pipeline's, where it has one.
pub fn make(config: &Config, gpu: Option<&Gpu>, geometry: &Geometry) -> anyhow::Result<Vec<Slab>> {
    let handed = Pool::ALL.into_iter().filter(|pool| geometry.is_handed(*pool as usize));
    let make = |pool: Pool| {
        let bytes = geometry.pools[pool as usize].bytes();
        let made = match &config.device {
            Device::Cpu => bail!("the segment has handed pools, and pipeline.device is \"cpu\""),
            Device::Memfd => in_host_memory(pool, bytes),
            Device::Gpu(_) => gpu_slab::make(gpu.expect("it was opened, as the device is one"), pool, bytes),
        };
        let (device, mib) = (&config.device, bytes.div_ceil(1 << 20));
        made.with_context(|| {
            format!("pipeline.device = \"{device}\": no slab of {mib} MiB for the {} pool", pool.name())
        })
    };
    handed.map(make).collect()
}

/// A memfd, reserved in full and sealed: no later touch of it is a SIGBUS.
fn in_host_memory(pool: Pool, bytes: u64) -> anyhow::Result<Slab> {
    let available = available_bytes()?;
    let advice = "lower [pools] or free memory";
    anyhow::ensure!(bytes <= available, "{} MiB of memory are available: {advice}", available >> 20);
    let name = format!("framepipe-{}", pool.name());
    let memory: OwnedFd =
        memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).context("memfd_create")?;
    nix::fcntl::posix_fallocate(&memory, 0, i64::try_from(bytes)?).map_err(|error| match error {
        Errno::ENOSPC | Errno::ENOMEM => anyhow::anyhow!("the memory cannot be had ({error}): {advice}"),
        _ => anyhow::anyhow!("it cannot be reserved: {error}"),
    })?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).context("it cannot be sealed")?;
    Ok(Slab { pool, memory, bytes, is_on_device: false })
}

/// What the kernel thinks can be had without swapping. Looked at before, because reserving more does not fail, but has
/// processes killed.
pub fn available_bytes() -> anyhow::Result<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo has no MemAvailable")? << 10)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{fstat, ftruncate};

    use super::*;

    #[test]
    fn a_slab_in_host_memory_is_reserved_in_full_and_keeps_its_size() {
        let slab = in_host_memory(Pool::Tensor, 1 << 20).expect("there is room for a MiB");
        let stat = fstat(&slab.memory).expect("it is a file");
        assert_eq!((stat.st_size, stat.st_blocks * 512), (1 << 20, 1 << 20));
        assert!(ftruncate(&slab.memory, 4096).is_err() && ftruncate(&slab.memory, 2 << 20).is_err());
    }

    #[test]
    fn a_slab_beyond_the_memory_is_an_error_that_says_what_there_is() {
        let error = in_host_memory(Pool::Tensor, 1 << 50).expect_err("nobody has a PiB").to_string();
        assert!(error.contains("MiB of memory are available: lower [pools]"), "{error}");
    }
}
