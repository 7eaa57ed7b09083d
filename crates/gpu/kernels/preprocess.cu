// Rectangles of frames to tensors, in one pass: what framepipe-vision does, by the tables that it gives. A number of a tensor is the
// sum of a run of source columns in a run of source rows, by their weights; its channels are mixed of the source's, which
// orders them, makes luma of them, and normalises. Around the picture is padding.
//
// One launch makes any number of tensors of one shape: blocks are tiles of 32 x 8 pixels, their third index says of which.
typedef unsigned char u8;
typedef unsigned int u32;

// Source pixels that one of the tensor's is made of, along one axis.
struct Span {
    u32 first, start, count;    // the first pixel, where its weight is, how many
};

// One tensor to be made.
struct Sample {
    const u8* source;           // the first byte of the upright picture's pixel 0, 0
    void* tensor;
    const Span* columns;
    const Span* rows;
    const float* column_weights;
    const float* row_weights;
    long long step_x, step_y;   // bytes from a pixel of the upright picture to its neighbours on the right and below
    int left, top, width, height;   // where the picture lies in the tensor
    int source_bytes;           // of a pixel: 1 or 3
    int is_turned;              // by 180 degrees, the padding not
    float levels[3][3];         // by channel and byte of the pixel: what the level is multiplied by
    float offsets[3];
    float padding[3];
};

struct Shape {
    const Sample* samples;
    int width, height, channels;    // channels: 1 or 3
    int is_planar;              // else pixels lie one after another
    int is_f32;                 // else bytes
};

__device__ __forceinline__ void write(const Shape& shape, void* tensor, int x, int y, int channel, float number) {
    size_t at = shape.is_planar ? ((size_t)channel * shape.height + y) * shape.width + x
                                : ((size_t)y * shape.width + x) * shape.channels + channel;
    if (shape.is_f32) ((float*)tensor)[at] = number;
    else ((u8*)tensor)[at] = (u8)fminf(fmaxf(rintf(number), 0.f), 255.f);
}

// Byte `at` of words as a number: of a float of 2^23 the lowest byte counts ones. A conversion takes four times as long.
__device__ __forceinline__ float level(const u32* words, int at) {
    return __uint_as_float(__byte_perm(words[at / 4], 0x4b000000, 0x7440 + at % 4)) - 8388608.f;
}

// `count` bytes from wherever they begin, as words, of which the rest hold anything. Words are read where they lie: that is at most 3
// bytes before and 3 bytes behind, in the words of the first and the last.
template <int WORDS>
__device__ __forceinline__ void load(u32 (&to)[WORDS], const u8* from, int count) {
    int ahead = (int)((size_t)from & 3), there = (ahead + count + 3) / 4;
    const u32* words = (const u32*)(from - ahead);
    u32 low = words[0];
#pragma unroll
    for (int word = 0; word < WORDS; word++) {
        u32 high = word + 1 < there ? words[word + 1] : 0;
        to[word] = __funnelshift_r(low, high, 8 * ahead);
        low = high;
    }
}

// The weighted sum of the pixels of BYTES bytes that a column's and a row's run have, where a row's pixels lie close together: PIXELS
// of them at a time.
template <int BYTES, int PIXELS>
__device__ __forceinline__ void sum_close(const Sample& sample, const Span& column, const Span& row, float (&sums)[3]) {
    const u8* corner = sample.source + (long long)row.first * sample.step_y + (size_t)column.first * BYTES;
    for (u32 first = 0; first < column.count; first += PIXELS) {
        int count = (int)(column.count - first < PIXELS ? column.count - first : PIXELS);
        float weights[PIXELS];
#pragma unroll
        for (int at = 0; at < PIXELS; at++) {
            weights[at] = at < count ? sample.column_weights[column.start + first + at] : 0.f;
        }
        const u8* line = corner + first * BYTES;
        for (u32 down = 0; down < row.count; down++, line += sample.step_y) {
            u32 words[(PIXELS * BYTES + 3) / 4];
            load(words, line, count * BYTES);
            float weight = sample.row_weights[row.start + down];
#pragma unroll
            for (int byte = 0; byte < BYTES; byte++) {
                float of_row = 0.f;
#pragma unroll
                for (int at = 0; at < PIXELS; at++) of_row += weights[at] * level(words, at * BYTES + byte);
                sums[byte] += weight * of_row;
            }
        }
    }
}

// The same where they lie anyhow, as those of a frame do that is not stored upright.
template <int BYTES>
__device__ __forceinline__ void sum_apart(const Sample& sample, const Span& column, const Span& row, float (&sums)[3]) {
    const u8* line = sample.source + (long long)row.first * sample.step_y + (long long)column.first * sample.step_x;
    for (u32 down = 0; down < row.count; down++, line += sample.step_y) {
        const u8* pixel = line;
        for (u32 across = 0; across < column.count; across++, pixel += sample.step_x) {
            float weight = sample.row_weights[row.start + down] * sample.column_weights[column.start + across];
#pragma unroll
            for (int byte = 0; byte < BYTES; byte++) sums[byte] += weight * (float)pixel[byte];
        }
    }
}

template <int BYTES>
__device__ __forceinline__ void sum_up(const Sample& sample, const Span& column, const Span& row, float (&sums)[3]) {
    if (sample.step_x != BYTES) sum_apart<BYTES>(sample, column, row, sums);
    else if (column.count <= 2) sum_close<BYTES, 2>(sample, column, row, sums);
    else if (column.count <= 4) sum_close<BYTES, 4>(sample, column, row, sums);
    else sum_close<BYTES, 8>(sample, column, row, sums);
}

extern "C" __global__ void __launch_bounds__(256) sample_pixels(const Shape shape) {
    const Sample& sample = shape.samples[blockIdx.z];
    int x = blockIdx.x * 32 + (threadIdx.x & 31), y = blockIdx.y * 8 + (threadIdx.x >> 5);
    if (x >= shape.width || y >= shape.height) return;
    int column = x - sample.left, row = y - sample.top;
    if ((u32)column >= (u32)sample.width || (u32)row >= (u32)sample.height) {
        for (int channel = 0; channel < shape.channels; channel++) {
            write(shape, sample.tensor, x, y, channel, sample.padding[channel]);
        }
        return;
    }
    if (sample.is_turned) {
        column = sample.width - 1 - column;
        row = sample.height - 1 - row;
    }
    float sums[3] = {};
    if (sample.source_bytes == 3) sum_up<3>(sample, sample.columns[column], sample.rows[row], sums);
    else sum_up<1>(sample, sample.columns[column], sample.rows[row], sums);
    for (int channel = 0; channel < shape.channels; channel++) {
        const float* level = sample.levels[channel];
        float number = sums[0] * level[0] + sums[1] * level[1] + sums[2] * level[2] + sample.offsets[channel];
        write(shape, sample.tensor, x, y, channel, number);
    }
}
