// Selection of the kernel for a call.
#pragma once

#include <assert.h>

#include "common/backward.cuh"
#include "common/forward.cuh"
#include "common/value_types.cuh"

namespace bevstack {
namespace gpu {

constexpr int kForwardWarps = 4;  // per block
constexpr int kBackwardWarps = 4;

// The sizes of a call of either operator.
struct Extent {
  int64_t images, height, width;  // of the outputs
  int groups, channels, points;
  int64_t image_size;  // numbers from one image of the values to the next
  bool softmax;
};

// The loop of one of `blocks` blocks: calls work(tile, first item) for each run of a warp's items.
template <class C, typename Work>
BEVSTACK_DEVICE inline void for_each_run(const C& call, unsigned block, unsigned blocks, int warp,
                                         int warps, int items, Work work) {
  const unsigned tiles = unsigned(call.plan.tiles());
  for (unsigned index = block; index < tiles; index += blocks) {
    const Tile tile = call.plan.tile(index);
    for (int first = warp * items; first < tile.items(); first += warps * items) {
      work(tile, first);
    }
  }
}

template <template <typename> class Points, typename V, int kDepth, class Shape>
Call<Points<Computing<V>>, V> make_call(const Shape& shape, const Extent& extent,
                                        const Tensors& tensors, int warps, int processors) {
  Call<Points<Computing<V>>, V> call{};
  call.value = static_cast<const V*>(tensors.value);
  call.offset = tensors.offset;
  call.factor = tensors.factor;
  call.output = static_cast<V*>(tensors.output);
  call.grad_output = static_cast<const V*>(tensors.grad_output);
  call.grad_offset = tensors.grad_offset;
  call.grad_factor = tensors.grad_factor;
  call.of = Points<Computing<V>>::make(shape);
  call.image_size = extent.image_size;
  call.channels = extent.channels;
  call.points = extent.points;
  call.lanes = lanes_for(extent.channels);
  call.offset_type = tensors.offset_type;
  call.softmax = extent.softmax;
  const int items = warps * (kDepth != 0 ? Share<V, kDepth>::kItems : kWarpLanes / call.lanes);
  call.plan = make_plan(extent.images, extent.height, extent.width, extent.groups,
                        extent.channels * int(sizeof(V)), items, processors);
  return call;
}

// Calls work with a null pointer of the values' type and an integral_constant: the number of
// channels of a specialised kernel, or 0. Tensors documents the supported pairs.
template <typename Work>
void with_kernel(NumberType type, int channels, Work work) {
  const auto with_depth = [&](auto* value) {
    if (channels == 16) return work(value, std::integral_constant<int, 16>{});
    if (channels == 32) return work(value, std::integral_constant<int, 32>{});
    assert(false && "no kernel for this type and number of channels");
  };
  if (type == NumberType::float16) return with_depth(static_cast<Half*>(nullptr));
  if (type == NumberType::bfloat16) return with_depth(static_cast<BFloat16*>(nullptr));
  if (type == NumberType::float32 && has_own_kernel(channels)) {
    return with_depth(static_cast<float*>(nullptr));
  }
  with_wide_type(type, [&](auto* value) { work(value, std::integral_constant<int, 0>{}); });
}

// Calls run.forward<kDepth>(call).
template <template <typename> class Points, class Shape, class Run>
void dispatch_forward(const Shape& shape, const Extent& extent, const Tensors& tensors,
                      const Run& run) {
  with_kernel(tensors.value_type, extent.channels, [&](auto* type, auto depth) {
    using V = std::remove_pointer_t<decltype(type)>;
    constexpr int kDepth = decltype(depth)::value;
    run.template forward<kDepth>(
        make_call<Points, V, kDepth>(shape, extent, tensors, kForwardWarps, run.processors()));
  });
}

// Calls run.backward<kDepth>(call, sum).
template <template <typename> class Points, class Shape, class Run>
void dispatch_backward(const Shape& shape, const Extent& extent, const Tensors& tensors,
                       const Run& run) {
  with_kernel(tensors.value_type, extent.channels, [&](auto* type, auto depth) {
    using V = std::remove_pointer_t<decltype(type)>;
    using T = Computing<V>;
    constexpr int kDepth = decltype(depth)::value;
    run.template backward<kDepth>(
        make_call<Points, V, kDepth>(shape, extent, tensors, kBackwardWarps, run.processors()),
        FloatingSum<T>{static_cast<T*>(tensors.grad_value)});
  });
}

// Calls run.bound(call, fixed).
template <template <typename> class Points, class Shape, class Run>
void dispatch_bound(const Shape& shape, const Extent& extent, const Tensors& tensors,
                    const FixedPoint& fixed, const Run& run) {
  with_wide_type(tensors.value_type, [&](auto* type) {
    using V = std::remove_pointer_t<decltype(type)>;
    run.bound(make_call<Points, V, 0>(shape, extent, tensors, kBackwardWarps, run.processors()),
              fixed);
  });
}

// Calls run.backward<0>(call, fixed).
template <template <typename> class Points, class Shape, class Run>
void dispatch_deterministic(const Shape& shape, const Extent& extent, const Tensors& tensors,
                            const FixedPoint& fixed, const Run& run) {
  with_wide_type(tensors.value_type, [&](auto* type) {
    using V = std::remove_pointer_t<decltype(type)>;
    run.template backward<0>(
        make_call<Points, V, 0>(shape, extent, tensors, kBackwardWarps, run.processors()), fixed);
  });
}

}  // namespace gpu
}  // namespace bevstack
