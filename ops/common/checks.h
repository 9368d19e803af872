// Checks of arguments for both operators and both devices. They are in C++ because a caller can
// reach an operator through torch.ops, without the checks of bevstack.ops.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace bevstack {

// GPU kernels index the (pixel, group) pairs of an image with 32 bits, one of which is a flag.
constexpr int64_t kMostPlacesOnGpu = int64_t(1) << 30;
// CPU kernels index the numbers of an image with 32 bits. All bits set mean an invalid index.
constexpr int64_t kMostNumbersOnCpu = (int64_t(1) << 32) - 1;
constexpr int64_t kMostPoints = int64_t(1) << 20;

// Returns a * b for factors of at least 0, or INT64_MAX if the product overflows.
inline int64_t capped_product(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

// `places` is pixels times groups of one image; its numbers are places times channels of a group.
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
