//! Who a pid is: the start time in /proc tells a process from another one that got its pid later.

/// Start time of a process, in clock ticks since boot; `None` where there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/PID/stat`. Field 2, the name, stands in parentheses and may hold anything.
fn parse(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_anything() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21";
        assert_eq!(parse(&format!("42 (a) b (c) {rest}")), Some(777));
        assert!(start_time(std::process::id()).is_some_and(|time| time > 0));
        assert_eq!(start_time(u32::MAX), None);
    }
}
