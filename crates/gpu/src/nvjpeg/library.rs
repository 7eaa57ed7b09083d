//! libnvjpeg: found at run time, by the names of its functions (`nvjpeg.h` of CUDA 12 and 13).

use std::{
    ffi::{c_int, c_uint, c_void},
    fmt,
    ptr::null_mut,
};

use cudarc::driver::sys::CUstream;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

/// As the dynamic loader looks for them, the newest first.
const NAMES: [&str; 2] = ["libnvjpeg.so.13", "libnvjpeg.so.12"];
const STRICT: c_uint = 1 << 2;
const INTERPOLATES: c_uint = 1 << 5;
/// How a decoder is asked for: strict about the file, colours interpolated as libjpeg does; or of what cannot do so, less.
const FLAGS: [(c_uint, &str); 3] =
    [(STRICT | INTERPOLATES, ""), (STRICT, ", colours not interpolated"), (0, ", neither strict nor interpolated")];
const COMPONENTS_MAX: usize = 4;

/// Which part of the work is done where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Backend {
    /// As the library thinks best.
    Default = 0,
    /// Huffman codes on the CPU, the rest on the device.
    Hybrid = 1,
    /// All on the device, as far as it goes.
    Gpu = 2,
    /// By engines for JPEG alone, which A100, H100 and others have, and T4 has not.
    Hardware = 3,
}

/// Why there is no nvJPEG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NvJpegError {
    /// The dynamic loader does not find it.
    #[error(
        "nvJPEG is not installed ({0}): install CUDA's package libnvjpeg-12-x (or -13-x), or put the folder of PyPI's \
         nvidia-nvjpeg-cu12 into LD_LIBRARY_PATH; or decode on the CPU"
    )]
    Missing(String),
    /// It is there, and cannot be used.
    #[error(
        "nvJPEG does not start ({0}): it needs a GPU, and a driver that is not older than it; or decode on the CPU"
    )]
    Fails(String),
}

/// A function's answer, other than that it worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(c_int);

impl Status {
    const NOT_SUPPORTED: Self = Self(4);

    pub(super) fn is_out_of_memory(self) -> bool {
        self.0 == 5
    }

    fn of(answer: c_int) -> Result<(), Self> {
        if answer == 0 { Ok(()) } else { Err(Self(answer)) }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "not initialised",
            2 => "invalid parameter",
            3 => "bad JPEG",
            4 => "JPEG not supported",
            5 => "allocator failure",
            6 => "execution failed",
            7 => "architecture mismatch",
            8 => "internal error",
            9 => "implementation not supported",
            10 => "incomplete bitstream",
            _ => "an unknown status",
        };
        write!(f, "{name} ({})", self.0)
    }
}

/// What pixels are wanted as.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(super) enum Output {
    Luma = 2,
    Rgb = 5,
}

/// Where they are wanted: `nvjpegImage_t`.
#[repr(C)]
pub(super) struct Image {
    planes: [*mut u8; COMPONENTS_MAX],
    pitches: [usize; COMPONENTS_MAX],
}

impl Image {
    /// In one plane, whose rows are `pitch` bytes apart.
    pub(super) fn at(address: u64, pitch: usize) -> Self {
        let mut image = Self { planes: [null_mut(); COMPONENTS_MAX], pitches: [0; COMPONENTS_MAX] };
        (image.planes[0], image.pitches[0]) = (address as *mut u8, pitch);
        image
    }
}

type CreateEx = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void, c_uint, *mut *mut c_void) -> c_int;
type Create = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int;
type Destroy = unsafe extern "C" fn(*mut c_void) -> c_int;
type GetProperty = unsafe extern "C" fn(c_int, *mut c_int) -> c_int;
type GetImageInfo =
    unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut c_int, *mut c_int, *mut c_int, *mut c_int) -> c_int;
type Decode = unsafe extern "C" fn(*mut c_void, *mut c_void, *const u8, usize, c_int, *mut Image, CUstream) -> c_int;

/// The library, open, with a decoder's state in it.
pub(super) struct Handle {
    name: String,
    /// Decodes strictly, and interpolates colours as libjpeg does.
    is_exact: bool,
    handle: *mut c_void,
    state: *mut c_void,
    destroy: Symbol<Destroy>,
    state_destroy: Symbol<Destroy>,
    image_info: Symbol<GetImageInfo>,
    decode: Symbol<Decode>,
}

// SAFETY: the library's states belong to no thread; each is used by one at a time, through `&mut self`.
unsafe impl Send for Handle {}

impl Handle {
    /// The first library of [`NAMES`] that is there and that passes `trial`, for the device that is current.
    pub(super) fn open(backend: Backend, trial: impl Fn(&mut Self) -> Result<(), String>) -> Result<Self, NvJpegError> {
        let (mut missing, mut failed) = (Vec::new(), Vec::new());
        for name in NAMES {
            // SAFETY: loading NVIDIA's library runs its initialisers, which it allows at any time.
            let library = match unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) } {
                Ok(library) => library,
                Err(error) => {
                    missing.push(std::error::Error::source(&error).map_or(name.into(), ToString::to_string));
                    continue;
                }
            };
            for (flags, words) in FLAGS {
                // SAFETY: the functions have these types in the header of both versions.
                let started = unsafe { Self::start(&library, name, backend, flags) };
                match started.and_then(|mut handle| trial(&mut handle).map(|()| handle)) {
                    Ok(handle) => {
                        // It holds memory of the device and threads of its own: it stays as long as the process.
                        std::mem::forget(library);
                        return Ok(handle.named(words));
                    }
                    Err(error) => failed.push(format!("{name}{words}: {error}")),
                }
            }
            std::mem::forget(library);
        }
        if failed.is_empty() {
            Err(NvJpegError::Missing(missing.join("; ")))
        } else {
            Err(NvJpegError::Fails(failed.join("; ")))
        }
    }

    fn named(mut self, words: &str) -> Self {
        self.name += words;
        self.is_exact = words.is_empty();
        self
    }

    /// # Safety
    /// `library` is libnvjpeg, and stays.
    unsafe fn start(library: &Library, name: &str, backend: Backend, flags: c_uint) -> Result<Self, String> {
        // SAFETY: the caller's.
        unsafe {
            let words = |error: libloading::Error| error.to_string();
            let create: Symbol<CreateEx> = library.get(b"nvjpegCreateEx\0").map_err(words)?;
            let state_create: Symbol<Create> = library.get(b"nvjpegJpegStateCreate\0").map_err(words)?;
            let property: Symbol<GetProperty> = library.get(b"nvjpegGetProperty\0").map_err(words)?;
            let mut version = [0; 3];
            for (which, number) in version.iter_mut().enumerate() {
                Status::of(property(which as c_int, number)).map_err(|status| status.to_string())?;
            }
            let mut this = Self {
                name: format!("{name} {}.{}.{}", version[0], version[1], version[2]),
                is_exact: false,
                handle: null_mut(),
                state: null_mut(),
                destroy: library.get(b"nvjpegDestroy\0").map_err(words)?,
                state_destroy: library.get(b"nvjpegJpegStateDestroy\0").map_err(words)?,
                image_info: library.get(b"nvjpegGetImageInfo\0").map_err(words)?,
                decode: library.get(b"nvjpegDecode\0").map_err(words)?,
            };
            // What an error left there is nothing to be destroyed.
            let mut made = null_mut();
            Status::of(create(backend as c_int, null_mut(), null_mut(), flags, &mut made))
                .map_err(|status| format!("nvjpegCreateEx: {status}"))?;
            this.handle = made;
            Status::of(state_create(this.handle, &mut made))
                .map_err(|status| format!("nvjpegJpegStateCreate: {status}"))?;
            this.state = made;
            Ok(this)
        }
    }

    /// The library's file and version.
    pub(super) fn is_exact(&self) -> bool {
        self.is_exact
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Columns and rows of an image.
    pub(super) fn size(&self, jpeg: &[u8]) -> Result<(u32, u32), Status> {
        let (mut components, mut subsampling) = (0, -1);
        let (mut widths, mut heights) = ([0; COMPONENTS_MAX], [0; COMPONENTS_MAX]);
        let (to_widths, to_heights) = (widths.as_mut_ptr(), heights.as_mut_ptr());
        // SAFETY: the handle lives; the pointers are to as many numbers as are written.
        Status::of(unsafe {
            (self.image_info)(
                self.handle,
                jpeg.as_ptr(),
                jpeg.len(),
                &mut components,
                &mut subsampling,
                to_widths,
                to_heights,
            )
        })?;
        // A subsampling that it has no name for.
        if subsampling < 0 {
            return Err(Status::NOT_SUPPORTED);
        }
        Ok((widths[0] as u32, heights[0] as u32))
    }

    /// Asks the device for an image.
    ///
    /// # Safety
    /// The image's memory holds it; it and the file's bytes stay until the stream has been waited for.
    pub(super) unsafe fn decode(
        &mut self,
        jpeg: &[u8],
        output: Output,
        image: &mut Image,
        stream: CUstream,
    ) -> Result<(), Status> {
        // SAFETY: the handles live; the rest is the caller's.
        Status::of(unsafe {
            (self.decode)(self.handle, self.state, jpeg.as_ptr(), jpeg.len(), output as c_int, image, stream)
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Errors: the device is lost, and with it what would be released.
        // SAFETY: made in `start`, destroyed once, the state first; nobody waits for anything of it.
        unsafe {
            if !self.state.is_null() {
                let _ = (self.state_destroy)(self.state);
            }
            if !self.handle.is_null() {
                let _ = (self.destroy)(self.handle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_or_a_gpu_the_reason_is_said() {
        match Handle::open(Backend::Default, |_| Ok(())) {
            Ok(handle) => assert!(handle.name().starts_with("libnvjpeg.so.1"), "{}", handle.name()),
            Err(error @ NvJpegError::Missing(_)) => assert!(error.to_string().contains("install"), "{error}"),
            Err(error @ NvJpegError::Fails(_)) => assert!(error.to_string().contains("driver"), "{error}"),
        }
    }
}
