// The kernel of preprocess.cu for tests without a GPU.
#include "on_host.h"

#include "preprocess.cu"

extern "C" void sample_pixels_on_host(const Shape* shape, unsigned across, unsigned down, unsigned count) {
    launch<const Shape>(sample_pixels, *shape, Index{across, down, count}, 256);
}
