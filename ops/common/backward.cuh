// The backward pass of a warp's items. Each lane adds to the gradient to the values of its channels
// and computes its part of the inner products with the corners. Teams sum those parts. Then all
// lanes share the points and write the gradients to offsets and factors with neighbouring accesses.
#pragma once

#include "common/accumulate.cuh"
#include "common/sampling.cuh"

namespace bevstack {
namespace gpu {

template <typename T>
struct alignas(16) Corner {
  int place;   // index of corner (y0, x0), in units of D numbers; -1: invalid point
  int down;    // units to the line below; 0 if that is outside the map
  int inside;  // bits kLeft to kBottom of corners.cuh
  T factor;
};

// Shared memory of one warp.
template <typename V, int kDepth>
struct BackwardMemory {
  using S = Share<V, kDepth>;
  using T = Computing<V>;
  Four<T> weight[S::kItems * S::kStride];  // left, right, top, bottom; then gradients x, y, factor
  Corner<T> corner[S::kItems * S::kStride];
  ItemMemory<T> item[S::kItems];
};

template <typename O, int kChunk, class C, typename V, int kDepth>
BEVSTACK_DEVICE inline void prepare_backward(const C& call, int lane, int items, int begin,
                                             int count, BackwardMemory<V, kDepth>& memory) {
  using T = Computing<V>;
  locate_points<Share<V, kDepth>, kChunk, O>(
      call, lane, items, begin, count, memory.item, [&](int slot, const Located<T>& at) {
        if (!at.valid) {
          memory.corner[slot] = {-1, 0, 0, at.factor};
          return;
        }
        const bool below = at.y.lower_inside && at.y.upper_inside;
        memory.corner[slot] = {at.place, below ? at.line : 0, inside_bits(at.x, at.y), at.factor};
        memory.weight[slot] = {at.x.lower_weight, at.x.upper_weight, at.y.lower_weight,
                               at.y.upper_weight};
      });
}

// Adds the inner products of N channels' gradients with the four corners of a point to `product`.
// If `add` is set, also adds those gradients times the corners' weights to the gradient to the
// values.
template <typename V, int N, typename T, class Target>
BEVSTACK_DEVICE inline void scatter(const Four<T>& weight, const Corner<T>& corner, const V* value,
                                    const Target& target, int depth, int groups,
                                    const T (&grad)[N], bool add, T (&product)[4]) {
  const bool beside = (corner.inside & (kLeft | kRight)) == (kLeft | kRight);
  const int right = beside ? groups : 0;
  const int place[4] = {corner.place, corner.place + right, corner.place + corner.down,
                        corner.place + right + corner.down};
  T numbers[4][N];
  BEVSTACK_UNROLL
  for (int c = 0; c < 4; ++c) load_channels(advance(value, place[c], depth), numbers[c]);
  BEVSTACK_UNROLL
  for (int c = 0; c < 4; ++c) {
    BEVSTACK_UNROLL
    for (int i = 0; i < N; ++i) product[c] += grad[i] * numbers[c][i];
    const int needed = (c & 1 ? kRight : kLeft) | (c & 2 ? kBottom : kTop);
    if (!add || (corner.inside & needed) != needed) continue;
    const T of_corner = weight.of[c & 1] * weight.of[2 + (c >> 1)] * corner.factor;
    T added[N];
    BEVSTACK_UNROLL
    for (int i = 0; i < N; ++i) added[i] = of_corner * grad[i];
    target.add(place[c], depth, added);
  }
}

// Writes the gradients to offset and factor of points [begin, begin + count) of all items.
template <typename O, int kChunk, class C, typename V, int kDepth>
BEVSTACK_DEVICE inline void write_gradients(const C& call, int lane, int items, int begin,
                                            int count, const BackwardMemory<V, kDepth>& memory) {
  using T = Computing<V>;
  using D = Deal<Share<V, kDepth>, kChunk>;
  lane = right_here(lane);
  BEVSTACK_UNROLL
  for (int turn = 0; turn < D::kTurns; ++turn) {
    const D deal(turn, lane);
    if (deal.item >= items || deal.point >= count) continue;
    const ItemMemory<T>& item = memory.item[deal.item];
    if (item.group < 0) continue;
    const int p = begin + deal.point;
    const int64_t index = item.group * call.points + p;
    const Four<T> gradient = memory.weight[deal.slot];
    store_pair(static_cast<O*>(call.grad_offset), index, gradient.of[0] * call.of.scale_x(p),
               gradient.of[1] * call.of.scale_y(p));
    T to_factor = gradient.of[2];
    if (call.softmax) to_factor = memory.corner[deal.slot].factor * (to_factor - item.mean);
    static_cast<O*>(call.grad_factor)[index] = Round<O>::from(to_factor);
  }
}

// Processes one prepared point of every team's item: adds to the gradient to the values and
// replaces the point's weights by its gradients.
template <int kDepth, class Warp, class Points, typename V, class Sum, class Grads>
BEVSTACK_DEVICE inline void backward_point(Warp warp, const Call<Points, V>& call, int point,
                                         bool add, const Sum& sum, Grads& grad,
                                         BackwardMemory<V, kDepth>& memory) {
  using S = Share<V, kDepth>;
  using T = Computing<V>;
  constexpr int N = S::kVector;
  const int lanes = S::lanes(call), depth = S::depth(call);
  Each<Warp, T> part[3];
  warp.each_alone([&](int lane) {
    const int item = lane / lanes, slot = item * S::kStride + point;
    const Corner<T> corner = memory.corner[slot];
    part[0][lane] = part[1][lane] = part[2][lane] = T(0);
    if (corner.place < 0) return;
    const Four<T> weight = memory.weight[slot];
    const int64_t base = memory.item[item].base;
    T product[4] = {};
    if constexpr (kDepth != 0) {
      const int64_t own = base + lane % lanes * N;
      scatter(weight, corner, as_it_is(call.value + own), sum.from(own), depth, call.plan.groups,
              grad[lane].of, add, product);
    } else {
      for (int channel = lane % lanes; channel < depth; channel += lanes) {
        T one[1];
        load_channels(call.grad_output + memory.item[item].group * depth + channel, one);
        scatter(weight, corner, call.value + base + channel, sum.from(base + channel), depth,
                call.plan.groups, one, add, product);
      }
    }
    const SampleGradient<T> gradient =
        sample_gradient(product, weight.of[0], weight.of[1], weight.of[2], weight.of[3],
                        corner.inside, corner.factor);
    part[0][lane] = gradient.x;
    part[1][lane] = gradient.y;
    part[2][lane] = gradient.factor;
  });
  team_sums(warp, part, lanes, [&](int lane, int which, T total) {
    memory.weight[lane / lanes * S::kStride + point].of[which] = total;
  });
}

// Processes items [first, first + items of a warp) of a tile.
template <int kDepth, class Warp, class Points, typename V, class Sum>
BEVSTACK_DEVICE inline void backward_items(Warp warp, const Call<Points, V>& call, const Tile& tile,
                                         int first, const Sum& sum,
                                         BackwardMemory<V, kDepth>& memory) {
  using S = Share<V, kDepth>;
  using T = Computing<V>;
  constexpr int N = S::kVector, kChunk = Points::kChunk;
  const int lanes = S::lanes(call), depth = S::depth(call), items = kWarpLanes / lanes;
  begin_items<S, kChunk>(warp, call, tile, first, lanes, depth, memory.item);
  Each<Warp, Numbers<T, N>> grad;
  if constexpr (kDepth != 0) {
    warp.each_alone([&](int lane) {
      const int64_t group = memory.item[lane / lanes].group;
      if (group < 0) return;
      load_channels(call.grad_output + group * depth + lane % lanes * N, grad[lane].of);
    });
  }
  // The gradient of the softmax needs a sum over all points. If they do not fit into the shared
  // memory together, a first sweep computes that sum and a second one the gradients.
  const int sweeps = call.softmax && call.points > kChunk ? 2 : 1;
  BEVSTACK_NO_UNROLL
  for (int sweep = 0; sweep < sweeps; ++sweep) {
    const bool last = sweep + 1 == sweeps;
    BEVSTACK_NO_UNROLL
    for (int begin = 0; begin < call.points; begin += kChunk) {
      const int count = chunk_size(call, begin, kChunk);
      warp.each([&](int lane) {
        with_type<T, kDepth>(call.offset_type, [&](auto* type) {
          using O = std::remove_pointer_t<decltype(type)>;
          prepare_backward<O, kChunk>(call, lane, items, begin, count, memory);
        });
      });
      BEVSTACK_NO_UNROLL
      for (int point = 0; point < count; ++point) {
        backward_point<kDepth>(warp, call, point, last, sum, grad, memory);
      }
      warp.wait();
      warp.each([&](int lane) {
        if (!call.softmax || sweep != 0 || lane >= items || memory.item[lane].group < 0) return;
        for (int slot = lane * S::kStride; slot < lane * S::kStride + count; ++slot) {
          memory.item[lane].mean += memory.corner[slot].factor * memory.weight[slot].of[2];
        }
      });
      if (!last) continue;
      warp.each([&](int lane) {
        with_type<T, kDepth>(call.offset_type, [&](auto* type) {
          using O = std::remove_pointer_t<decltype(type)>;
          write_gradients<O, kChunk>(call, lane, items, begin, count, memory);
        });
      });
    }
  }
}

// Returns a bound, for FixedPoint, on the finite magnitudes that one item adds to the gradient to
// the values: the largest factor times the largest gradient of the output.
template <class Points, typename V>
BEVSTACK_DEVICE inline double largest_addend(const Call<Points, V>& call, const Tile& tile,
                                                  int index) {
  using T = Computing<V>;
  const Item at = item_of(tile, index);
  const int64_t row = (tile.image * call.plan.height + at.y) * call.plan.width + at.x;
  ItemMemory<T> item{};
  item.group = row * call.plan.groups + at.group;
  item.origin_x = call.of.origin_x(at.x);
  item.origin_y = call.of.origin_y(at.y);
  if (call.softmax) {  // factors are then at most 1
    item.most = T(INFINITY);
  }
  double factor = 0, grad = 0;
  for (int p = 0; p < call.points; ++p) {
    const Located<T> point = locate(call, item, p, load_point<T>(call, item.group, p));
    const double magnitude = call.softmax ? 1.0 : fabs(double(point.factor));
    if (point.valid && is_finite(magnitude)) factor = fmax(factor, magnitude);
  }
  for (int channel = 0; channel < call.channels; ++channel) {
    T number[1];
    load_channels(call.grad_output + item.group * call.channels + channel, number);
    const double magnitude = fabs(double(number[0]));
    if (is_finite(magnitude)) grad = fmax(grad, magnitude);
  }
  return factor * grad;
}

}  // namespace gpu
}  // namespace bevstack
