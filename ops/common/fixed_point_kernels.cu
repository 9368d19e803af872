#include "common/accumulate.cuh"
#include "common/fixed_point.h"
#include "common/value_types.cuh"

namespace bevstack {

namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) read_kernel(const FixedPoint fixed, T* values) {
  const int64_t step = int64_t(gridDim.x) * kThreads;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < fixed.size; i += step) {
    values[i] = gpu::read_sum<T>(fixed, i);
  }
}

}  // namespace

void launch_read_fixed_point(const Tensors& tensors, const FixedPoint& fixed, const Queue& queue) {
  if (fixed.size == 0) return;
  const int64_t wanted = (fixed.size + kThreads - 1) / kThreads, most = queue.processors * 32;
  const unsigned blocks = unsigned(wanted < most ? wanted : most);
  gpu::with_wide_type(tensors.value_type, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    read_kernel<T><<<blocks, kThreads, 0, queue.stream>>>(fixed,
                                                          static_cast<T*>(tensors.grad_value));
  });
}

}  // namespace bevstack
