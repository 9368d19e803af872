// The arithmetic of both operators on one row of outputs, for one instruction set.
//
// A block is the points of several neighbouring groups of one row. Three steps process it:
// 1. `locate` computes corners and weights of all its points, one point per lane.
// 2. `gather`, or `scatter` in the backward pass, loops over the points, one channel per lane.
// 3. `finish` (backward) turns the inner products that scatter stored into gradients, one point per
//    lane.
#pragma once

#include "common/sampling.h"
#include "common/simd.h"
#include "common/softmax.h"
#include "common/storage.h"

namespace bevstack {
namespace BEVSTACK_ISA {

// A thread's scratch memory; see scratch_plan.
template <typename T>
struct Block {
  T* records;      // BlockArray of the block's points
  T* weights;      // (points, 4): of the corners (y0, x0), (y0, x1), (y1, x0), (y1, x1), with factor
  T* products;     // (points, 4): inner products of the output's gradient with each corner
  T* factor;       // normalised by the softmax, if there is one
  T* sums;         // for the softmax
  T* window;
  T* offset;       // copies, if the tensors cannot be read or written directly
  T* grad_offset;
  T* grad_factor;
  T* anchor;       // of each point of a group, in pixels of its map

  Block(T* scratch, const ScratchPlan& plan)
      : records(scratch),
        weights(scratch + plan.weights),
        products(scratch + plan.products),
        factor(scratch + plan.factor),
        sums(scratch + plan.sums),
        window(scratch + plan.window),
        offset(scratch + plan.offset),
        grad_offset(scratch + plan.grad_offset),
        grad_factor(scratch + plan.grad_factor),
        anchor(scratch + plan.anchor) {}
};

template <typename T>
BEVSTACK_INLINE Unsigned<T> integer(const T* entry) {
  Unsigned<T> bits;
  __builtin_memcpy(&bits, entry, sizeof bits);
  return bits;
}

template <typename T>
BEVSTACK_INLINE void store_some(T* to, int64_t k, int64_t count, Vector<T> vector) {
  if (k + kLanes<T> <= count) return store(to + k, vector);
  T buffer[kLanes<T>];
  store(buffer, vector);
  for (int64_t i = k; i < count; ++i) to[i] = buffer[i - k];
}

// Lanes with even and with odd index of two registers.
template <typename T, int N>
BEVSTACK_INLINE Vector<T, N> evens(Vector<T, N> a, Vector<T, N> b) {
  return shuffle<T, N>(a, b, [](int i) { return 2 * i; });
}
template <typename T, int N>
BEVSTACK_INLINE Vector<T, N> odds(Vector<T, N> a, Vector<T, N> b) {
  return shuffle<T, N>(a, b, [](int i) { return 2 * i + 1; });
}

// The inverse: first and second half of the interleaved lanes of a and b.
template <typename T, int N>
BEVSTACK_INLINE Vector<T, N> lower_turns(Vector<T, N> a, Vector<T, N> b) {
  return shuffle<T, N>(a, b, [](int i) { return i / 2 + (i & 1 ? N : 0); });
}
template <typename T, int N>
BEVSTACK_INLINE Vector<T, N> upper_turns(Vector<T, N> a, Vector<T, N> b) {
  return shuffle<T, N>(a, b, [](int i) { return (i + N) / 2 + (i & 1 ? N : 0); });
}

// Stores four vectors so that the four numbers of a lane are adjacent.
template <typename T>
BEVSTACK_INLINE void store_fours(T* to, Vector<T> a, Vector<T> b, Vector<T> c, Vector<T> d) {
  constexpr int L = kLanes<T>;
  const Vector<T> halves[4] = {lower_turns<T, L>(a, c), lower_turns<T, L>(b, d),
                               upper_turns<T, L>(a, c), upper_turns<T, L>(b, d)};
  store(to, lower_turns<T, L>(halves[0], halves[1]));
  store(to + L, upper_turns<T, L>(halves[0], halves[1]));
  store(to + 2 * L, lower_turns<T, L>(halves[2], halves[3]));
  store(to + 3 * L, upper_turns<T, L>(halves[2], halves[3]));
}

// The maps that the points of one register sample.
template <typename T>
struct Maps {
  Vector<T> scale_x, scale_y, width, height;
  Vector<Integer<T>> last_column, last_line, first, line_step;

  BEVSTACK_INLINE explicit Maps(const T* table)
      : scale_x(load<Vector<T>>(table + kScaleX * kRecord)),
        scale_y(load<Vector<T>>(table + kScaleY * kRecord)),
        width(load<Vector<T>>(table + kWidth * kRecord)),
        height(load<Vector<T>>(table + kHeight * kRecord)),
        last_column(load<Vector<Integer<T>>>(table + kLastColumn * kRecord)),
        last_line(load<Vector<Integer<T>>>(table + kLastLine * kRecord)),
        first(load<Vector<Integer<T>>>(table + kFirst * kRecord)),
        line_step(load<Vector<Integer<T>>>(table + kLineStep * kRecord)) {}
};

// One axis of a position inside (-1, size): the two neighbouring pixels and their weights.
template <typename T>
struct Axis {
  Vector<Integer<T>> first;  // clamped to the map
  Vector<Integer<T>> first_inside;
  Vector<Integer<T>> second_inside;
  Vector<T> first_weight;
  Vector<T> second_weight;

  BEVSTACK_INLINE Axis(Vector<T> position, Vector<Integer<T>> last) {
    using V = Vector<T>;
    using I = Vector<Integer<T>>;
    const V down = floor_of<T>(position);
    const I whole = __builtin_convertvector(down, I);
    const V fraction = position - down;
    const V zero = {};
    const I none = {};
    first_inside = whole >= none;
    second_inside = whole < last;
    first = select(first_inside, whole, none);
    first_weight = select(first_inside, T(1) - fraction, zero);
    second_weight = select(second_inside, fraction, zero);
  }
};

// Reads full registers of offset and factor; the last one may extend beyond `count` points.
template <typename T, bool kGradients, bool kOneMap>
void locate(const T* whole_table, int64_t column_step, T start_x, T start_y, const T* offset,
            const T* factor, int64_t count, const Block<T>& block) {
  using V = Vector<T>;
  using I = Vector<Integer<T>>;
  constexpr int L = kLanes<T>;
  const V zero = {};
  const I none = {};
  Maps<T> maps(whole_table);
  for (int64_t k = 0; k < count; k += L) {
    const T* const table = whole_table + record_entry(k, kTableArrays);
    T* const entry = block.records + record_entry(k, kBlockArrays);
    if constexpr (!kOneMap) maps = Maps<T>(table);
    const V low = load<V>(offset + 2 * k), high = load<V>(offset + 2 * k + L);
    V x = start_x + load<V>(table + kGridX * kRecord) + evens<T, L>(low, high) * maps.scale_x;
    V y = start_y + load<V>(table + kGridY * kRecord) + odds<T, L>(low, high) * maps.scale_y;
    const I valid = (x > T(-1)) & (x < maps.width) & (y > T(-1)) & (y < maps.height);
    x = select(valid, x, zero);
    y = select(valid, y, zero);
    const Axis<T> column(x, maps.last_column);
    const Axis<T> line(y, maps.last_line);
    I place = line.first * maps.line_step + column.first * Integer<T>(column_step);
    if constexpr (!kOneMap) place += maps.first;
    store(entry + kPlace * kRecord, valid ? place : none - 1);
    const I both_x = column.first_inside & column.second_inside;
    const I both_y = line.first_inside & line.second_inside;
    store(entry + kStepX * kRecord, both_x & Integer<T>(column_step));
    store(entry + kStepY * kRecord, both_y & maps.line_step);
    const V counted = select(valid, load<V>(factor + k), zero);
    const V top = line.first_weight * counted;
    const V bottom = line.second_weight * counted;
    store_fours(block.weights + 4 * k, top * column.first_weight, top * column.second_weight,
                bottom * column.first_weight, bottom * column.second_weight);
    if constexpr (kGradients) {
      store(entry + kLeft * kRecord, column.first_weight);
      store(entry + kRight * kRecord, select(column.second_inside, column.second_weight, zero - 1));
      store(entry + kTop * kRecord, line.first_weight);
      store(entry + kBottom * kRecord, select(line.second_inside, line.second_weight, zero - 1));
      store(entry + kValidFactor * kRecord, counted);
    }
  }
}

// Calls work(entry, k) with the block's entries of the points [k, k + points).
template <typename T, typename Work>
BEVSTACK_INLINE void for_points(T* records, int64_t k, int points, Work work) {
  const int64_t end = k + points;
  T* entry = records + k;
  int64_t stop = end;
  do {  // runs once, unless a group has more points than a record
    if (end > kRecord) {
      entry = records + record_entry(k, kBlockArrays);
      const int64_t in_record = (k / kRecord + 1) * kRecord;
      stop = end < in_record ? end : in_record;
    }
    for (; k < stop; ++k, ++entry) work(entry, k);
  } while (k < end);
}

// Indices of the four corners of a point, in numbers from the start of an image.
template <typename T>
struct Corners {
  uint64_t at[4];

  BEVSTACK_INLINE explicit Corners(const T* entry) {
    const uint64_t right = integer(entry + kStepX * kRecord);
    const uint64_t down = integer(entry + kStepY * kRecord);
    at[0] = integer(entry + kPlace * kRecord);
    at[1] = at[0] + right;
    at[2] = at[0] + down;
    at[3] = at[1] + down;
  }
};

template <typename T>
BEVSTACK_INLINE bool counts(const T* entry) {
  return integer(entry + kPlace * kRecord) != Unsigned<T>(-1);
}

// The weights of a point's corners, each in N lanes.
template <typename T, int N>
struct Weights {
  Vector<T, N> of[4];

  BEVSTACK_INLINE explicit Weights(const T* four) {
    const Vector<T, N> fours = repeat_four<T, N>(four);
    of[0] = spread<T, N, 0>(fours);
    of[1] = spread<T, N, 1>(fours);
    of[2] = spread<T, N, 2>(fours);
    of[3] = spread<T, N, 3>(fours);
  }
};

// Sums `points` samples, starting at point k, into R registers of N channels.
template <typename T, typename S, int N, int R>
BEVSTACK_INLINE void gather(const Block<T>& block, int64_t k, int points, const S* value,
                            S* output) {
  using V = Vector<T, N>;
  // Independent sums hide the latency of additions; their number is limited by the registers.
  constexpr int kSums = R <= 2 ? 4 : R <= 4 ? 2 : 1;
  V sums[kSums][R] = {};
  const T* const all_weights = block.weights;
  for_points(block.records, k, points, [&](const T* entry, int64_t p) BEVSTACK_LAMBDA {
    if (!counts(entry)) return;
    const Corners<T> corners(entry);
    const Weights<T, N> weights(all_weights + 4 * p);
    for (int c = 0; c < 4; ++c) {
      const S* const from = value + corners.at[c];
      for (int r = 0; r < R; ++r) {
        sums[c % kSums][r] += read<T, N>(from + r * N) * weights.of[c];
      }
    }
  });
  for (int r = 0; r < R; ++r) {
    V sum = sums[0][r];
    if (kSums >= 2) sum += sums[1 % kSums][r];
    if (kSums == 4) sum += sums[2 % kSums][r] + sums[3 % kSums][r];
    write<T, N>(output + r * N, sum);
  }
}

// Returns the sums over the lanes of each of four vectors with 4 or 8 lanes.
template <typename T, int N>
BEVSTACK_INLINE Vector<T, 4> add_lanes(const Vector<T, N> (&four)[4]) {
  if constexpr (N == 8) {
    // Adds pairs within 128-bit halves, the fastest shuffle on these processors.
    const auto even = [](int i) { return i / 4 * 4 + i % 2 * 2 + (i & 2 ? 8 : 0); };
    const auto odd = [](int i) { return i / 4 * 4 + i % 2 * 2 + 1 + (i & 2 ? 8 : 0); };
    const auto add_pairs = [&](Vector<T, N> a, Vector<T, N> b) BEVSTACK_LAMBDA {
      return shuffle<T, N>(a, b, even) + shuffle<T, N>(a, b, odd);
    };
    const Vector<T, N> both =
        add_pairs(add_pairs(four[0], four[1]), add_pairs(four[2], four[3]));
    return Vector<T, 4>{both[0], both[1], both[2], both[3]} +
           Vector<T, 4>{both[4], both[5], both[6], both[7]};
  } else {
    const Vector<T, N> halves[2] = {fold<T, N, 2>(four[0], four[2]), fold<T, N, 2>(four[1], four[3])};
    return fold<T, N, 1>(halves[0], halves[1]);
  }
}

// The transpose of gather: adds to the gradient to value. Also stores the inner products of the
// output's gradient with each corner in block.products, or adds them there unless kFirst.
template <typename T, typename S, int N, int R, bool kFirst>
BEVSTACK_INLINE void scatter(const Block<T>& block, int64_t k, int points, const S* value,
                             T* grad_value, const S* grad_output) {
  using V = Vector<T, N>;
  // Products use narrower registers, because summing their lanes takes fewer steps.
  constexpr int M = sizeof(T) == 4 && N >= 8 ? 8 : 4;
  using W = Vector<T, M>;
  constexpr int kParts = N * R / M;
  V grad[R];
  W grad_parts[kParts];
  for (int r = 0; r < R; ++r) grad[r] = read<T, N>(grad_output + r * N);
  for (int r = 0; r < kParts; ++r) grad_parts[r] = read<T, M>(grad_output + r * M);
  // Local copies: for the compiler, a store could change the pointers in `block`.
  const T* const all_weights = block.weights;
  T* const products = block.products;
  for_points(block.records, k, points, [&](const T* entry, int64_t p) BEVSTACK_LAMBDA {
    T* const product_of_point = products + 4 * p;
    if (!counts(entry)) {
      if (kFirst) store(product_of_point, Vector<T, 4>{});
      return;
    }
    const Corners<T> corners(entry);
    W product[4];
    for (int c = 0; c < 4; ++c) {
      const S* const from = value + corners.at[c];
      product[c] = grad_parts[0] * read<T, M>(from);
      for (int r = 1; r < kParts; ++r) product[c] += grad_parts[r] * read<T, M>(from + r * M);
    }
    const Weights<T, N> weights(all_weights + 4 * p);
    for (int c = 0; c < 4; ++c) {
      T* const to = grad_value + corners.at[c];
      for (int r = 0; r < R; ++r) store(to + r * N, load<V>(to + r * N) + grad[r] * weights.of[c]);
    }
    const Vector<T, 4> sum = add_lanes<T, M>(product);
    store(product_of_point, kFirst ? sum : sum + load<Vector<T, 4>>(product_of_point));
  });
}

// Processes one channel, for the remaining channels that do not fill a register.
template <typename T, typename S>
void gather_channel(const Block<T>& block, int64_t k, int points, const S* value, S* output) {
  T sum = 0;
  for_points(block.records, k, points, [&](const T* entry, int64_t p) BEVSTACK_LAMBDA {
    if (!counts(entry)) return;
    const Corners<T> corners(entry);
    for (int c = 0; c < 4; ++c) {
      sum += block.weights[4 * p + c] * read_one<T>(value + corners.at[c]);
    }
  });
  write_one<T>(output, sum);
}

template <typename T, typename S>
void scatter_channel(const Block<T>& block, int64_t k, int points, const S* value, T* grad_value,
                     T grad) {
  for_points(block.records, k, points, [&](const T* entry, int64_t p) BEVSTACK_LAMBDA {
    if (!counts(entry)) return;
    const Corners<T> corners(entry);
    for (int c = 0; c < 4; ++c) {
      block.products[4 * p + c] += grad * read_one<T>(value + corners.at[c]);
      grad_value[corners.at[c]] += grad * block.weights[4 * p + c];
    }
  });
}

// Processes any number of channels, in the widest registers that fit.
template <typename T, typename S>
void gather_any(const Block<T>& block, int64_t k, int points, const S* value, int depth,
                S* output) {
  constexpr int L = kLanes<T>;
  int c = 0;
  for (; c + 4 * L <= depth; c += 4 * L) {
    gather<T, S, L, 4>(block, k, points, value + c, output + c);
  }
  for (; c + L <= depth; c += L) gather<T, S, L, 1>(block, k, points, value + c, output + c);
  if constexpr (L > 8) {
    for (; c + 8 <= depth; c += 8) gather<T, S, 8, 1>(block, k, points, value + c, output + c);
  }
  for (; c + 4 <= depth; c += 4) gather<T, S, 4, 1>(block, k, points, value + c, output + c);
  for (; c < depth; ++c) gather_channel(block, k, points, value + c, output + c);
}

template <typename T, typename S>
void scatter_any(const Block<T>& block, int64_t k, int points, const S* value, T* grad_value,
                 int depth, const S* grad_output) {
  constexpr int L = kLanes<T>;
  for (int64_t i = 4 * k; i < 4 * (k + points); ++i) block.products[i] = 0;
  int c = 0;
  for (; c + L <= depth; c += L) {
    scatter<T, S, L, 1, false>(block, k, points, value + c, grad_value + c, grad_output + c);
  }
  if constexpr (L > 8) {
    for (; c + 8 <= depth; c += 8) {
      scatter<T, S, 8, 1, false>(block, k, points, value + c, grad_value + c, grad_output + c);
    }
  }
  for (; c + 4 <= depth; c += 4) {
    scatter<T, S, 4, 1, false>(block, k, points, value + c, grad_value + c, grad_output + c);
  }
  for (; c < depth; ++c) {
    scatter_channel(block, k, points, value + c, grad_value + c, read_one<T>(grad_output + c));
  }
}

// Computes the gradients to offsets and factors; the latter are those to the softmax's output, if
// there is one. Writes exactly `count` points.
template <typename T>
void finish(const T* whole_table, int64_t count, const Block<T>& block, T* grad_offset,
            T* grad_factor) {
  using V = Vector<T>;
  using I = Vector<Integer<T>>;
  constexpr int L = kLanes<T>;
  const V zero = {};
  for (int64_t k = 0; k < count; k += L) {
    const T* const entry = block.records + record_entry(k, kBlockArrays);
    const T* const table = whole_table + record_entry(k, kTableArrays);
    const T* const from = block.products + 4 * k;  // four corners of each point
    const V pairs[4] = {
        evens<T, L>(load<V>(from), load<V>(from + L)), odds<T, L>(load<V>(from), load<V>(from + L)),
        evens<T, L>(load<V>(from + 2 * L), load<V>(from + 3 * L)),
        odds<T, L>(load<V>(from + 2 * L), load<V>(from + 3 * L))};
    const V product[4] = {evens<T, L>(pairs[0], pairs[2]), evens<T, L>(pairs[1], pairs[3]),
                          odds<T, L>(pairs[0], pairs[2]), odds<T, L>(pairs[1], pairs[3])};
    const V left = load<V>(entry + kLeft * kRecord), top = load<V>(entry + kTop * kRecord);
    V right = load<V>(entry + kRight * kRecord), bottom = load<V>(entry + kBottom * kRecord);
    const I left_inside = left > zero, top_inside = top > zero;
    const I right_inside = right >= zero, bottom_inside = bottom >= zero;
    right = select(right_inside, right, zero);
    bottom = select(bottom_inside, bottom, zero);
    const V upper = left * product[0] + right * product[1];
    const V lower = left * product[2] + right * product[3];
    const V first = top * product[0] + bottom * product[2];
    const V second = top * product[1] + bottom * product[3];
    const V to_x = select(right_inside, second, zero) - select(left_inside, first, zero);
    const V to_y = select(bottom_inside, lower, zero) - select(top_inside, upper, zero);
    const V counted = load<V>(entry + kValidFactor * kRecord);
    const V x = counted * to_x * load<V>(table + kScaleX * kRecord);
    const V y = counted * to_y * load<V>(table + kScaleY * kRecord);
    store_some(grad_offset, 2 * k, 2 * count, lower_turns<T, L>(x, y));
    store_some(grad_offset, 2 * k + L, 2 * count, upper_turns<T, L>(x, y));
    store_some(grad_factor, k, count, top * upper + bottom * lower);
  }
}

template <typename T, typename S>
BEVSTACK_INLINE int softmax_parts(const Sampling<T, S>& call) {
  return call.parts > 1 ? call.parts : 1;
}

template <typename T>
BEVSTACK_INLINE void scale(T* numbers, int64_t count, T by) {
  for (int64_t k = 0; k < count; ++k) numbers[k] *= by;
}

// Returns the offsets of the groups of a block with the anchors of its row added, in pixels.
template <typename T, typename S>
BEVSTACK_INLINE const T* add_anchors(const Sampling<T, S>& call, int64_t row, int groups,
                                     const T* offset, const Block<T>& block) {
  const T* const anchor = call.anchor + row * call.anchors * 2;
  for (int k = 0, p = 0, a = 0; k < call.points; ++k) {
    const T* const table = call.table + record_entry(uint64_t(k), kTableArrays);
    block.anchor[2 * k] = anchor[2 * a] * table[kWidth * kRecord];
    block.anchor[2 * k + 1] = anchor[2 * a + 1] * table[kHeight * kRecord];
    if (++a == call.anchors) a = 0;
    if (++p == call.map_points) p = a = 0;
  }
  const int64_t numbers = 2 * int64_t(call.points);
  for (int g = 0; g < groups; ++g) {
    const T* const from = offset + g * numbers;
    T* const to = block.offset + g * numbers;
    for (int64_t c = 0; c < numbers; ++c) to[c] = from[c] + block.anchor[c];
  }
  return block.offset;
}

// The first step of both passes: locates the points of groups [first, first + groups) of one row,
// at most groups_at_once groups. Returns their factors.
template <typename T, typename S, bool kGradients>
BEVSTACK_INLINE const T* locate_block(const Sampling<T, S>& call, int64_t row, T start_x,
                                      T start_y, int first, int groups, const Block<T>& block) {
  const int64_t point = (row * call.groups + first) * call.points;
  const int64_t all = call.rows * call.groups * call.points;
  const int64_t count = int64_t(groups) * call.points;
  const T* offset = points_of(call.offset, call.offset_storage, 2 * point, 2 * count, 2 * all,
                              block.offset);
  if (call.anchor != nullptr) offset = add_anchors(call, row, groups, offset, block);
  const T* factor =
      points_of(call.factor, call.factor_storage, point, count, all, block.grad_factor);
  if (call.softmax) {
    const int parts = softmax_parts(call);
    normalise(factor, groups * parts, call.points / parts, block.factor, block.sums, block.window);
    if (parts > 1) scale(block.factor, count, T(1) / T(parts));
    factor = block.factor;
  }
  const auto find = call.one_map ? locate<T, kGradients, true> : locate<T, kGradients, false>;
  find(call.table, call.pixel_size, start_x, start_y, offset, factor, count, block);
  return factor;
}

template <typename T, typename S, int kDepth>
BEVSTACK_INLINE void forward_block(const Sampling<T, S>& call, int64_t row, int64_t image,
                                   T start_x, T start_y, int first, int groups,
                                   const Block<T>& block) {
  locate_block<T, S, false>(call, row, start_x, start_y, first, groups, block);
  const int depth = kDepth ? kDepth : call.channels;
  const S* value =
      call.value + image * call.image_size + int64_t(first - call.first_group) * depth;
  S* output = call.output + (row * call.groups + first) * depth;
  for (int g = 0; g < groups; ++g, value += depth, output += depth) {
    const int64_t k = int64_t(g) * call.points;
    if constexpr (kDepth != 0) {
      gather<T, S, kLanes<T>, kDepth / kLanes<T>>(block, k, call.points, value, output);
    } else {
      gather_any(block, k, call.points, value, depth, output);
    }
  }
}

template <typename T, typename S, int kDepth>
BEVSTACK_INLINE void backward_block(const Sampling<T, S>& call, int64_t row, int64_t image,
                                    T start_x, T start_y, int first, int groups,
                                    const Block<T>& block) {
  const T* const factor =
      locate_block<T, S, true>(call, row, start_x, start_y, first, groups, block);
  const int depth = kDepth ? kDepth : call.channels;
  const int64_t from = image * call.image_size + int64_t(first - call.first_group) * depth;
  const int64_t group = row * call.groups + first;
  for (int g = 0; g < groups; ++g) {
    const int64_t k = int64_t(g) * call.points;
    const S* value = call.value + from + int64_t(g) * depth;
    T* grad_value = call.grad_value + from + int64_t(g) * depth;
    const S* grad_output = call.grad_output + (group + g) * depth;
    if constexpr (kDepth != 0) {
      scatter<T, S, kLanes<T>, kDepth / kLanes<T>, true>(block, k, call.points, value, grad_value,
                                                         grad_output);
    } else {
      scatter_any(block, k, call.points, value, grad_value, depth, grad_output);
    }
  }
  const int64_t point = group * call.points, count = int64_t(groups) * call.points;
  T* const grad_offset = call.offset_storage == Storage::computing
                             ? static_cast<T*>(call.grad_offset) + 2 * point
                             : block.grad_offset;
  T* const grad_factor = call.factor_storage == Storage::computing && !call.softmax
                             ? static_cast<T*>(call.grad_factor) + point
                             : block.grad_factor;
  finish(call.table, count, block, grad_offset, grad_factor);
  if (call.softmax) {
    const int parts = softmax_parts(call);
    if (parts > 1) {  // back to factors with sum 1, the gradient of which is smaller
      scale(block.factor, count, T(parts));
      scale(grad_factor, count, T(1) / T(parts));
    }
    denormalise(factor, groups * parts, call.points / parts, grad_factor, block.sums,
                block.window);
  }
  keep_points(grad_offset, call.offset_storage, 2 * point, 2 * count, call.grad_offset);
  keep_points(grad_factor, call.factor_storage, point, count, call.grad_factor);
}

// Prefetches memory, one cache line at a time, for reading or writing.
template <int kWrite>
BEVSTACK_INLINE void fetch(const void* from, int64_t bytes) {
  const char* const start = static_cast<const char*>(from);
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(start + k, kWrite, 2);
}

template <int kWrite>
BEVSTACK_INLINE void fetch_points(const void* array, Storage storage, int64_t first, int64_t count,
                                  int number_bytes) {
  const int64_t bytes = storage == Storage::computing ? number_bytes : 2;
  fetch<kWrite>(static_cast<const char*>(array) + first * bytes, count * bytes);
}

// Prefetches the data that only groups [first, first + groups) of a row use: offsets and factors,
// output or gradients.
template <typename T, typename S>
BEVSTACK_INLINE void fetch_row(const Sampling<T, S>& call, int64_t row, int first, int groups) {
  const int64_t group = row * call.groups + first;
  const int64_t point = group * call.points, points = int64_t(groups) * call.points;
  fetch_points<0>(call.offset, call.offset_storage, 2 * point, 2 * points, sizeof(T));
  fetch_points<0>(call.factor, call.factor_storage, point, points, sizeof(T));
  const int64_t output = group * call.channels;
  const int64_t bytes = int64_t(groups) * call.channels * int64_t(sizeof(S));
  if (call.grad_value == nullptr) return fetch<1>(call.output + output, bytes);
  fetch<0>(call.grad_output + output, bytes);
  fetch_points<1>(call.grad_offset, call.offset_storage, 2 * point, 2 * points, sizeof(T));
  fetch_points<1>(call.grad_factor, call.factor_storage, point, points, sizeof(T));
}

// Calls function<T, S, D>(...); D = 0 is the code for any other number of channels.
#define BEVSTACK_BY_DEPTH(T, function, S, geometry, call, ...)                           \
  if constexpr (sizeof(T) == 4) {                                                        \
    if (call.channels == 16) return function<T, S, 16>(geometry, call, __VA_ARGS__);     \
    if (call.channels == 32) return function<T, S, 32>(geometry, call, __VA_ARGS__);     \
  }                                                                                      \
  function<T, S, 0>(geometry, call, __VA_ARGS__)

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
