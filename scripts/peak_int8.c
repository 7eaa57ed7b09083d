/* How many INT8 multiply-accumulates one core can do in a second: u8 times s8, summed into s32, as an AVX2 convolution
 * without VNNI does it (maddubs to s16, madd with ones to s32, add). Nothing is loaded from memory. Prints 10^9 a
 * second: the best of several runs, by the thread's own CPU time. Exit status 3: this CPU has no AVX2. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

enum { ACCUMULATORS = 10, MACS_PER_STEP = 32, STEPS = 20000000, RUNS = 8 };

static double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int main(void)
{
    if (!__builtin_cpu_supports("avx2"))
        return 3;
    __m256i activations = _mm256_set1_epi8(3), weights = _mm256_set1_epi8(1);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sums[ACCUMULATORS];
    for (int i = 0; i < ACCUMULATORS; i++)
        sums[i] = _mm256_setzero_si256();
    double best = 0;
    for (int run = 0; run < RUNS; run++) {
        const double start = cpu_seconds();
        for (int step = 0; step < STEPS; step++) {
#pragma GCC unroll 16
            for (int i = 0; i < ACCUMULATORS; i++) {
                /* No instruction: the compiler must take the operands for new ones. */
                __asm__ volatile("" : "+x"(activations), "+x"(weights));
                const __m256i pairs = _mm256_maddubs_epi16(activations, weights);
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
            }
        }
        const double rate = (double)STEPS * ACCUMULATORS * MACS_PER_STEP / (cpu_seconds() - start);
        if (rate > best)
            best = rate;
    }
    for (int i = 0; i < ACCUMULATORS; i++)
        __asm__ volatile("" : : "x"(sums[i]));
    printf("%.2f\n", best / 1e9);
    return 0;
}
