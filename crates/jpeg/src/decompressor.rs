//! A decompressor and the rows of its image. What C is promised is checked here: buffers hold the rows that they are
//! passed for, no more rows are asked for than there are, and nothing is asked for after an error.

use std::{
    ffi::{CStr, c_int},
    marker::PhantomData,
    ptr::NonNull,
};

use crate::{JpegError, shim};

/// The share of an image's size at which it is decoded. 5/8 to 7/8, which libjpeg knows too, cost more than all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// All of it.
    #[default]
    Full,
    /// 1/2.
    Half,
    /// 1/4.
    Quarter,
    /// 1/8.
    Eighth,
}

impl Scale {
    /// Stored pixels of one side to a decoded pixel.
    pub fn divisor(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }

    /// Decoded pixels of a side. The last one may show less than its share of the image, whose edge is repeated then.
    pub fn pixels_of(self, side: u32) -> u32 {
        side.div_ceil(self.divisor())
    }
}

/// What a pixel is given as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pixels {
    /// Red, green, blue. Of an image of one or three components.
    #[default]
    Rgb,
    /// One byte. Of an image of one or three components.
    Grey,
    /// Four bytes as stored: Adobe's are inverted. Of an image of four components.
    Cmyk,
}

/// How an image is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The share of its size.
    pub scale: Scale,
    /// What a pixel is given as.
    pub pixels: Pixels,
    /// Most scans. Each costs a pass over the whole image, however few bytes it has.
    pub scans_max: u32,
    /// Most CPU milliseconds of this thread from [`Decompressor::start`] to the last row, whatever it does between
    /// rows; 0 is no limit. The clock is read once in some 100,000 pixels.
    pub cpu_ms_max: u32,
}

/// What was found in a whole image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Bytes between segments or before the end marker that belong to nothing. Of those behind a scan, the first 8 may
    /// be missing: libjpeg has read them with it.
    pub stray_bytes: u32,
}

/// Decodes JPEGs, one after another. Keeps nothing of one for the next.
#[derive(Debug)]
pub struct Decompressor(NonNull<shim::Decoder>);

// SAFETY: the shim's state is on the heap, belongs to this value alone, and refers to no thread; a started image, which
// is held to its thread's clock, borrows it and is not Send.
unsafe impl Send for Decompressor {}

impl Decompressor {
    /// A decompressor without an image.
    ///
    /// # Errors
    /// [`JpegError::Memory`].
    pub fn new() -> Result<Self, JpegError> {
        // SAFETY: takes nothing, and gives null or a state that is this value's until it is dropped.
        NonNull::new(unsafe { shim::framepipe_jpeg_new() }).map(Self).ok_or(JpegError::Memory)
    }

    /// Begins an image: reads its headers, and of one of several scans (a progressive one) all bytes.
    ///
    /// # Errors
    /// Every [`JpegError`].
    pub fn start<'d>(&'d mut self, bytes: &'d [u8], options: &Options) -> Result<Rows<'d>, JpegError> {
        let shim_options = shim::Options {
            divisor: options.scale.divisor(),
            pixels: match options.pixels {
                Pixels::Rgb => 0,
                Pixels::Grey => 1,
                Pixels::Cmyk => 2,
            },
            scans_max: options.scans_max,
            cpu_ms_max: options.cpu_ms_max,
        };
        let mut image = shim::Image::default();
        // SAFETY: the state is this value's; `bytes` outlives the rows, which end the image when they are dropped, and
        // rows that were leaked are ended by the next start before their bytes are read again.
        let code = unsafe {
            shim::framepipe_jpeg_start(self.0.as_ptr(), bytes.as_ptr(), bytes.len(), &shim_options, &mut image)
        };
        self.check(code, options)?;
        Ok(Rows {
            decompressor: self,
            options: *options,
            image,
            next: 0,
            skipped: 0,
            failure: None,
            bytes: PhantomData,
            thread: PhantomData,
        })
    }

    fn check(&self, code: c_int, options: &Options) -> Result<(), JpegError> {
        match code {
            shim::OK => Ok(()),
            shim::TOO_MANY_SCANS => Err(JpegError::TooManyScans { max: options.scans_max }),
            shim::OUT_OF_TIME => Err(JpegError::OutOfTime { cpu_ms_max: options.cpu_ms_max }),
            shim::MEMORY => Err(JpegError::Memory),
            _ => {
                // SAFETY: the words lie in the state, which lives, and end with 0: libjpeg formatted them.
                let words = unsafe { CStr::from_ptr(shim::framepipe_jpeg_words(self.0.as_ptr())) };
                Err(JpegError::Corrupt(words.to_string_lossy().into_owned()))
            }
        }
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the state is this value's, and not used after.
        unsafe { shim::framepipe_jpeg_free(self.0.as_ptr()) }
    }
}

/// The rows of an image, from the top. After an error every call gives that error again.
#[derive(Debug)]
pub struct Rows<'d> {
    decompressor: &'d mut Decompressor,
    options: Options,
    image: shim::Image,
    /// The row that is read next.
    next: u32,
    /// Of the rows before it, the last that libjpeg has not been told to skip: it may not be told twice in a row.
    skipped: u32,
    failure: Option<JpegError>,
    bytes: PhantomData<&'d [u8]>,
    /// Not Send: its thread's clock is read.
    thread: PhantomData<*mut ()>,
}

impl Rows<'_> {
    /// Pixels of a row.
    pub fn width(&self) -> u32 {
        self.image.width
    }

    /// Rows of the image.
    pub fn height(&self) -> u32 {
        self.image.height
    }

    /// Width and height of the image at its full size.
    pub fn stored_size(&self) -> (u32, u32) {
        (self.image.stored_width, self.image.stored_height)
    }

    /// Bytes of a pixel.
    pub fn pixel_bytes(&self) -> usize {
        self.image.pixel_bytes as usize
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.width() as usize * self.pixel_bytes()
    }

    /// The row that is read next.
    pub fn next_row(&self) -> u32 {
        self.next
    }

    /// Pixels that libjpeg decodes together: [`Self::crop`] goes to a multiple of them on the left.
    pub fn column_group(&self) -> u32 {
        self.image.column_group
    }

    /// Narrows the rows to `width` pixels from `left`, and to those to the left of them that libjpeg cannot leave out.
    /// Gives the `left` and `width` of the rows from here on. Pixels at their ends differ from those of the whole
    /// image where these are made with their neighbours.
    ///
    /// # Errors
    /// Every [`JpegError`].
    ///
    /// # Panics
    /// After [`Self::read`] or [`Self::skip`], or where the columns are none or not within the image.
    pub fn crop(&mut self, left: u32, width: u32) -> Result<(u32, u32), JpegError> {
        assert_eq!(self.next, 0, "columns are left out before the first row");
        let right = left.checked_add(width).filter(|right| width > 0 && *right <= self.width());
        assert!(right.is_some(), "{width} pixels from {left} of {}", self.width());
        let (mut left, mut width) = (left, width);
        self.call(|decoder| {
            // SAFETY: the image is started and no row is read; the columns are within it.
            unsafe { shim::framepipe_jpeg_crop(decoder, &mut left, &mut width) }
        })?;
        self.image.width = width;
        Ok((left, width))
    }

    /// Leaves out rows. Costs nothing before the next row that is read.
    ///
    /// # Panics
    /// Where there are fewer rows.
    pub fn skip(&mut self, rows: u32) {
        assert!(rows <= self.height() - self.next, "{rows} rows from {} of {}", self.next, self.height());
        self.next += rows;
        self.skipped += rows;
    }

    /// Fills `pixels` with the next rows, close together.
    ///
    /// # Errors
    /// Every [`JpegError`].
    ///
    /// # Panics
    /// Where `pixels` are no whole rows, or more than there are.
    pub fn read(&mut self, pixels: &mut [u8]) -> Result<(), JpegError> {
        let row_bytes = self.row_bytes();
        let rows = pixels.len() / row_bytes;
        assert!(pixels.len().is_multiple_of(row_bytes), "{} bytes for rows of {row_bytes}", pixels.len());
        assert!(rows <= (self.height() - self.next) as usize, "{rows} rows from {} of {}", self.next, self.height());
        if rows == 0 {
            return self.call(|_| shim::OK);
        }
        let (skipped, rows) = (self.skipped, rows as u32);
        self.call(|decoder| {
            // SAFETY: the image is started; `pixels` hold `rows` rows of `row_bytes`, which is what libjpeg writes; as
            // many rows are left after the skipped ones.
            unsafe { shim::framepipe_jpeg_read(decoder, skipped, pixels.as_mut_ptr(), row_bytes, rows) }
        })?;
        self.next += rows;
        self.skipped = 0;
        Ok(())
    }

    /// Reads what is left to the end marker, without giving the rows: a file that is cut off anywhere is an error.
    ///
    /// # Errors
    /// Every [`JpegError`].
    pub fn finish(mut self) -> Result<Report, JpegError> {
        let mut stray_bytes = 0;
        self.call(|decoder| {
            // SAFETY: the image is started.
            unsafe { shim::framepipe_jpeg_finish(decoder, &mut stray_bytes) }
        })?;
        Ok(Report { stray_bytes })
    }

    /// Calls the shim on a started image, never after an error.
    fn call(&mut self, shim: impl FnOnce(*mut shim::Decoder) -> c_int) -> Result<(), JpegError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let code = shim(self.decompressor.0.as_ptr());
        let result = self.decompressor.check(code, &self.options);
        self.failure = result.clone().err();
        result
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // SAFETY: the state is the decompressor's; ending twice is allowed.
        unsafe { shim::framepipe_jpeg_end(self.decompressor.0.as_ptr()) }
    }
}
