// One region, as the CPU kernels read it. Includes neither torch nor the standard library, for the
// files of one instruction set.
#pragma once

#include <stdint.h>

namespace bevstack {

// Weights of a region's bins along one axis: bin b reads the cells [begin[b], end[b]), with the
// weights [b * cells + cell].
template <typename T>
struct RoiWeights {
  const T* weights;
  const int64_t* begin;
  const int64_t* end;
  int64_t bins, cells;
};

template <typename T>
struct RoiCall {
  RoiWeights<T> rows, columns;
  int64_t left, right;  // columns that any bin reads: [left, right)
  int64_t channels;
  T* line;   // memory of (width of the map, channels)
  T* bins;   // memory of (bins, channels)
};

#define BEVSTACK_ROI_ALIGN_KERNELS(isa)                                                      \
  namespace isa {                                                                            \
  void roi_align_forward(const RoiCall<float>&, const float* image, float* output);          \
  void roi_align_forward(const RoiCall<double>&, const double* image, double* output);       \
  void roi_align_backward(const RoiCall<float>&, const float* grad_output, int64_t first,    \
                          int64_t end, float* grad_image);                                   \
  void roi_align_backward(const RoiCall<double>&, const double* grad_output, int64_t first,  \
                          int64_t end, double* grad_image);                                  \
  }

BEVSTACK_ROI_ALIGN_KERNELS(baseline)
BEVSTACK_ROI_ALIGN_KERNELS(avx2)
BEVSTACK_ROI_ALIGN_KERNELS(avx512)

}  // namespace bevstack
