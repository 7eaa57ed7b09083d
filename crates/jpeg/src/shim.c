/* libjpeg-turbo's jpeglib.h, called so that no error leaves C.
 *
 * libjpeg reports an error by a function that may not return: here it jumps back into the call of this file that
 * Rust made, which returns a number. So setjmp() and longjmp() only ever cross frames of C.
 *
 * Of an image, a new decompressor is made. An old one would keep its quantisation and Huffman tables, and a file
 * without tables of its own would be decoded with those of whatever file came before. */

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jpeglib.h>
#include <jerror.h>

#include "shim.h"

/* Rows that one call of libjpeg is offered. It gives two groups of at most 4 (the largest sampling factor). */
#define ROWS_OFFERED 8
/* Pixels between two looks at the clock: a look takes some 0.3 us, so many pixels some 300 us. */
#define PIXELS_PER_LOOK (128 * 1024)
/* Pixels that are skipped in one call of libjpeg, which cannot be stopped. */
#define PIXELS_PER_SKIP (1024 * 1024)

struct framepipe_jpeg {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    int failure;
    char words[JMSG_LENGTH_MAX];
    uint32_t stray_bytes;
    uint32_t scans_max;
    uint64_t cpu_ns_end;      /* on this thread's clock; 0: no limit */
    uint64_t pixels_unlooked; /* since the last look at the clock */
    int reads_rows;           /* every scan but the last is read */
};

static uint64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Noreturn void fail(struct framepipe_jpeg *decoder, int failure)
{
    decoder->failure = failure;
    longjmp(decoder->failed, 1);
}

static _Noreturn void on_error(j_common_ptr common)
{
    struct framepipe_jpeg *decoder = common->client_data;
    common->err->format_message(common, decoder->words);
    fail(decoder, common->err->msg_code == JERR_OUT_OF_MEMORY ? FRAMEPIPE_JPEG_MEMORY : FRAMEPIPE_JPEG_CORRUPT);
}

/* Whether a warning tells of bytes that no pixel needs. Cameras write them between the segments of the header and
 * before the end marker. Within a scan they mean that a restart marker was looked for in the wrong place; so may
 * those before the end marker, where there are restart markers; and between scans, that a scan ended too early. */
static int warns_of_stray_bytes(const struct framepipe_jpeg *decoder)
{
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    if (decoder->errors.msg_code != JWRN_EXTRANEOUS_DATA)
        return 0;
    if (jpeg->input_scan_number == 0)
        return 1;
    return decoder->errors.msg_parm.i[1] == JPEG_EOI && jpeg->restart_interval == 0;
}

/* A level below 0 is a warning: libjpeg would go on with made-up pixels. */
static void on_message(j_common_ptr common, int level)
{
    struct framepipe_jpeg *decoder = common->client_data;
    if (level >= 0)
        return;
    if (warns_of_stray_bytes(decoder))
        decoder->stray_bytes += (uint32_t)decoder->errors.msg_parm.i[0];
    else
        on_error(common);
}

static void spend(struct framepipe_jpeg *decoder, uint64_t pixels)
{
    decoder->pixels_unlooked += pixels;
    if (decoder->cpu_ns_end == 0 || decoder->pixels_unlooked < PIXELS_PER_LOOK)
        return;
    decoder->pixels_unlooked = 0;
    if (thread_cpu_ns() > decoder->cpu_ns_end)
        fail(decoder, FRAMEPIPE_JPEG_OUT_OF_TIME);
}

/* Rows of the output that come of one row of the largest blocks. */
static JDIMENSION band_rows(const struct jpeg_decompress_struct *jpeg)
{
    return (JDIMENSION)(jpeg->max_v_samp_factor * jpeg->min_DCT_scaled_size);
}

/* libjpeg calls this for each row of blocks of a scan that is read ahead, and for each group of rows given. */
static void on_progress(j_common_ptr common)
{
    struct framepipe_jpeg *decoder = common->client_data;
    const struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    if (jpeg->input_scan_number > 0 && (uint32_t)jpeg->input_scan_number > decoder->scans_max)
        fail(decoder, FRAMEPIPE_JPEG_TOO_MANY_SCANS);
    int block_rows = decoder->reads_rows ? DCTSIZE / jpeg->min_DCT_scaled_size : DCTSIZE;
    spend(decoder, (uint64_t)jpeg->image_width * (uint64_t)(jpeg->max_v_samp_factor * block_rows));
}

static void create(struct framepipe_jpeg *decoder)
{
    j_decompress_ptr jpeg = &decoder->jpeg;
    jpeg->err = jpeg_std_error(&decoder->errors);
    jpeg->client_data = decoder;
    decoder->errors.error_exit = on_error;
    decoder->errors.emit_message = on_message;
    jpeg_create_decompress(jpeg);
    decoder->progress.progress_monitor = on_progress;
    jpeg->progress = &decoder->progress;
}

static J_COLOR_SPACE color_space(uint32_t pixels)
{
    switch (pixels) {
    case FRAMEPIPE_JPEG_GREY:
        return JCS_GRAYSCALE;
    case FRAMEPIPE_JPEG_CMYK:
        return JCS_CMYK;
    default:
        return JCS_EXT_RGB;
    }
}

static void start(struct framepipe_jpeg *decoder, const unsigned char *bytes, size_t size,
                  const struct framepipe_jpeg_options *options, struct framepipe_jpeg_image *image)
{
    j_decompress_ptr jpeg = &decoder->jpeg;
    create(decoder);
    jpeg_mem_src(jpeg, bytes, size);
    jpeg_read_header(jpeg, TRUE);
    jpeg->out_color_space = color_space(options->pixels);
    jpeg->scale_num = 1;
    jpeg->scale_denom = options->divisor;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(jpeg);
    decoder->reads_rows = 1;
    image->stored_width = jpeg->image_width;
    image->stored_height = jpeg->image_height;
    image->width = jpeg->output_width;
    image->height = jpeg->output_height;
    image->pixel_bytes = (uint32_t)jpeg->output_components;
    int is_single = jpeg->comps_in_scan == 1 && jpeg->num_components == 1;
    image->column_group = (uint32_t)(jpeg->min_DCT_scaled_size * (is_single ? 1 : jpeg->max_h_samp_factor));
}

/* Leaves out rows so that the next one is what it would be without. jpeg_skip_scanlines() does so only
 *
 *   - from the first row of a group (of as many rows as the largest sampling factor): from within one it may give
 *     that group's pixels once more, or forget that it has read ahead;
 *   - where a row is read before it is called again, or the last call ended with a row of blocks: otherwise it may
 *     forget to read that row's bytes;
 *   - short of the last row: otherwise it takes the rest of the file for read, and what is cut off for whole.
 *
 * Told to leave out one row, it always reads and drops it. */
static void skip_rows(struct framepipe_jpeg *decoder, JDIMENSION rows)
{
    j_decompress_ptr jpeg = &decoder->jpeg;
    const JDIMENSION group = (JDIMENSION)jpeg->max_v_samp_factor;
    const JDIMENSION band = band_rows(jpeg);
    const uint64_t band_pixels = (uint64_t)jpeg->image_width * (uint64_t)(jpeg->max_v_samp_factor * DCTSIZE);
    const JDIMENSION bands = 1 + (JDIMENSION)(PIXELS_PER_SKIP / band_pixels);
    while (rows > 0) {
        JDIMENSION step = 1;
        if (jpeg->output_scanline % group == 0) {
            JDIMENSION to_end_of_bands = bands * band - jpeg->output_scanline % band;
            step = rows < to_end_of_bands ? rows : to_end_of_bands;
        }
        jpeg_skip_scanlines(jpeg, step);
        rows -= step;
        spend(decoder, step * band_pixels / band);
    }
}

static void read_rows(struct framepipe_jpeg *decoder, unsigned char *pixels, size_t stride, uint32_t rows)
{
    while (rows > 0) {
        JSAMPROW offered[ROWS_OFFERED];
        JDIMENSION count = rows < ROWS_OFFERED ? rows : ROWS_OFFERED;
        for (JDIMENSION row = 0; row < count; row++)
            offered[row] = pixels + row * stride;
        count = jpeg_read_scanlines(&decoder->jpeg, offered, count);
        pixels += count * stride;
        rows -= count;
    }
}

static void finish(struct framepipe_jpeg *decoder)
{
    j_decompress_ptr jpeg = &decoder->jpeg;
    /* Of an image of several scans, the end marker was read before the first row. */
    if (jpeg_input_complete(jpeg))
        return;
    JDIMENSION rows = jpeg->output_height - jpeg->output_scanline;
    if (rows > 0) {
        skip_rows(decoder, rows - 1);
        size_t row_bytes = (size_t)jpeg->output_width * (size_t)jpeg->output_components;
        JSAMPROW last = jpeg->mem->alloc_large((j_common_ptr)jpeg, JPOOL_IMAGE, row_bytes);
        read_rows(decoder, last, row_bytes, 1);
    }
    jpeg_finish_decompress(jpeg);
}

static int failed(struct framepipe_jpeg *decoder)
{
    framepipe_jpeg_end(decoder);
    return decoder->failure;
}

struct framepipe_jpeg *framepipe_jpeg_new(void)
{
    return calloc(1, sizeof(struct framepipe_jpeg));
}

void framepipe_jpeg_free(struct framepipe_jpeg *decoder)
{
    framepipe_jpeg_end(decoder);
    free(decoder);
}

int framepipe_jpeg_start(struct framepipe_jpeg *decoder, const unsigned char *bytes, size_t size,
                         const struct framepipe_jpeg_options *options, struct framepipe_jpeg_image *image)
{
    framepipe_jpeg_end(decoder);
    decoder->stray_bytes = 0;
    decoder->scans_max = options->scans_max;
    decoder->cpu_ns_end = options->cpu_ms_max ? thread_cpu_ns() + options->cpu_ms_max * (uint64_t)1000000 : 0;
    decoder->pixels_unlooked = 0;
    decoder->reads_rows = 0;
    if (setjmp(decoder->failed))
        return failed(decoder);
    start(decoder, bytes, size, options, image);
    return FRAMEPIPE_JPEG_OK;
}

int framepipe_jpeg_crop(struct framepipe_jpeg *decoder, uint32_t *left, uint32_t *width)
{
    if (setjmp(decoder->failed))
        return failed(decoder);
    jpeg_crop_scanline(&decoder->jpeg, left, width);
    return FRAMEPIPE_JPEG_OK;
}

int framepipe_jpeg_read(struct framepipe_jpeg *decoder, uint32_t skipped, unsigned char *pixels, size_t stride,
                        uint32_t rows)
{
    if (setjmp(decoder->failed))
        return failed(decoder);
    skip_rows(decoder, skipped);
    read_rows(decoder, pixels, stride, rows);
    return FRAMEPIPE_JPEG_OK;
}

int framepipe_jpeg_finish(struct framepipe_jpeg *decoder, uint32_t *stray_bytes)
{
    if (setjmp(decoder->failed))
        return failed(decoder);
    finish(decoder);
    *stray_bytes = decoder->stray_bytes;
    framepipe_jpeg_end(decoder);
    return FRAMEPIPE_JPEG_OK;
}

void framepipe_jpeg_end(struct framepipe_jpeg *decoder)
{
    jpeg_destroy_decompress(&decoder->jpeg);
}

const char *framepipe_jpeg_words(const struct framepipe_jpeg *decoder)
{
    return decoder->words;
}
