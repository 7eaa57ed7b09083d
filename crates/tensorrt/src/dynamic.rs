//! Libraries loaded at run time. Once loaded they stay: what they left in threads and at the process's end would be called.

use std::{
    ffi::{CStr, CString, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    ptr::NonNull,
};

/// A loaded library.
#[derive(Clone, Copy)]
pub(crate) struct Loaded(NonNull<c_void>);

// SAFETY: dlsym may be called on any thread, by several at once.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Loads a library: a path with a slash is that file, a bare name is looked for by the loader. The loader's words on failure.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "the path holds a zero byte".to_owned())?;
        // SAFETY: `name` is a C string; libraries run code of theirs when they are loaded, which the caller asked for.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Self).ok_or_else(last_error)
    }

    /// The address of a function.
    pub(crate) fn symbol(self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is of a library that is never unloaded, `name` is a C string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

/// What dlopen failed at on this thread.
fn last_error() -> String {
    // SAFETY: dlerror returns null or a C string of this thread's that lasts until its next call of these functions.
    let words = unsafe { libc::dlerror() };
    if words.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: not null, as above.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}

/// Casts an address to a function type. Only in calls that name both, so that the SAFETY line is theirs.
macro_rules! function {
    ($address:expr => $type:ty) => {
        std::mem::transmute::<*mut std::ffi::c_void, $type>($address.as_ptr())
    };
}
pub(crate) use function;
