//! A terminal for a program under test: a pseudo-terminal, and who draws what the program writes there.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{wait_for, wait_until};

/// For the program to show something, or to end.
const SHOW_WAIT: Duration = Duration::from_secs(60);

/// A terminal, and the program that has it. Dropped, the program is killed.
pub struct Terminal {
    program: Child,
    master: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a program in a session of its own, whose terminal this is.
    pub fn start(program: &Path, arguments: &[&str], (lines, columns): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is this process's");
        resize(&master, lines, columns);
        let slave =
            open(ptsname(&master, Vec::new()).expect("it has a name"), OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let slave = slave.expect("it can be opened");
        let end = |slave: &OwnedFd| Stdio::from(slave.try_clone().expect("one more descriptor"));
        let mut command = Command::new("setsid"); // which becomes the program: a new session has this terminal
        command.arg("--ctty").arg(program).args(arguments).env("TERM", "xterm-256color");
        command.stdin(end(&slave)).stdout(end(&slave)).stderr(end(&slave));
        let program = command.spawn().expect("setsid, of util-linux, can be run");
        drop((slave, command)); // the program has it alone: its end is this one's
        let screen = Arc::new(Mutex::new(vt100::Parser::new(side(lines), side(columns), 0)));
        let master = File::from(master);
        let (mut reads, draws) = (master.try_clone().expect("one more descriptor"), screen.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reads.read(&mut bytes) {
                draws.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        Self { program, master, screen }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the program reads its terminal");
    }

    /// Gives the terminal another size.
    pub fn resize(&self, lines: u16, columns: u16) {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).set_size(side(lines), side(columns));
        resize(&self.master, lines, columns);
    }

    /// The screen as text, a line each.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until the screen is so.
    ///
    /// # Panics
    /// When it does not become so, with the screen.
    pub fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let mut seen = String::new();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, SHOW_WAIT, || {
                seen = self.text();
                is_so(&seen)
            });
        }));
        assert!(looked.is_ok(), "{what} is not on the screen:\n{seen}");
    }

    /// True while the program has taken the screen: the other one, without a cursor, keys unread by the terminal itself.
    pub fn is_taken(&self) -> bool {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let modes = tcgetattr(&self.master).expect("it is a terminal").local_modes;
        let taken = [
            screen.screen().alternate_screen(),
            screen.screen().hide_cursor(),
            !modes.contains(LocalModes::ICANON | LocalModes::ECHO),
        ];
        assert!(taken.iter().all(|one| *one == taken[0]), "some of it alone: {taken:?}");
        taken[0]
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.program.id()).expect("a pid")), signal).expect("it runs");
    }

    /// Waits for the program's end.
    pub fn wait_end(&mut self) -> ExitStatus {
        let program = &mut self.program;
        wait_for("the program's end", SHOW_WAIT, || program.try_wait().expect("it can be waited for"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.program.try_wait() {
            let _ = self.program.kill();
            let _ = self.program.wait();
        }
    }
}

fn resize(master: &impl std::os::fd::AsFd, lines: u16, columns: u16) {
    let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("it is a terminal");
}

fn side(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).expect("a terminal has a size")
}
