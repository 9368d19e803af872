// The part of both operators that does not depend on channels: locating the points of a warp's
// items.
//
// A warp processes a few items (one group of one output) at a time, with a team of lanes for each.
// First all lanes share the points of all items, one point per lane, and compute position, corners
// and weights. They store these in shared memory, from which the teams read them (forward.cuh,
// backward.cuh).
#pragma once

#include "common/corners.cuh"
#include "common/plan.cuh"
#include "common/warp.cuh"

namespace bevstack {
namespace gpu {

// The arguments of a kernel. V is the storage type of values and outputs; offsets, factors and
// their gradients have offset_type. All tensors are contiguous and aligned to 16 bytes.
template <class Points, typename V>
struct Call {
  const V* value;      // images of (pixels, G, D)
  const void* offset;  // (rows, G, P, 2)
  const void* factor;  // (rows, G, P)
  V* output;           // (rows, G, D)
  const V* grad_output;
  void* grad_offset;
  void* grad_factor;
  Points of;
  Plan plan;
  int64_t image_size;  // numbers from one image of value to the next
  int channels;        // D
  int points;          // P
  int lanes;           // of a team, in kernels for any D
  NumberType offset_type;
  bool softmax;
};

// Distribution of the channels of one item over lanes. kDepth is D in a kernel specialised for D;
// else it is 0, and a lane takes single channels.
template <typename V, int depth_of_kernel>
struct Share {
  static constexpr int kDepth = depth_of_kernel;
  static constexpr int kVector = kDepth ? 16 / int(sizeof(V)) : 1;  // channels of one access
  static constexpr int kLeastLanes = kDepth ? kDepth / kVector : 4;
  static constexpr int kItems = kWarpLanes / kLeastLanes;  // maximum number of items
  static constexpr int kStride = 9;  // of an item's points in memory; odd avoids bank conflicts

  template <class C>
  BEVSTACK_DEVICE static int lanes(const C& call) {
    return kDepth ? kLeastLanes : call.lanes;
  }
  template <class C>
  BEVSTACK_DEVICE static int depth(const C& call) {
    return kDepth ? kDepth : call.channels;
  }
};

// Returns the lanes of a team for any number of channels: a power of two.
inline int lanes_for(int channels) {
  int lanes = 4;
  while (lanes < kWarpLanes && lanes < channels) lanes *= 2;
  return lanes;
}

// Four numbers that are read from shared memory in one access.
template <typename T>
struct alignas(16) Four {
  T of[4];
};

template <typename T>
struct ItemMemory {
  int64_t group;  // row * G + g; -1: no item
  int64_t base;   // index of its first channel in the first pixel of its image; -1: no such image
  T origin_x, origin_y;
  T most, inverse_sum;  // of the softmax: largest logit, 1 / sum of exponentials
  T mean;               // backward: sum of factor times its gradient, for the softmax
};

// Writes the data of items [first, first + items) of a tile to `memory`.
template <class Warp, class C, typename T>
BEVSTACK_DEVICE inline void describe(Warp warp, const C& call, const Tile& tile, int first, int items,
                                   int depth, ItemMemory<T>* memory) {
  warp.each([&](int lane) {
    if (lane >= items) return;
    ItemMemory<T>& item = memory[lane];
    item.group = -1;
    if (first + lane >= tile.items()) return;
    const Item at = item_of(tile, first + lane);
    const int64_t row = (tile.image * call.plan.height + at.y) * call.plan.width + at.x;
    const int64_t image = call.of.image(tile.image, row);
    item.group = row * call.plan.groups + at.group;
    item.base = image * call.image_size + int64_t(at.group) * depth;
    item.origin_x = call.of.origin_x(at.x);
    item.origin_y = call.of.origin_y(at.y);
    item.mean = T(0);
    if (call.of.known(image)) return;
    call.of.report(image);
    item.base = -1;
    item.origin_x = item.origin_y = T(NAN);  // no point is valid, so nothing is read or added
  });
}

// Calls work(logit) for the factors of an item that are assigned to one lane of its team. Several
// are loaded at once, so that their latencies overlap.
template <typename O, int kAtOnce, typename Work>
BEVSTACK_DEVICE inline void for_each_logit(const O* factors, int points, int begin, int lanes,
                                           Work work) {
  BEVSTACK_NO_UNROLL
  for (int first = begin; first < points; first += lanes * kAtOnce) {
    O logit[kAtOnce] = {};
    BEVSTACK_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * lanes < points) logit[k] = factors[first + k * lanes];
    }
    BEVSTACK_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      if (first + k * lanes < points) work(widen(logit[k]));
    }
  }
}

// Computes the largest logit and the sum of exponentials of each item, one team per item.
template <class S, int kChunk, typename O, class Warp, class C, typename T>
BEVSTACK_DEVICE inline void find_softmax(Warp warp, const C& call, int lanes,
                                         ItemMemory<T>* memory) {
  constexpr int kAtOnce = (kChunk + S::kLeastLanes - 1) / S::kLeastLanes;
  Each<Warp, T> most, sum;
  const O* factors = static_cast<const O*>(call.factor);
  warp.each_alone([&](int lane) {
    const int64_t group = memory[lane / lanes].group;
    T largest = T(-INFINITY);
    if (group >= 0) {
      for_each_logit<O, kAtOnce>(factors + group * call.points, call.points, lane % lanes, lanes,
                                 [&](T logit) { largest = larger_of(largest, logit); });
    }
    most[lane] = largest;
  });
  team_largest(warp, most, lanes);
  warp.each_alone([&](int lane) {
    const int64_t group = memory[lane / lanes].group;
    T total = T(0);
    if (group >= 0) {
      for_each_logit<O, kAtOnce>(factors + group * call.points, call.points, lane % lanes, lanes,
                                 [&](T logit) { total += exp_of(logit - most[lane]); });
    }
    sum[lane] = total;
  });
  team_sum(warp, sum, lanes);
  warp.each([&](int lane) {
    if (lane % lanes != 0) return;
    memory[lane / lanes].most = most[lane];
    memory[lane / lanes].inverse_sum = T(1) / sum[lane];
  });
}

// Writes the data of items, including that of the softmax over their factors, if there is one.
template <class S, int kChunk, class Warp, class C, typename T>
BEVSTACK_DEVICE inline void begin_items(Warp warp, const C& call, const Tile& tile, int first,
                                      int lanes, int depth, ItemMemory<T>* memory) {
  describe(warp, call, tile, first, kWarpLanes / lanes, depth, memory);
  if (!call.softmax) return;
  with_type<T, S::kDepth>(call.offset_type, [&](auto* type) {
    using O = std::remove_pointer_t<decltype(type)>;
    find_softmax<S, kChunk, O>(warp, call, lanes, memory);
  });
}

// A located point of an item.
template <typename T>
struct Located {
  bool valid;
  T factor;
  Axis<T> x, y;
  int place;  // index of corner (y0, x0), in units of D numbers
  int line;   // units from one line of the map to the next
};

// A point as stored in the tensors.
template <typename O>
struct Stored {
  O x, y, factor;
};

template <typename O, class C>
BEVSTACK_DEVICE inline Stored<O> load_point(const C& call, int64_t group, int p) {
  const int64_t index = group * call.points + p;
  Stored<O> stored;
  load_pair(static_cast<const O*>(call.offset), index, stored.x, stored.y);
  stored.factor = static_cast<const O*>(call.factor)[index];
  return stored;
}

template <typename O, class C, typename T>
BEVSTACK_DEVICE inline Located<T> locate(const C& call, const ItemMemory<T>& item, int p,
                                         const Stored<O>& stored) {
  Located<T> at{};
  at.factor = widen(stored.factor);
  if (call.softmax) at.factor = exp_of(at.factor - item.most) * item.inverse_sum;
  const Position<T> position = call.of.position(item.origin_x, item.origin_y, p, T(widen(stored.x)),
                                                T(widen(stored.y)));
  at.valid = touches(position.x, position.y, position.width, position.height);
  if (!at.valid) return at;
  at.x = split(position.x, position.width);
  at.y = split(position.y, position.height);
  at.line = position.width * call.plan.groups;
  at.place = (position.first + at.y.first * position.width + at.x.first) * call.plan.groups;
  return at;
}

// Assignment of a chunk's points to lanes, one point per lane and turn; neighbouring lanes take
// neighbouring points of an item.
template <class S, int kChunk>
struct Deal {
  static constexpr int kTurns = (S::kItems * kChunk + kWarpLanes - 1) / kWarpLanes;
  int item, point, slot;

  BEVSTACK_DEVICE Deal(int turn, int lane) {
    const int task = turn * kWarpLanes + lane;
    item = task / kChunk;
    point = task % kChunk;
    slot = item * S::kStride + point;
  }
};

// Calls work(slot, point) for one lane's share of the points [begin, begin + count) of all items.
// All are loaded before the first is processed, so that their latencies overlap.
template <class S, int kChunk, typename O, class C, typename T, typename Work>
BEVSTACK_DEVICE inline void locate_points(const C& call, int lane, int items, int begin, int count,
                                          const ItemMemory<T>* memory, Work work) {
  using D = Deal<S, kChunk>;
  lane = right_here(lane);
  Stored<O> stored[D::kTurns] = {};
  BEVSTACK_UNROLL
  for (int turn = 0; turn < D::kTurns; ++turn) {
    const D deal(turn, lane);
    if (deal.item >= items || deal.point >= count) continue;
    const int64_t group = memory[deal.item].group;
    if (group >= 0) stored[turn] = load_point<O>(call, group, begin + deal.point);
  }
  BEVSTACK_UNROLL
  for (int turn = 0; turn < D::kTurns; ++turn) {
    const D deal(turn, lane);
    if (deal.item >= items || deal.point >= count) continue;
    const ItemMemory<T>& item = memory[deal.item];
    Located<T> at{};
    if (item.group >= 0) at = locate(call, item, begin + deal.point, stored[turn]);
    work(deal.slot, at);
  }
}

template <class C>
BEVSTACK_DEVICE inline int chunk_size(const C& call, int begin, int chunk) {
  return call.points - begin < chunk ? call.points - begin : chunk;
}

}  // namespace gpu
}  // namespace bevstack
