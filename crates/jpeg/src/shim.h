/* What shim.c gives to Rust: src/shim.rs says the same in Rust. */

#ifndef FRAMEPIPE_JPEG_SHIM_H
#define FRAMEPIPE_JPEG_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* How a call ended. */
enum {
    FRAMEPIPE_JPEG_OK = 0,
    FRAMEPIPE_JPEG_CORRUPT = 1,        /* framepipe_jpeg_words() says why */
    FRAMEPIPE_JPEG_TOO_MANY_SCANS = 2,
    FRAMEPIPE_JPEG_OUT_OF_TIME = 3,
    FRAMEPIPE_JPEG_MEMORY = 4
};

/* Pixels to give. */
enum {
    FRAMEPIPE_JPEG_RGB = 0,
    FRAMEPIPE_JPEG_GREY = 1,
    FRAMEPIPE_JPEG_CMYK = 2
};

struct framepipe_jpeg_options {
    uint32_t divisor;       /* of the size: 1, 2, 4 or 8 */
    uint32_t pixels;        /* FRAMEPIPE_JPEG_RGB, _GREY or _CMYK */
    uint32_t scans_max;
    uint32_t cpu_ms_max;    /* of this thread, from the start of the image; 0: no limit */
};

struct framepipe_jpeg_image {
    uint32_t stored_width, stored_height;
    uint32_t width, height; /* at the scale */
    uint32_t pixel_bytes;
    uint32_t column_group;  /* pixels to whose multiples framepipe_jpeg_crop widens to the left */
};

struct framepipe_jpeg;

/* NULL where there is no memory. Nothing else than this is kept from image to image. */
struct framepipe_jpeg *framepipe_jpeg_new(void);
void framepipe_jpeg_free(struct framepipe_jpeg *decoder);

/* Reads the headers, and of an image of several scans all of it. Ends an image that was not ended. `bytes` must
 * stay until the image is ended. */
int framepipe_jpeg_start(struct framepipe_jpeg *decoder, const unsigned char *bytes, size_t size,
                         const struct framepipe_jpeg_options *options, struct framepipe_jpeg_image *image);

/* Narrows the rows, before the first one. `*left` goes down to a multiple of column_group, and `*width` grows by as
 * much. */
int framepipe_jpeg_crop(struct framepipe_jpeg *decoder, uint32_t *left, uint32_t *width);

/* Leaves out `skipped` rows and writes the next `rows`, `stride` bytes apart. There must be as many rows left, and of
 * `rows` at least one: libjpeg-turbo may not be told to skip twice in a row. */
int framepipe_jpeg_read(struct framepipe_jpeg *decoder, uint32_t skipped, unsigned char *pixels, size_t stride,
                        uint32_t rows);

/* Reads to the end marker, and tells the stray bytes of the whole image. */
int framepipe_jpeg_finish(struct framepipe_jpeg *decoder, uint32_t *stray_bytes);

/* Ends the image, whatever its state, and frees its memory. */
void framepipe_jpeg_end(struct framepipe_jpeg *decoder);

/* Why the last call failed, as libjpeg says it. */
const char *framepipe_jpeg_words(const struct framepipe_jpeg *decoder);

#endif
