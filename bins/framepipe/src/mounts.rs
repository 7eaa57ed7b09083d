//! `/proc/PID/mountinfo`, line by line: `ID PARENT DEVICE ROOT POINT OPTIONS … - TYPE SOURCE OPTIONS`.

/// A mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The file system's device, MAJOR:MINOR.
    pub device: &'a str,
    /// What of the file system is shown at its top.
    pub root: &'a str,
    /// Where it is.
    pub point: &'a str,
    /// Its own options.
    pub options: &'a str,
    /// The file system's type: `tmpfs`, `ext4`.
    pub kind: &'a str,
    /// The file system's options.
    pub kind_options: &'a str,
}

/// All mounts; a line that is none is left out.
pub fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(2);
        let mut of_kind = file_system.split(' ');
        Some(Mount {
            device: fields.next()?,
            root: fields.next()?,
            point: fields.next()?,
            options: fields.next()?,
            kind: of_kind.next()?,
            kind_options: of_kind.nth(1)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_as_the_kernel_writes_it() {
        let text =
            "25 24 0:23 /a /dev/shm rw,nosuid shared:1 master:2 - tmpfs source rw,size=1k\nnonsense\n - \n1 2 3 - 4\n";
        let mount = Mount {
            device: "0:23",
            root: "/a",
            point: "/dev/shm",
            options: "rw,nosuid",
            kind: "tmpfs",
            kind_options: "rw,size=1k",
        };
        assert_eq!(mounts(text).collect::<Vec<_>>(), [mount]);
    }
}
