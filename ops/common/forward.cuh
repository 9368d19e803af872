// The forward pass of a warp's items: each lane sums its channels over the points of its team's
// item.
#pragma once

#include "common/sampling.cuh"

namespace bevstack {
namespace gpu {

// Indices of the corners of a point, in units of D numbers.
struct alignas(8) Steps {
  int place;  // index of corner (y0, x0); -1: invalid point
  int code;   // 2 * (units to the line below) + (1 if the right neighbour is inside, else 0)
};

// Shared memory of one warp.
template <typename V, int kDepth>
struct ForwardMemory {
  using S = Share<V, kDepth>;
  using T = Computing<V>;
  Four<T> weight[S::kItems * S::kStride];  // left, right, top * factor, bottom * factor
  Steps steps[S::kItems * S::kStride];
  ItemMemory<T> item[S::kItems];
};

// Writes points [begin, begin + count) of all items to shared memory, for the teams to read.
template <typename O, int kChunk, class C, typename V, int kDepth>
BEVSTACK_DEVICE inline void prepare_forward(const C& call, int lane, int items, int begin,
                                            int count, ForwardMemory<V, kDepth>& memory) {
  using T = Computing<V>;
  locate_points<Share<V, kDepth>, kChunk, O>(
      call, lane, items, begin, count, memory.item, [&](int slot, const Located<T>& at) {
        memory.steps[slot] = {-1, 0};
        if (!at.valid) return;
        const bool beside = at.x.lower_inside && at.x.upper_inside;
        const bool below = at.y.lower_inside && at.y.upper_inside;
        memory.steps[slot] = {at.place, (below ? 2 * at.line : 0) + int(beside)};
        memory.weight[slot] = {at.x.lower_weight, at.x.upper_weight, at.y.lower_weight * at.factor,
                               at.y.upper_weight * at.factor};
      });
}

// Adds `count` prepared samples of one item to N channels.
template <typename V, int N, typename T>
BEVSTACK_DEVICE inline void gather(const Four<T>* weights, const Steps* all_steps, int count,
                                        const V* value, int depth, int groups, T (&sum)[N]) {
  BEVSTACK_NO_UNROLL
  for (int point = 0; point < count; ++point) {
    const Steps steps = all_steps[point];
    if (steps.place < 0) continue;
    const Four<T> weight = weights[point];
    const int right = steps.place + (steps.code & 1 ? groups : 0);
    const int down = steps.code >> 1;
    T corner[4][N];
    load_channels(advance(value, steps.place, depth), corner[0]);
    load_channels(advance(value, right, depth), corner[1]);
    load_channels(advance(value, steps.place + down, depth), corner[2]);
    load_channels(advance(value, right + down, depth), corner[3]);
    const T of_corner[4] = {weight.of[2] * weight.of[0], weight.of[2] * weight.of[1],
                            weight.of[3] * weight.of[0], weight.of[3] * weight.of[1]};
    BEVSTACK_UNROLL
    for (int c = 0; c < 4; ++c) {
      BEVSTACK_UNROLL
      for (int i = 0; i < N; ++i) sum[i] += of_corner[c] * corner[c][i];
    }
  }
}

// Processes items [first, first + items of a warp) of a tile.
template <int kDepth, class Warp, class Points, typename V>
BEVSTACK_DEVICE inline void forward_items(Warp warp, const Call<Points, V>& call, const Tile& tile,
                                        int first, ForwardMemory<V, kDepth>& memory) {
  using S = Share<V, kDepth>;
  using T = Computing<V>;
  constexpr int N = S::kVector, kChunk = Points::kChunk;
  const int lanes = S::lanes(call), depth = S::depth(call), items = kWarpLanes / lanes;
  begin_items<S, kChunk>(warp, call, tile, first, lanes, depth, memory.item);
  BEVSTACK_NO_UNROLL
  for (int block = 0; block < depth; block += lanes * N) {  // once in a kernel specialised for D
    Each<Warp, Numbers<T, N>> sum;
    warp.each_alone([&](int lane) {
      sum[lane] = {};
      if constexpr (Points::kIndexed) {  // an item without an image is NaN
        if (memory.item[lane / lanes].base >= 0) return;
        BEVSTACK_UNROLL
        for (int i = 0; i < N; ++i) sum[lane].of[i] = T(NAN);
      }
    });
    BEVSTACK_NO_UNROLL
    for (int begin = 0; begin < call.points; begin += kChunk) {
      const int count = chunk_size(call, begin, kChunk);
      warp.each([&](int lane) {
        with_type<T, kDepth>(call.offset_type, [&](auto* type) {
          using O = std::remove_pointer_t<decltype(type)>;
          prepare_forward<O, kChunk>(call, lane, items, begin, count, memory);
        });
      });
      warp.each([&](int lane) {
        const int item = lane / lanes, channel = block + lane % lanes * N;
        if (channel >= depth || memory.item[item].group < 0) return;
        gather(memory.weight + item * S::kStride, memory.steps + item * S::kStride, count,
               as_it_is(call.value + memory.item[item].base + channel), depth, call.plan.groups,
               sum[lane].of);
      });
    }
    warp.each([&](int lane) {
      const int64_t group = memory.item[lane / lanes].group;
      const int channel = block + lane % lanes * N;
      if (channel >= depth || group < 0) return;
      store_channels(call.output + group * depth + channel, sum[lane].of);
    });
  }
}

}  // namespace gpu
}  // namespace bevstack
