// INT8 inference on tensors of u8, NHWC, with channels filled up to a multiple of 16 bytes. Zero points and scales are those
// of the ONNX graph; accumulators are 32-bit and exact, so that a result does not depend on the tile that made it.
//
// One source for two generations: from sm_80 on tiles are copied asynchronously and multiplied 16x8x32 at a time; on sm_75
// they go through registers and are multiplied 8x8x16 at a time, of the same fragments.
typedef unsigned char u8;
typedef unsigned int u32;

// 16 bytes of a pixel in a filter's window: where they lie, counted from the window's corner, and the pixel's column and row, as
// bits of the lower and the upper half of a word. A window has at most 15 columns and rows; what fills a tile up, whose weights are
// zero, needs a column and a row beyond these.
struct Tap {
    int at;
    u32 needs;
};
// Of one output pixel: its window's corner, counted from the input's start, and which of the window's columns and rows are there.
struct Row {
    int corner;
    u32 has;
};
// Bytes along the filter of one tile.
#define DEPTH 64

struct Conv {
    const u8* input;
    const u8* weights;      // [output channels, taps * 16], signed
    const int* bias;
    const float* scale;     // by output channel: accumulator to steps of the output
    const Tap* taps;
    const u8* residual;     // is added to the output; or none
    u8* output;
    int rows;               // output pixels of the whole batch
    int out_height, out_width, in_height, in_width;
    int in_pixel, out_pixel, residual_pixel;    // bytes from one pixel to the next
    int stride_y, stride_x, pad_top, pad_left;
    int tap_count;          // a multiple of 4
    int window_height, window_width;
    int channels;           // output channels, a multiple of 16
    u32 padding;            // the input's zero point, four times
    int low, zero;          // least step (ReLU), and zero point
    // What comes then: nothing, LeakyReLU of `slope` (1: of none), or a sum; in other steps, of `then_zero` and 1 / `then_inverse`.
    int residual_zero, then_zero, is_changed;
    float conv_scale, slope, residual_scale, then_inverse;
};

__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ void load_fragments(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(address));
}

__device__ __forceinline__ void multiply(int (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(sum[0]), "+r"(sum[1]) : "r"(a[0]), "r"(b0));
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(sum[2]), "+r"(sum[3]) : "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(sum[0]), "+r"(sum[1]) : "r"(a[2]), "r"(b1));
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(sum[2]), "+r"(sum[3]) : "r"(a[3]), "r"(b1));
#endif
}

__device__ __forceinline__ float limit(float value, float low) {
    return fminf(fmaxf(value, low), 255.f);
}

// Two numbers, each as the nearest of 0 to 255: the first in the lowest byte. Below `above`, which moves up.
__device__ __forceinline__ u32 pack(int first, int second, u32 above = 0) {
    u32 packed;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(packed) : "r"(second), "r"(first), "r"(above));
    return packed;
}

// The bits from `from` on, below `to`.
__device__ __forceinline__ u32 bits(int from, int to) {
    return to > from ? (1u << to) - (1u << from) : 0;
}

// Where 16 bytes lie in a tile of rows of DEPTH bytes: eight rows of one column of them touch each bank once.
__device__ __forceinline__ int swizzled(int row, int chunk) {
    return row * DEPTH + ((chunk ^ (row >> 1 & 3)) << 4);
}

// A convolution as a product of matrices that are never written down: rows are output pixels, columns output channels.
template <int ROWS, int COLUMNS, int WARPS_DOWN, int WARPS_ACROSS, int STAGES_AHEAD>
__device__ __forceinline__ void convolve(const Conv& conv) {
#if __CUDA_ARCH__ >= 800
    constexpr int STAGES = STAGES_AHEAD;
#else
    constexpr int STAGES = 2;
#endif
    constexpr int THREADS = WARPS_DOWN * WARPS_ACROSS * 32;
    constexpr int A_LOADS = ROWS * 4 / THREADS, B_LOADS = COLUMNS * 4 / THREADS;
    constexpr int WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS / WARPS_ACROSS;
    constexpr int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLUMNS / 8;
    constexpr int STAGE_BYTES = (ROWS + COLUMNS) * DEPTH;
    extern __shared__ __align__(128) u8 memory[];
    Row* rows = (Row*)(memory + STAGES * STAGE_BYTES);
    Tap* taps = (Tap*)(rows + ROWS);

    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    const int first_row = blockIdx.x * ROWS, first_column = blockIdx.y * COLUMNS;
    const int chunk = thread & 3;
    for (int tap = thread; tap < conv.tap_count; tap += THREADS) taps[tap] = conv.taps[tap];
    for (int row = thread; row < ROWS; row += THREADS) {
        u32 at = first_row + row, pixels = conv.out_height * conv.out_width;
        u32 image = at / pixels, pixel = at % pixels;
        int top = (int)(pixel / conv.out_width) * conv.stride_y - conv.pad_top;
        int left = (int)(pixel % conv.out_width) * conv.stride_x - conv.pad_left;
        u32 columns = bits(max(0, -left), min(conv.window_width, conv.in_width - left));
        u32 lines = bits(max(0, -top), min(conv.window_height, conv.in_height - top));
        int corner = (((int)image * conv.in_height + top) * conv.in_width + left) * conv.in_pixel;
        rows[row] = Row{corner, at < conv.rows ? columns | lines << 16 : 0};
    }

    int sums[DOWN][ACROSS][4];
    const int warp_row = warp / WARPS_ACROSS * WARP_ROWS, warp_column = warp % WARPS_ACROSS * WARP_COLUMNS;
#pragma unroll
    for (int across = 0; across < ACROSS; across++) {
        int channel = first_column + warp_column + across * 8 + (lane & 3) * 2;
        int2 bias = channel < conv.channels ? *(const int2*)(conv.bias + channel) : make_int2(0, 0);
#pragma unroll
        for (int down = 0; down < DOWN; down++) {
            sums[down][across][0] = sums[down][across][2] = bias.x;
            sums[down][across][1] = sums[down][across][3] = bias.y;
        }
    }
    const u8* filters[B_LOADS];
    bool is_filter[B_LOADS];
#pragma unroll
    for (int load = 0; load < B_LOADS; load++) {
        int column = first_column + (thread >> 2) + load * (THREADS / 4);
        is_filter[load] = column < conv.channels;
        filters[load] = conv.weights + (size_t)(is_filter[load] ? column : 0) * conv.tap_count * 16 + chunk * 16;
    }
    __syncthreads();
    // Of the output pixels whose input this thread fetches.
    Row fetched[A_LOADS];
#pragma unroll
    for (int load = 0; load < A_LOADS; load++) fetched[load] = rows[(thread >> 2) + load * (THREADS / 4)];

    const uint4 padding = make_uint4(conv.padding, conv.padding, conv.padding, conv.padding);
    const uint4 nothing = make_uint4(0, 0, 0, 0);
    // Where the thread's 16 bytes of row `load` come from; none: padding, or no tap.
    auto source = [&](int load, Tap tap) -> const u8* {
        bool is_there = (fetched[load].has & tap.needs) == tap.needs;
        return is_there ? conv.input + (fetched[load].corner + tap.at) : nullptr;
    };
    // Rows that are a multiple of 8 apart are swizzled alike: so the places of all that a thread moves differ by constants.
    constexpr int APART = THREADS / 4 * DEPTH;
    static_assert(THREADS / 4 % 8 == 0 && WARP_ROWS % 16 == 0 && WARP_COLUMNS % 16 == 0, "");
    const u32 stages = shared_address(memory), place = swizzled(thread >> 2, chunk);
    const u32 a_place = swizzled(warp_row + (lane & 15), lane >> 4);
    const u32 b_place = ROWS * DEPTH + swizzled(warp_column + (lane & 7) + (lane >> 4 << 3), lane >> 3 & 1);
    auto fill = [&](u32 to, uint4 with) {
        asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" :: "r"(to), "r"(with.x), "r"(with.y), "r"(with.z), "r"(with.w));
    };
    auto accumulate = [&](u32 stage) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 rows = (stage + a_place) ^ half << 5, columns = (stage + b_place) ^ half << 5;
            u32 a[DOWN][4];
#pragma unroll
            for (int down = 0; down < DOWN; down++) load_fragments(a[down], rows + down * 16 * DEPTH);
#pragma unroll
            for (int across = 0; across < ACROSS; across += 2) {
                u32 b[4];
                load_fragments(b, columns + across * 8 * DEPTH);
#pragma unroll
                for (int down = 0; down < DOWN; down++) {
                    multiply(sums[down][across], a[down], b[0], b[1]);
                    multiply(sums[down][across + 1], a[down], b[2], b[3]);
                }
            }
        }
    };

    const int tiles = conv.tap_count / 4;
#if __CUDA_ARCH__ >= 800
    auto copy = [&](u32 to, const u8* from) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from));
    };
    auto fetch = [&](int tile, u32 stage) {
        if (tile < tiles) {
            u32 to = stage + place;
            Tap tap = taps[tile * 4 + chunk];
#pragma unroll
            for (int load = 0; load < A_LOADS; load++) {
                const u8* from = source(load, tap);
                if (from) copy(to + load * APART, from); else fill(to + load * APART, padding);
            }
            to += ROWS * DEPTH;
#pragma unroll
            for (int load = 0; load < B_LOADS; load++) {
                if (is_filter[load]) copy(to + load * APART, filters[load] + tile * DEPTH); else fill(to + load * APART, nothing);
            }
        }
        asm volatile("cp.async.commit_group;");
    };
#pragma unroll
    for (int tile = 0; tile < STAGES - 1; tile++) fetch(tile, stages + tile * STAGE_BYTES);
    u32 current = stages, next = stages + (STAGES - 1) * STAGE_BYTES;
    for (int tile = 0; tile < tiles; tile++) {
        asm volatile("cp.async.wait_group %0;" :: "n"(STAGES - 2));
        __syncthreads();
        fetch(tile + STAGES - 1, next);
        accumulate(current);
        next = current;
        current = current + STAGE_BYTES == stages + STAGES * STAGE_BYTES ? stages : current + STAGE_BYTES;
    }
    asm volatile("cp.async.wait_group 0;");
#else
    uint4 a_next[A_LOADS], b_next[B_LOADS];
    auto read = [&](int tile) {
        Tap tap = taps[tile * 4 + chunk];
#pragma unroll
        for (int load = 0; load < A_LOADS; load++) {
            const u8* from = source(load, tap);
            a_next[load] = from ? *(const uint4*)from : padding;
        }
#pragma unroll
        for (int load = 0; load < B_LOADS; load++)
            b_next[load] = is_filter[load] ? *(const uint4*)(filters[load] + tile * DEPTH) : nothing;
    };
    auto store = [&](u32 stage) {
        u32 to = stage + place;
#pragma unroll
        for (int load = 0; load < A_LOADS; load++) fill(to + load * APART, a_next[load]);
#pragma unroll
        for (int load = 0; load < B_LOADS; load++) fill(to + ROWS * DEPTH + load * APART, b_next[load]);
    };
    read(0);
    store(stages);
    __syncthreads();
    for (int tile = 0; tile < tiles; tile++) {
        if (tile + 1 < tiles) read(tile + 1);
        accumulate(stages + (tile & 1) * STAGE_BYTES);
        if (tile + 1 < tiles) store(stages + (~tile & 1) * STAGE_BYTES);
        __syncthreads();
    }
#endif
    __syncthreads();

    // Through shared memory, so that whole 16 bytes are written, and read of what is added.
    constexpr int PITCH = COLUMNS + 16;
    u8* made = memory;
#pragma unroll
    for (int across = 0; across < ACROSS; across++) {
        int column = warp_column + across * 8 + (lane & 3) * 2, channel = first_column + column;
        float2 scale = channel < conv.channels ? *(const float2*)(conv.scale + channel) : make_float2(0.f, 0.f);
        auto steps = [&](int sum, float scale) { return max(__float2int_rn((float)sum * scale) + conv.zero, conv.low); };
#pragma unroll
        for (int down = 0; down < DOWN; down++) {
            const int(&sum)[4] = sums[down][across];
            u8* to = made + (warp_row + down * 16 + (lane >> 2)) * PITCH + column;
            *(unsigned short*)to = pack(steps(sum[0], scale.x), steps(sum[1], scale.y));
            *(unsigned short*)(to + 8 * PITCH) = pack(steps(sum[2], scale.x), steps(sum[3], scale.y));
        }
    }
    __syncthreads();
    for (int index = thread; index < ROWS * (COLUMNS / 16); index += THREADS) {
        int row = index / (COLUMNS / 16), at = index % (COLUMNS / 16) * 16;
        if (first_row + row >= conv.rows || first_column + at >= conv.channels) continue;
        uint4 packed = *(const uint4*)(made + row * PITCH + at);
        if (conv.is_changed) {
            const u8* bytes = (const u8*)&packed;
            float added[16] = {};
            if (conv.residual) {
                uint4 packed_residual = *(const uint4*)(conv.residual + (size_t)(first_row + row) * conv.residual_pixel + first_column + at);
                const u8* residual = (const u8*)&packed_residual;
#pragma unroll
                for (int byte = 0; byte < 16; byte++)
                    added[byte] = __fmul_rn((float)((int)residual[byte] - conv.residual_zero), conv.residual_scale);
            }
            int steps[16];
#pragma unroll
            for (int byte = 0; byte < 16; byte++) {
                float number = __fmul_rn((float)((int)bytes[byte] - conv.zero), conv.conv_scale);
                if (number < 0.f) number = __fmul_rn(number, conv.slope);
                steps[byte] = __float2int_rn(__fmul_rn(__fadd_rn(number, added[byte]), conv.then_inverse)) + conv.then_zero;
            }
            auto four = [&](int first) { return pack(steps[first], steps[first + 1], pack(steps[first + 2], steps[first + 3])); };
            packed = make_uint4(four(0), four(4), four(8), four(12));
        }
        *(uint4*)(conv.output + (size_t)(first_row + row) * conv.out_pixel + first_column + at) = packed;
    }
}

extern "C" __global__ void __launch_bounds__(128) conv_128x128(const Conv conv) { convolve<128, 128, 2, 2, 3>(conv); }
extern "C" __global__ void __launch_bounds__(128) conv_256x64(const Conv conv) { convolve<256, 64, 4, 1, 3>(conv); }
extern "C" __global__ void __launch_bounds__(128) conv_128x64(const Conv conv) { convolve<128, 64, 2, 2, 4>(conv); }
extern "C" __global__ void __launch_bounds__(128) conv_64x64(const Conv conv) { convolve<64, 64, 2, 2, 4>(conv); }
extern "C" __global__ void __launch_bounds__(128) conv_64x32(const Conv conv) { convolve<64, 32, 4, 1, 4>(conv); }

// The network's input, f32 NCHW of one sample after another wherever it lies, in steps; with the window of the first
// convolution gathered, so that a pixel holds all that one of its outputs is made of. A block makes some pixels of one line: it
// fetches what their windows cover once, each number in steps, and gathers from there.
struct Gather {
    const float* const* samples;
    const int* places;          // by byte of an output pixel: where its number lies among what a block fetches; -1: it is the zero point
    u8* output;
    int in_height, in_width, out_height, out_width;
    int stride_y, stride_x, pad_top, pad_left;
    int window_height, planes;  // rows of a window, and channels
    int columns, span;          // output pixels of a block, and columns of the input that they cover
    int out_pixel;
    float inverse_scale, zero;
};
#define GATHER_THREADS 128
// Between output pixels in shared memory, so that 16 bytes of neighbours lie in other banks.
#define GATHER_GAP 16

extern "C" __global__ void __launch_bounds__(GATHER_THREADS) gather_input(const Gather gather) {
    extern __shared__ __align__(16) u8 room[];
    const int pitch = gather.out_pixel + GATHER_GAP, lines = gather.planes * gather.window_height;
    u8* made = room;
    int* places = (int*)(made + gather.columns * pitch);
    u8* fetched = (u8*)(places + gather.out_pixel);
    const int thread = threadIdx.x, lane = thread & 31;
    const u32 blocks = (gather.out_width + gather.columns - 1) / gather.columns;
    const int first = blockIdx.x % blocks * gather.columns, line = blockIdx.x / blocks;
    const int image = line / gather.out_height, y = line % gather.out_height;
    const int top = y * gather.stride_y - gather.pad_top, left = first * gather.stride_x - gather.pad_left;
    const float* sample = gather.samples[image];
    const u8 zero = (u8)gather.zero;

    for (int byte = thread; byte < gather.out_pixel; byte += GATHER_THREADS) places[byte] = gather.places[byte];
    for (int row = thread >> 5; row < lines; row += GATHER_THREADS / 32) {
        int from = top + row % gather.window_height;
        bool is_inside = (u32)from < (u32)gather.in_height;
        const float* numbers = sample + ((long long)(row / gather.window_height) * gather.in_height + from) * gather.in_width + left;
        for (int x = lane; x < gather.span; x += 32) {
            bool is_there = is_inside && (u32)(left + x) < (u32)gather.in_width;
            fetched[row * gather.span + x] = is_there ? (u8)limit(rintf(numbers[x] * gather.inverse_scale) + gather.zero, 0.f) : zero;
        }
    }
    __syncthreads();
    const int chunks = gather.out_pixel / 16;
    for (int index = thread; index < chunks * gather.columns; index += GATHER_THREADS) {
        int pixel = index % gather.columns, at = index / gather.columns * 16;
        const u8* corner = fetched + pixel * gather.stride_x;
        uint4 packed;
        u8* bytes = (u8*)&packed;
#pragma unroll
        for (int byte = 0; byte < 16; byte++) {
            int place = places[at + byte];
            bytes[byte] = place < 0 ? zero : corner[place];
        }
        *(uint4*)(made + pixel * pitch + at) = packed;
    }
    __syncthreads();
    const int count = min(gather.columns, gather.out_width - first);
    u8* to = gather.output + ((size_t)line * gather.out_width + first) * gather.out_pixel;
    for (int index = thread; index < chunks * count; index += GATHER_THREADS)
        *(uint4*)(to + index * 16) = *(const uint4*)(made + index / chunks * pitch + index % chunks * 16);
}

// Operators of pixels: a thread has 16 channels of one output pixel.
struct Pixels {
    const u8* input;
    const u8* other;
    const u8* table;
    u8* output;
    int pixels;                 // output pixels of the whole batch
    int in_height, in_width, out_height, out_width;
    int in_pixel, other_pixel, out_pixel, channels; // channels: of the input, a multiple of 16
    int kernel_height, kernel_width, stride_y, stride_x, pad_top, pad_left;
    float in_scale, in_zero, other_scale, other_zero, inverse_scale, zero;
};

#define PIXEL_AND_CHANNEL                                                     \
    int index = blockIdx.x * 256 + threadIdx.x, chunks = pixels.channels / 16; \
    int row = index / chunks, at = index % chunks * 16;                       \
    if (row >= pixels.pixels) return;

extern "C" __global__ void __launch_bounds__(256) max_pool(const Pixels pixels) {
    PIXEL_AND_CHANNEL
    int per_image = pixels.out_height * pixels.out_width, image = row / per_image, pixel = row % per_image;
    int top = pixel / pixels.out_width * pixels.stride_y - pixels.pad_top;
    int left = pixel % pixels.out_width * pixels.stride_x - pixels.pad_left;
    const u8* from = pixels.input + (size_t)image * pixels.in_height * pixels.in_width * pixels.in_pixel + at;
    uint4 most = make_uint4(0, 0, 0, 0);
    for (int dy = 0; dy < pixels.kernel_height; dy++) {
        for (int dx = 0; dx < pixels.kernel_width; dx++) {
            int y = top + dy, x = left + dx;
            if ((u32)y >= (u32)pixels.in_height || (u32)x >= (u32)pixels.in_width) continue;
            uint4 here = *(const uint4*)(from + ((size_t)y * pixels.in_width + x) * pixels.in_pixel);
            most = make_uint4(__vmaxu4(most.x, here.x), __vmaxu4(most.y, here.y), __vmaxu4(most.z, here.z), __vmaxu4(most.w, here.w));
        }
    }
    *(uint4*)(pixels.output + (size_t)row * pixels.out_pixel + at) = most;
}

// Each byte through a table, to a place among the output's channels.
extern "C" __global__ void __launch_bounds__(256) look_up(const Pixels pixels) {
    __shared__ u8 table[256];
    table[threadIdx.x] = pixels.table[threadIdx.x];
    __syncthreads();
    PIXEL_AND_CHANNEL
    uint4 packed = *(const uint4*)(pixels.input + (size_t)row * pixels.in_pixel + at);
    u8* bytes = (u8*)&packed;
#pragma unroll
    for (int byte = 0; byte < 16; byte++) bytes[byte] = table[bytes[byte]];
    *(uint4*)(pixels.output + (size_t)row * pixels.out_pixel + at) = packed;
}

extern "C" __global__ void __launch_bounds__(256) add(const Pixels pixels) {
    PIXEL_AND_CHANNEL
    uint4 packed = *(const uint4*)(pixels.input + (size_t)row * pixels.in_pixel + at);
    uint4 packed_other = *(const uint4*)(pixels.other + (size_t)row * pixels.other_pixel + at);
    u8* bytes = (u8*)&packed;
    const u8* other = (const u8*)&packed_other;
#pragma unroll
    for (int byte = 0; byte < 16; byte++) {
        float sum = __fadd_rn(__fmul_rn((float)bytes[byte] - pixels.in_zero, pixels.in_scale),
                              __fmul_rn((float)other[byte] - pixels.other_zero, pixels.other_scale));
        bytes[byte] = (u8)limit(rintf(sum * pixels.inverse_scale) + pixels.zero, 0.f);
    }
    *(uint4*)(pixels.output + (size_t)row * pixels.out_pixel + at) = packed;
}

// Bilinear, half-pixel centres, in the same steps; twice or half the size.
extern "C" __global__ void __launch_bounds__(256) resize(const Pixels pixels) {
    PIXEL_AND_CHANNEL
    int per_image = pixels.out_height * pixels.out_width, image = row / per_image, pixel = row % per_image;
    float y = ((float)(pixel / pixels.out_width) + 0.5f) * pixels.in_height / pixels.out_height - 0.5f;
    float x = ((float)(pixel % pixels.out_width) + 0.5f) * pixels.in_width / pixels.out_width - 0.5f;
    y = fminf(fmaxf(y, 0.f), (float)(pixels.in_height - 1));
    x = fminf(fmaxf(x, 0.f), (float)(pixels.in_width - 1));
    int top = (int)y, left = (int)x;
    int bottom = min(top + 1, pixels.in_height - 1), right = min(left + 1, pixels.in_width - 1);
    float down = y - top, across = x - left;
    const u8* from = pixels.input + (size_t)image * pixels.in_height * pixels.in_width * pixels.in_pixel + at;
    uint4 corners[4] = {
        *(const uint4*)(from + ((size_t)top * pixels.in_width + left) * pixels.in_pixel),
        *(const uint4*)(from + ((size_t)top * pixels.in_width + right) * pixels.in_pixel),
        *(const uint4*)(from + ((size_t)bottom * pixels.in_width + left) * pixels.in_pixel),
        *(const uint4*)(from + ((size_t)bottom * pixels.in_width + right) * pixels.in_pixel),
    };
    const u8 *a = (const u8*)&corners[0], *b = (const u8*)&corners[1], *c = (const u8*)&corners[2], *d = (const u8*)&corners[3];
    uint4 packed;
    u8* bytes = (u8*)&packed;
#pragma unroll
    for (int byte = 0; byte < 16; byte++) {
        float level = (1.f - down) * ((1.f - across) * (float)a[byte] + across * (float)b[byte])
                    + down * ((1.f - across) * (float)c[byte] + across * (float)d[byte]);
        bytes[byte] = (u8)rintf(level);
    }
    *(uint4*)(pixels.output + (size_t)row * pixels.out_pixel + at) = packed;
}

// The mean of each channel over an image. A thread has one channel of one image.
extern "C" __global__ void __launch_bounds__(256) mean(const Pixels pixels) {
    int index = blockIdx.x * 256 + threadIdx.x;
    int image = index / pixels.channels, channel = index % pixels.channels;
    if (image >= pixels.pixels) return;
    int count = pixels.in_height * pixels.in_width, sum = 0;
    const u8* from = pixels.input + (size_t)image * count * pixels.in_pixel + channel;
    for (int pixel = 0; pixel < count; pixel++) sum += from[(size_t)pixel * pixels.in_pixel];
    float number = ((float)sum / (float)count - pixels.in_zero) * pixels.in_scale;
    pixels.output[(size_t)image * pixels.out_pixel + channel] = (u8)limit(rintf(number * pixels.inverse_scale) + pixels.zero, 0.f);
}

// Some channels of a tensor as numbers, as planes or by pixel, wherever each sample's are wanted.
struct Numbers {
    const void* input;          // u8, or f32 without filling
    float* output;              // [samples, count * pixels]
    int samples, pixels, in_pixel, first, count;
    int is_f32, is_planar, is_sigmoid;
    float scale, zero;
};

extern "C" __global__ void __launch_bounds__(256) to_numbers(const Numbers numbers) {
    int index = blockIdx.x * 256 + threadIdx.x, per_sample = numbers.count * numbers.pixels;
    int sample = index / per_sample, at = index % per_sample;
    if (sample >= numbers.samples) return;
    int pixel = numbers.is_planar ? at % numbers.pixels : at / numbers.count;
    int channel = numbers.first + (numbers.is_planar ? at / numbers.pixels : at % numbers.count);
    size_t from = ((size_t)sample * numbers.pixels + pixel) * numbers.in_pixel + channel;
    float number = numbers.is_f32 ? ((const float*)numbers.input)[from]
                                  : ((float)((const u8*)numbers.input)[from] - numbers.zero) * numbers.scale;
    numbers.output[index] = numbers.is_sigmoid ? 1.f / (1.f + expf(-number)) : number;
}

// A convolution of one pixel whose weights are f32. A thread has one output channel of one pixel; the steps' scales and zero
// points are in weights and bias.
struct Head {
    const u8* input;
    const float* weights;       // [input channels, output channels]
    const float* bias;
    float* output;              // [pixels, output channels]
    int pixels, in_pixel, in_channels, out_channels;
};

extern "C" __global__ void __launch_bounds__(256) head(const Head head) {
    int index = blockIdx.x * 256 + threadIdx.x;
    int row = index / head.out_channels, channel = index % head.out_channels;
    if (row >= head.pixels) return;
    const u8* from = head.input + (size_t)row * head.in_pixel;
    float sum = head.bias[channel];
    for (int at = 0; at < head.in_channels; at++) sum += head.weights[at * head.out_channels + channel] * (float)from[at];
    head.output[index] = sum;
}
