// The checks of arguments that both operators and both devices share. Here, because an operator is
// open to anyone, not to bevstack.ops alone.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace bevstack {

// Kernels on a GPU count places within an image in 32 bits, one of them for a flag.
constexpr int64_t kMostPlacesOnGpu = int64_t(1) << 30;
// Those on a CPU count in 32 bits, all of them set for no place.
constexpr int64_t kMostNumbersOnCpu = (int64_t(1) << 32) - 1;
constexpr int64_t kMostPoints = int64_t(1) << 20;

// a * b for factors of at least 0, or the largest integer where that is less.
inline int64_t capped_product(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// Places are pixels times groups; numbers are places times the channels of a group.
inline void check_image_size(const char* name, const at::Tensor& tensor, int64_t places,
                             int64_t channels) {
  if (tensor.is_cuda()) {
    TORCH_CHECK_VALUE(places < kMostPlacesOnGpu && channels < kMostPlacesOnGpu, name,
                      " must have less than 2^30 pixels times groups in an image; got ",
                      tensor.sizes());
  } else {
    TORCH_CHECK_VALUE(capped_product(places, channels) < kMostNumbersOnCpu, name,
                      " must have less than 2^32 - 1 numbers in an image; got ", tensor.sizes());
  }
}

inline void check_tensor(const char* name, const at::Tensor& tensor, const at::Tensor& first,
                         at::IntArrayRef shape) {
  TORCH_CHECK_TYPE(at::isFloatingType(tensor.scalar_type()) && tensor.element_size() >= 2, name,
                   " must be float16, bfloat16, float32 or float64; got ", tensor.scalar_type());
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, " must have shape ", shape, "; got ",
                    tensor.sizes());
  TORCH_CHECK_VALUE(tensor.device() == first.device(), name, " must be on ", first.device(),
                    "; got ", tensor.device());
}

}  // namespace bevstack
