// What TensorRT's headers want of CUDA: two opaque handles. Stands in for CUDA's own header, so that no toolkit is needed.
#pragma once
typedef struct CUevent_st* cudaEvent_t;
typedef struct CUstream_st* cudaStream_t;
