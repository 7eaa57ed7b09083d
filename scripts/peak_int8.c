/* How many INT8 multiply-accumulates one core can do in a second: u8 times s8, summed into s32, as the widest
 * convolution that this CPU has instructions for does it:
 *   AVX-512 VNNI   vpdpbusd on 64 bytes
 *   AVX-VNNI       vpdpbusd on 32 bytes
 *   AVX2           maddubs to s16, madd with ones to s32, add, on 32 bytes
 * Nothing is loaded from memory. Prints 10^9 a second (the best of several runs, by the thread's own CPU time) and the
 * instructions' name. Exit status 3: this CPU has none of them. */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

/* ACCUMULATORS hide the latency of the additions; each has a register. */
enum { ACCUMULATORS = 10, STEPS = 20000000, RUNS = 8 };

static double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* Defines NAME(), which returns the CPU seconds of STEPS times ACCUMULATORS steps of SUM on VECTORs. The asm holds no
 * instruction: in the loop it makes the compiler take the operands for new ones, and behind it the sums for needed. */
#define DEFINE_RUN(NAME, TARGET, VECTOR, REGISTER, SET1, SUM)                                                              \
    __attribute__((target(TARGET))) static double NAME(void)                                                           \
    {                                                                                                                  \
        VECTOR activations = SET1(3), weights = SET1(1), sums[ACCUMULATORS];                                           \
        for (int i = 0; i < ACCUMULATORS; i++)                                                                         \
            sums[i] = SET1(0);                                                                                         \
        const double start = cpu_seconds();                                                                            \
        for (int step = 0; step < STEPS; step++) {                                                                     \
            _Pragma("GCC unroll 16") for (int i = 0; i < ACCUMULATORS; i++)                                            \
            {                                                                                                          \
                __asm__ volatile("" : "+" REGISTER(activations), "+" REGISTER(weights));                               \
                sums[i] = SUM(sums[i], activations, weights);                                                          \
            }                                                                                                          \
        }                                                                                                              \
        const double seconds = cpu_seconds() - start;                                                                  \
        for (int i = 0; i < ACCUMULATORS; i++)                                                                         \
            __asm__ volatile("" : : REGISTER(sums[i]));                                                                \
        return seconds;                                                                                                \
    }

#define AVX2_SUM(sum, u8, s8)                                                                                          \
    _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u8, s8), _mm256_set1_epi16(1)))

DEFINE_RUN(avx2, "avx2", __m256i, "x", _mm256_set1_epi8, AVX2_SUM)
DEFINE_RUN(avx_vnni, "avxvnni", __m256i, "x", _mm256_set1_epi8, _mm256_dpbusd_avx_epi32)
DEFINE_RUN(avx512_vnni, "avx512f,avx512bw,avx512vnni", __m512i, "v", _mm512_set1_epi8, _mm512_dpbusd_epi32)

int main(void)
{
    const struct {
        const char *name;
        int is_supported, macs_per_step;
        double (*run)(void);
    } ways[] = {
        {"AVX-512 VNNI", __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"), 64, avx512_vnni},
        {"AVX-VNNI", __builtin_cpu_supports("avxvnni"), 32, avx_vnni},
        {"AVX2", __builtin_cpu_supports("avx2"), 32, avx2},
    };
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        if (!ways[way].is_supported)
            continue;
        double best = 0;
        for (int run = 0; run < RUNS; run++) {
            const double rate = (double)STEPS * ACCUMULATORS * ways[way].macs_per_step / ways[way].run();
            if (rate > best)
                best = rate;
        }
        printf("%.2f %s\n", best / 1e9, ways[way].name);
        return 0;
    }
    return 3;
}
