//! The CPUs that processes are bound to, as they are asked for: a list of them, or a NUMA node's.

use std::{fmt, str::FromStr};

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Some CPUs, as the kernel writes them: `0-3,8,10-11`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<(usize, usize)>);

/// What is no list of CPUs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no list of CPUs: write it as the kernel does, such as \"0-3,8\"")]
pub struct CpuListError(String);

impl CpuList {
    /// Those that a process may use; none, where there is no such process.
    pub fn of_process(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        sched_getaffinity(Pid::from_raw(pid)).ok().map(|set| Self::from(&set))
    }

    /// First and last of each range of them, in the order in which they were written.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        self.0.iter().copied()
    }
}

impl From<&CpuSet> for CpuList {
    fn from(set: &CpuSet) -> Self {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for cpu in (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        Self(ranges)
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
            // `parse` takes a sign, which no kernel writes.
            (first <= last && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')).then_some((first, last))
        };
        let ranges: Option<Vec<(usize, usize)>> = text.trim().split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| CpuListError(text.to_owned()))
    }
}

impl TryFrom<String> for CpuList {
    type Error = CpuListError;

    fn try_from(text: String) -> Result<Self, CpuListError> {
        text.parse()
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> Self {
        list.to_string()
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |(first, last): &(usize, usize)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        f.write_str(&self.0.iter().map(write).collect::<Vec<_>>().join(","))
    }
}

/// What processes are bound to; nothing said: to what the launcher may use.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pinning {
    /// These CPUs.
    pub cpus: Option<CpuList>,
    /// The CPUs of this NUMA node.
    pub numa_node: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_read_as_it_is_written_and_nothing_else_is_one() {
        for list in ["0", "0-3", "0-3,8,10-11", "0-15,32-47", "7,1023", "5000-18446744073709551615"] {
            assert_eq!(format!("{list}\n").parse::<CpuList>().expect(list).to_string(), list);
        }
        let hostile = [
            "",
            "\n",
            ",",
            "1,",
            "-",
            "3-1",
            "-1",
            "+1",
            "1-+2",
            "1-2-3",
            "a",
            "0x1",
            "1 2",
            "18446744073709551616",
            "\0",
            "١",
        ];
        hostile.into_iter().for_each(|list| assert!(list.parse::<CpuList>().is_err(), "{list:?}"));
    }
}
