// What a device can do at most, measured: products of INT8 matrices from registers, without a load.
typedef unsigned int u32;

struct Ceiling {
    int* sink;
    int rounds;
};

extern "C" __global__ void __launch_bounds__(256) multiply_int8(const Ceiling ceiling) {
    u32 a[4], b[2];
    int sums[8][4] = {};
#pragma unroll
    for (int index = 0; index < 4; index++) a[index] = threadIdx.x * 0x01030507u + index;
#pragma unroll
    for (int index = 0; index < 2; index++) b[index] = threadIdx.x * 0x0b0d1113u + index;
    for (int round = 0; round < ceiling.rounds; round++) {
#pragma unroll
        for (int chain = 0; chain < 8; chain++) {
            int(&sum)[4] = sums[chain];
#if __CUDA_ARCH__ >= 800
            asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
            for (int part = 0; part < 4; part++)
                asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                             : "+r"(sum[part & 1 ? 2 : 0]), "+r"(sum[part & 1 ? 3 : 1]) : "r"(a[part]), "r"(b[part >> 1]));
#endif
        }
    }
    int sum = 0;
#pragma unroll
    for (int chain = 0; chain < 8; chain++) sum += sums[chain][0] + sums[chain][1] + sums[chain][2] + sums[chain][3];
    ceiling.sink[blockIdx.x * blockDim.x + threadIdx.x] = sum; // so that nothing is left out
}
