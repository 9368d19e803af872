// Runs the code of the CUDA kernels on the CPU, one lane after the other, for test_host_device.py.
#include "dcnv3/dcnv3_points.cuh"
#include "ms_deform_attn/ms_deform_attn_points.cuh"

namespace bevstack {
namespace gpu {
namespace {

// Replaces the GPU's launcher: runs the same kernels for the same calls, tile by tile. There are
// fewer blocks than tiles, so that some blocks take several.
struct Loop {
  int wanted_processors;  // if more than one, lanes also run in reverse order
  int depth = -1;  // of the kernel that ran

  int processors() const { return wanted_processors; }

  static unsigned blocks(int64_t tiles) { return tiles < 2 ? 1 : unsigned(tiles - tiles / 3); }

  template <int kDepth, class C>
  void forward(const C& call) const {
    using V = std::remove_pointer_t<decltype(call.output)>;
    const_cast<Loop*>(this)->depth = kDepth;
    for (unsigned block = 0; block < blocks(call.plan.tiles()); ++block) {
      for (int warp = 0; warp < kForwardWarps; ++warp) {
        ForwardMemory<V, kDepth> memory;
        memset(&memory, 0xff, sizeof memory);  // NaN: shared memory is uninitialised
        for_each_run(call, block, blocks(call.plan.tiles()), warp, kForwardWarps,
                     kWarpLanes / Share<V, kDepth>::lanes(call),
                     [&](const Tile& tile, int first) {
                       forward_items<kDepth>(HostWarp{wanted_processors > 1}, call, tile, first, memory);
                     });
      }
    }
  }

  template <int kDepth, class C, class S>
  void backward(const C& call, const S& kept) const {
    using V = std::remove_pointer_t<decltype(call.output)>;
    const_cast<Loop*>(this)->depth = kDepth;
    const auto sum = begin_sum<Computing<V>>(kept);
    for (unsigned block = 0; block < blocks(call.plan.tiles()); ++block) {
      for (int warp = 0; warp < kBackwardWarps; ++warp) {
        BackwardMemory<V, kDepth> memory;
        memset(&memory, 0xff, sizeof memory);
        for_each_run(call, block, blocks(call.plan.tiles()), warp, kBackwardWarps,
                     kWarpLanes / Share<V, kDepth>::lanes(call),
                     [&](const Tile& tile, int first) {
                       backward_items<kDepth>(HostWarp{wanted_processors > 1}, call, tile, first, sum, memory);
                     });
      }
    }
  }

  template <class C>
  void bound(const C& call, const FixedPoint& fixed) const {
    for (unsigned block = 0; block < blocks(call.plan.tiles()); ++block) {
      for (int thread = 0; thread < kBackwardWarps * kWarpLanes; ++thread) {
        for_each_run(call, block, blocks(call.plan.tiles()), thread, kBackwardWarps * kWarpLanes, 1,
                     [&](const Tile& tile, int index) {
                       raise_bound(fixed.bound, largest_addend(call, tile, index));
                     });
      }
    }
  }
};

// Runs a call and returns the depth of its kernel.
template <template <typename> class Points, class Shape>
int run(const Shape& shape, const Tensors& tensors, const FixedPoint* fixed, int processors) {
  Loop loop{processors};
  const Extent extent = extent_of(shape);
  if (tensors.grad_output == nullptr) {
    dispatch_forward<Points>(shape, extent, tensors, loop);
  } else if (fixed == nullptr) {
    dispatch_backward<Points>(shape, extent, tensors, loop);
  } else {
    dispatch_bound<Points>(shape, extent, tensors, *fixed, loop);
    dispatch_deterministic<Points>(shape, extent, tensors, *fixed, loop);
    with_wide_type(tensors.value_type, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      for (int64_t i = 0; i < fixed->size; ++i) {
        static_cast<T*>(tensors.grad_value)[i] = read_sum<T>(*fixed, i);
      }
    });
  }
  return loop.depth;
}

}  // namespace
}  // namespace gpu
}  // namespace bevstack

// The structures have the same fields as those in the headers; `fixed` may be null.
extern "C" int run_dcnv3(const bevstack::Dcnv3Geometry* geometry, const bevstack::Tensors* tensors,
                         const bevstack::FixedPoint* fixed, int processors) {
  return bevstack::gpu::run<bevstack::gpu::Dcnv3Points>(*geometry, *tensors, fixed, processors);
}

extern "C" int run_ms_deform_attn(const bevstack::MsDeformAttnLevels* levels,
                                  const bevstack::Tensors* tensors,
                                  const bevstack::FixedPoint* fixed, int processors) {
  return bevstack::gpu::run<bevstack::gpu::MsDeformAttnPoints>(*levels, *tensors, fixed,
                                                               processors);
}

// Counts in `visits`, of shape (images, height, width, groups), how often each item occurs in the
// tiles of a plan.
extern "C" void count_items(int64_t images, int64_t height, int64_t width, int groups,
                            int group_bytes, int least_items, int processors, int32_t* visits,
                            int64_t* tiles) {
  using namespace bevstack::gpu;
  const Plan plan =
      make_plan(images, height, width, groups, group_bytes, least_items, processors);
  *tiles = plan.tiles();
  for (unsigned index = 0; index < unsigned(plan.tiles()); ++index) {
    const Tile tile = plan.tile(index);
    for (int i = 0; i < tile.items(); ++i) {
      const Item item = item_of(tile, i);
      ++visits[((tile.image * height + item.y) * width + item.x) * groups + item.group];
    }
  }
}

extern "C" uint16_t round_to(int type, float number) {
  using namespace bevstack::gpu;
  return type == 2 ? Round<Half>::from(number).bits : Round<BFloat16>::from(number).bits;
}
extern "C" float widen_from(int type, uint16_t bits) {
  using namespace bevstack::gpu;
  return type == 2 ? widen(Half{bits}) : widen(BFloat16{bits});
}
