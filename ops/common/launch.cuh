// The kernels and their launches. The caller reads the errors of a launch.
#pragma once

#include "common/dispatch.cuh"

namespace bevstack {
namespace gpu {

// Minimum number of blocks per multiprocessor. These numbers leave 72 registers per thread in the
// forward pass and 96 in the backward pass, more in the kernels for any number of channels. Without
// them the compiler spills registers to fit one more block.
template <typename V, int kDepth>
constexpr int kForwardBlocks = kDepth != 0 ? 7 : 5;
template <typename V, int kDepth>
constexpr int kBackwardBlocks = kDepth != 0 ? 5 : sizeof(V) == 4 ? 4 : 3;

template <int kDepth, class Points, typename V>
__global__ void __launch_bounds__(kForwardWarps* kWarpLanes, kForwardBlocks<V, kDepth>)
    forward_kernel(const __grid_constant__ Call<Points, V> call) {
  __shared__ ForwardMemory<V, kDepth> memory[kForwardWarps];
  const int warp = int(threadIdx.x) / kWarpLanes;
  const int items = kWarpLanes / Share<V, kDepth>::lanes(call);
  for_each_run(call, blockIdx.x, gridDim.x, warp, kForwardWarps, items,
               [&](const Tile& tile, int first) {
                 forward_items<kDepth>(DeviceWarp{}, call, tile, first, memory[warp]);
               });
}

template <int kDepth, class Points, typename V, class Sum>
__global__ void __launch_bounds__(kBackwardWarps* kWarpLanes, kBackwardBlocks<V, kDepth>)
    backward_kernel(const __grid_constant__ Call<Points, V> call, const Sum memory_of_sum) {
  __shared__ BackwardMemory<V, kDepth> memory[kBackwardWarps];
  const auto sum = begin_sum<Computing<V>>(memory_of_sum);
  const int warp = int(threadIdx.x) / kWarpLanes;
  const int items = kWarpLanes / Share<V, kDepth>::lanes(call);
  for_each_run(call, blockIdx.x, gridDim.x, warp, kBackwardWarps, items,
               [&](const Tile& tile, int first) {
                 backward_items<kDepth>(DeviceWarp{}, call, tile, first, sum, memory[warp]);
               });
}

// One thread per item.
template <class Points, typename V>
__global__ void __launch_bounds__(kBackwardWarps* kWarpLanes, kBackwardBlocks<V, 0>)
    bound_kernel(const __grid_constant__ Call<Points, V> call, const FixedPoint fixed) {
  double bound = 0;
  for_each_run(call, blockIdx.x, gridDim.x, int(threadIdx.x), int(blockDim.x), 1,
               [&](const Tile& tile, int index) {
                 bound = fmax(bound, largest_addend(call, tile, index));
               });
  if (bound > 0) raise_bound(fixed.bound, bound);
}

// Launches kernels on a stream.
struct Launcher {
  Queue queue;

  int processors() const { return queue.processors; }

  template <int kDepth, class C>
  void forward(const C& call) const {
    if (call.plan.tiles() == 0) return;
    forward_kernel<kDepth><<<grid(call), kForwardWarps * kWarpLanes, 0, queue.stream>>>(call);
  }
  template <int kDepth, class C, class Sum>
  void backward(const C& call, const Sum& sum) const {
    if (call.plan.tiles() == 0) return;
    backward_kernel<kDepth>
        <<<grid(call), kBackwardWarps * kWarpLanes, 0, queue.stream>>>(call, sum);
  }
  template <class C>
  void bound(const C& call, const FixedPoint& fixed) const {
    if (call.plan.tiles() == 0) return;
    bound_kernel<<<grid(call), kBackwardWarps * kWarpLanes, 0, queue.stream>>>(call, fixed);
  }

  // One block per tile, up to a maximum that leaves room for the loop's step; above it, a block
  // takes several tiles.
  template <class C>
  static unsigned grid(const C& call) {
    constexpr int64_t kMost = int64_t(1) << 30;
    return unsigned(call.plan.tiles() < kMost ? call.plan.tiles() : kMost);
  }
};

}  // namespace gpu
}  // namespace bevstack
