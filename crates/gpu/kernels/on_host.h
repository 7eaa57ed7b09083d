// What a kernel's source needs to be C++ for the host, where tests compare it without a GPU: one thread after another, so
// only kernels whose threads do not wait for one another.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct Index { unsigned x, y, z; };
static thread_local Index blockIdx, threadIdx;

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}

static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned which) {
    unsigned long long bytes = (unsigned long long)high << 32 | low;
    unsigned found = 0;
    for (int at = 0; at < 4; at++) found |= (unsigned)(bytes >> 8 * (which >> 4 * at & 7) & 0xff) << 8 * at;
    return found;
}

static inline float __uint_as_float(unsigned bits) {
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

// Runs a kernel on its parameter, as a launch of such a grid does.
template <typename Parameter>
static void launch(void (*kernel)(Parameter), const Parameter& parameter, Index grid, unsigned threads) {
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++)
                for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(parameter);
}
