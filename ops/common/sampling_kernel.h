// The arithmetic of both operators on one row of outputs, for one instruction set.
//
// A block is the points of several neighbouring groups of one row. It is worked on in three steps:
// `locate` finds corners and weights of all its points, one point a lane; `gather` or `scatter`
// then walks over the points, one channel a lane; `finish` turns the inner products that scatter
// left behind into gradients, again one point a lane.
#pragma once

#include "common/sampling.h"
#include "common/simd.h"

namespace bevstack {
namespace BEVSTACK_ISA {

enum BlockArray {
  kPlace,  // of the corner (y0, x0), in units of D channels; -1: the point does not count
  kStepX,  // from there to x1, and to y1; the first three hold integers
  kStepY,
  kWeight,  // corners (y0, x0), (y0, x1), (y1, x0), (y1, x1), times the factor
  // For the gradients:
  kLeft = kWeight + 4,  // weights of the two columns and lines; 0 for those outside
  kRight,
  kTop,
  kBottom,
  kToLeft,  // their derivatives
  kToRight,
  kToTop,
  kToBottom,
  kValidFactor,
  kProduct,  // inner products of the output's gradient with the four corners
  kBlockArrays = kProduct + 4
};

template <typename T>
struct Block {
  T* records;  // BlockArray of the block's points
  T* factor;   // (points,)
  T* partial;  // (points, lanes): the inner products before their lanes are added up

  Block(T* scratch, int64_t padded)
      : records(scratch),
        factor(scratch + padded * kBlockArrays),
        partial(scratch + padded * (kBlockArrays + 1)) {}
};

template <typename T>
BEVSTACK_INLINE Integer<T> integer(const T* entry) {
  Integer<T> bits;
  __builtin_memcpy(&bits, entry, sizeof bits);
  return bits;
}

// Reads a register of an array of `count` numbers from position k, without going over its end
// where what lies behind is not known to belong to the same tensor.
template <typename T>
BEVSTACK_INLINE Vector<T> load_some(const T* from, int64_t k, int64_t count, bool may_read_on) {
  if (k + kLanes<T> <= count || may_read_on) return load<Vector<T>>(from + k);
  T buffer[kLanes<T>] = {};
  for (int64_t i = k; i < count; ++i) buffer[i - k] = from[i];
  return load<Vector<T>>(buffer);
}

template <typename T>
BEVSTACK_INLINE void store_some(T* to, int64_t k, int64_t count, Vector<T> vector) {
  if (k + kLanes<T> <= count) return store(to + k, vector);
  T buffer[kLanes<T>];
  store(buffer, vector);
  for (int64_t i = k; i < count; ++i) to[i] = buffer[i - k];
}

template <typename T>
void normalise(const T* logits, int groups, int points, T* factor) {
  for (int g = 0; g < groups; ++g) {
    const T* from = logits + int64_t(g) * points;
    T most = from[0];
    for (int p = 1; p < points; ++p) most = from[p] > most ? from[p] : most;
    for (int p = 0; p < points; ++p) factor[int64_t(g) * points + p] = from[p] - most;
  }
  const int64_t count = int64_t(groups) * points;
  for (int64_t k = 0; k < count; k += kLanes<T>) {
    store(factor + k, exp_negative<T>(load<Vector<T>>(factor + k)));
  }
  for (int g = 0; g < groups; ++g) {
    T* of_group = factor + int64_t(g) * points;
    T sum = 0;
    for (int p = 0; p < points; ++p) sum += of_group[p];
    const T inverse = T(1) / sum;
    for (int p = 0; p < points; ++p) of_group[p] *= inverse;
  }
}

// One axis of a position: the floor, and what the two pixels on either side weigh.
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
    const V zero = {};
    I whole = __builtin_convertvector(position, I);  // towards zero
    const I above = position < __builtin_convertvector(whole, V);
    whole += above;  // -1 where it rounded up
    const V fraction = position - __builtin_convertvector(whole, V);
    const I none = {};
    first_inside = whole >= none;
    second_inside = whole < last;
    first = select(first_inside, whole, none);
    first_weight = select(first_inside, T(1) - fraction, zero);
    second_weight = select(second_inside, fraction, zero);
  }
};

template <typename T, bool kGradients>
BEVSTACK_INLINE void locate(const Sampling<T>& call, T start_x, T start_y,
                            const T* offset, const T* factor, int64_t count, bool may_read_on,
                            const Block<T>& block) {
  using V = Vector<T>;
  using I = Vector<Integer<T>>;
  constexpr int L = kLanes<T>;
  const V zero = {};
  const I none = {};
  for (int64_t k = 0; k < count; k += L) {
    const T* const table = call.table + record_entry(k, kTableArrays);
    T* const entry = block.records + record_entry(k, kBlockArrays);
    const V low = load_some(offset, 2 * k, 2 * count, may_read_on);
    const V high = load_some(offset, 2 * k + L, 2 * count, may_read_on);
    const V offset_x = shuffle<T, L>(low, high, [](int i) { return 2 * i; });
    const V offset_y = shuffle<T, L>(low, high, [](int i) { return 2 * i + 1; });
    const V scale_x = load<V>(table + kScaleX * kRecord);
    const V scale_y = load<V>(table + kScaleY * kRecord);
    V x = start_x + load<V>(table + kGridX * kRecord) + offset_x * scale_x;
    V y = start_y + load<V>(table + kGridY * kRecord) + offset_y * scale_y;
    const I valid = (x > T(-1)) & (x < load<V>(table + kWidth * kRecord)) & (y > T(-1)) &
                    (y < load<V>(table + kHeight * kRecord));
    x = select(valid, x, zero);
    y = select(valid, y, zero);
    const Axis<T> column(x, load<I>(table + kLastColumn * kRecord));
    const Axis<T> line(y, load<I>(table + kLastLine * kRecord));
    const I line_step = load<I>(table + kLineStep * kRecord);
    const I place = load<I>(table + kFirst * kRecord) + line.first * line_step +
                    column.first * Integer<T>(call.groups);
    store(entry + kPlace * kRecord, valid ? place : none - 1);
    const I both_x = column.first_inside & column.second_inside;
    const I both_y = line.first_inside & line.second_inside;
    store(entry + kStepX * kRecord, both_x & Integer<T>(call.groups));
    store(entry + kStepY * kRecord, both_y & line_step);
    const V counted = select(valid, load_some(factor, k, count, may_read_on), zero);
    const V top = line.first_weight * counted;
    const V bottom = line.second_weight * counted;
    store(entry + (kWeight + 0) * kRecord, top * column.first_weight);
    store(entry + (kWeight + 1) * kRecord, top * column.second_weight);
    store(entry + (kWeight + 2) * kRecord, bottom * column.first_weight);
    store(entry + (kWeight + 3) * kRecord, bottom * column.second_weight);
    if (kGradients) {
      store(entry + kLeft * kRecord, column.first_weight);
      store(entry + kRight * kRecord, column.second_weight);
      store(entry + kTop * kRecord, line.first_weight);
      store(entry + kBottom * kRecord, line.second_weight);
      store(entry + kToLeft * kRecord, select(column.first_inside, zero - 1, zero));
      store(entry + kToRight * kRecord, select(column.second_inside, zero + 1, zero));
      store(entry + kToTop * kRecord, select(line.first_inside, zero - 1, zero));
      store(entry + kToBottom * kRecord, select(line.second_inside, zero + 1, zero));
      store(entry + kValidFactor * kRecord, counted);
    }
  }
}

// Sums the points from k on into R registers of N channels. kDepth is D where it is known when
// compiling, else 0.
template <typename T, int N, int R, int kDepth>
BEVSTACK_INLINE void gather(const Block<T>& block, int64_t k, int points, const T* value, int depth,
                            T* output) {
  using V = Vector<T, N>;
  // Independent sums hide the latency of adding, as far as there are registers.
  constexpr int kSums = R <= 2 ? 4 : R <= 4 ? 2 : 1;
  const int64_t unit = kDepth ? kDepth : depth;
  V sums[kSums][R] = {};
  const T* const records = block.records;
  for (int64_t end = k + points; k < end; ++k) {
    const T* const entry = records + record_entry(k, kBlockArrays);
    const Integer<T> place = integer(entry + kPlace * kRecord);
    if (place < 0) continue;
    const T* corner[4];
    corner[0] = value + int64_t(place) * unit;
    corner[1] = corner[0] + int64_t(integer(entry + kStepX * kRecord)) * unit;
    const int64_t down = int64_t(integer(entry + kStepY * kRecord)) * unit;
    corner[2] = corner[0] + down;
    corner[3] = corner[1] + down;
    for (int c = 0; c < 4; ++c) {
      const T weight = entry[(kWeight + c) * kRecord];
      for (int r = 0; r < R; ++r) sums[c % kSums][r] += load<V>(corner[c] + r * N) * weight;
    }
  }
  for (int r = 0; r < R; ++r) {
    V sum = sums[0][r];
    if (kSums >= 2) sum += sums[1 % kSums][r];
    if (kSums == 4) sum += sums[2 % kSums][r] + sums[3 % kSums][r];
    store(output + r * N, sum);
  }
}

// The transpose of gather: adds to the gradient of value, and leaves the products of the output's
// gradient with each corner in block.partial, added to what is there unless kFirst.
template <typename T, int N, int R, int kDepth, bool kFirst>
BEVSTACK_INLINE void scatter(const Block<T>& block, int64_t k, int points, const T* value,
                             T* grad_value, int depth, const T* grad_output) {
  using V = Vector<T, N>;
  constexpr int L = kLanes<T>;
  const int64_t unit = kDepth ? kDepth : depth;
  V grad[R];
  for (int r = 0; r < R; ++r) grad[r] = load<V>(grad_output + r * N);
  // Copies, because a store might change what the compiler reads through `block`.
  const T* const records = block.records;
  T* const partials = block.partial;
  for (int64_t end = k + points; k < end; ++k) {
    const T* const entry = records + record_entry(k, kBlockArrays);
    const Integer<T> place = integer(entry + kPlace * kRecord);
    T* const partial = partials + k * L;
    if (place < 0) {
      if (kFirst) store(partial, Vector<T>{});
      continue;
    }
    const int64_t right = int64_t(integer(entry + kStepX * kRecord)) * unit;
    const int64_t down = int64_t(integer(entry + kStepY * kRecord)) * unit;
    const int64_t first = int64_t(place) * unit;
    const int64_t corner[4] = {first, first + right, first + down, first + down + right};
    V product[4];
    for (int c = 0; c < 4; ++c) {
      const T* from = value + corner[c];
      product[c] = grad[0] * load<V>(from);
      for (int r = 1; r < R; ++r) product[c] += grad[r] * load<V>(from + r * N);
    }
    T weight[4];
    for (int c = 0; c < 4; ++c) weight[c] = entry[(kWeight + c) * kRecord];
    for (int c = 0; c < 4; ++c) {
      T* to = grad_value + corner[c];
      for (int r = 0; r < R; ++r) store(to + r * N, load<V>(to + r * N) + grad[r] * weight[c]);
    }
    const V halves[2] = {fold<T, N, N / 2>(product[0], product[2]),
                         fold<T, N, N / 2>(product[1], product[3])};
    const V folded = fold<T, N, N / 4>(halves[0], halves[1]);  // (4 corners, N / 4)
    if constexpr (kFirst && N == L) {
      store(partial, folded);
    } else if constexpr (N == L) {
      store(partial, load<V>(partial) + folded);
    } else {
      T lanes[N];
      store(lanes, folded);
      for (int i = 0; i < N; ++i) partial[i / (N / 4) * (L / 4) + i % (N / 4)] += lanes[i];
    }
  }
}

// One channel at a time, for what is left of a number of channels that fills no register.
template <typename T>
void gather_channel(const Block<T>& block, int64_t k, int points, const T* value, int depth,
                    T* output) {
  T sum = 0;
  for (int64_t end = k + points; k < end; ++k) {
    const T* const entry = block.records + record_entry(k, kBlockArrays);
    const Integer<T> place = integer(entry + kPlace * kRecord);
    if (place < 0) continue;
    const T* const corner = value + int64_t(place) * depth;
    const int64_t right = int64_t(integer(entry + kStepX * kRecord)) * depth;
    const int64_t down = int64_t(integer(entry + kStepY * kRecord)) * depth;
    const T* const weight = entry + kWeight * kRecord;
    sum += weight[0] * corner[0] + weight[kRecord] * corner[right] +
           weight[2 * kRecord] * corner[down] + weight[3 * kRecord] * corner[down + right];
  }
  *output = sum;
}

template <typename T>
void scatter_channel(const Block<T>& block, int64_t k, int points, const T* value, T* grad_value,
                     int depth, T grad) {
  constexpr int L = kLanes<T>;
  for (int64_t end = k + points; k < end; ++k) {
    const T* const entry = block.records + record_entry(k, kBlockArrays);
    const Integer<T> place = integer(entry + kPlace * kRecord);
    if (place < 0) continue;
    const int64_t first = int64_t(place) * depth;
    const int64_t right = int64_t(integer(entry + kStepX * kRecord)) * depth;
    const int64_t down = int64_t(integer(entry + kStepY * kRecord)) * depth;
    const int64_t corner[4] = {first, first + right, first + down, first + down + right};
    for (int c = 0; c < 4; ++c) {
      block.partial[k * L + c * (L / 4)] += grad * value[corner[c]];
      grad_value[corner[c]] += grad * entry[(kWeight + c) * kRecord];
    }
  }
}

// Any number of channels, in registers as wide as fit.
template <typename T>
void gather_any(const Block<T>& block, int64_t k, int points, const T* value, int depth,
                T* output) {
  constexpr int L = kLanes<T>;
  int c = 0;
  for (; c + 4 * L <= depth; c += 4 * L) {
    gather<T, L, 4, 0>(block, k, points, value + c, depth, output + c);
  }
  for (; c + L <= depth; c += L) {
    gather<T, L, 1, 0>(block, k, points, value + c, depth, output + c);
  }
  if constexpr (L > 8) {
    for (; c + 8 <= depth; c += 8) {
      gather<T, 8, 1, 0>(block, k, points, value + c, depth, output + c);
    }
  }
  for (; c + 4 <= depth; c += 4) {
    gather<T, 4, 1, 0>(block, k, points, value + c, depth, output + c);
  }
  for (; c < depth; ++c) gather_channel(block, k, points, value + c, depth, output + c);
}

template <typename T>
void scatter_any(const Block<T>& block, int64_t k, int points, const T* value, T* grad_value,
                 int depth, const T* grad_output) {
  constexpr int L = kLanes<T>;
  for (int64_t i = k * L; i < (k + points) * L; ++i) block.partial[i] = 0;
  int c = 0;
  for (; c + L <= depth; c += L) {
    scatter<T, L, 1, 0, false>(block, k, points, value + c, grad_value + c, depth, grad_output + c);
  }
  if constexpr (L > 8) {
    for (; c + 8 <= depth; c += 8) {
      scatter<T, 8, 1, 0, false>(block, k, points, value + c, grad_value + c, depth,
                                 grad_output + c);
    }
  }
  for (; c + 4 <= depth; c += 4) {
    scatter<T, 4, 1, 0, false>(block, k, points, value + c, grad_value + c, depth, grad_output + c);
  }
  for (; c < depth; ++c) {
    scatter_channel(block, k, points, value + c, grad_value + c, depth, grad_output[c]);
  }
}

// Adds up the lanes of block.partial into the block's products.
template <typename T>
BEVSTACK_INLINE void add_lanes(const Block<T>& block, int64_t count) {
  using V = Vector<T>;
  constexpr int L = kLanes<T>;
  constexpr int kPoints = L / 4;  // summed at once
  const T* partial = block.partial;
  T* const records = block.records;
  for (int64_t k = 0; k < count; k += kPoints, partial += kPoints * L) {
    V sum;
    if constexpr (kPoints == 4) {
      const V even = fold<T, L, 2>(load<V>(partial), load<V>(partial + 2 * L));
      const V odd = fold<T, L, 2>(load<V>(partial + L), load<V>(partial + 3 * L));
      sum = fold<T, L, 1>(even, odd);
    } else if constexpr (kPoints == 2) {
      sum = fold<T, L, 1>(load<V>(partial), load<V>(partial + L));
    } else {
      sum = load<V>(partial);
    }
    T lanes[L];
    store(lanes, sum);
    T* const entry = records + record_entry(k, kBlockArrays) + kProduct * kRecord;
    for (int c = 0; c < 4; ++c) {
      __builtin_memcpy(entry + c * kRecord, lanes + c * kPoints, kPoints * sizeof(T));
    }
  }
}

template <typename T>
void finish(const Sampling<T>& call, const T* factor, int groups, T* grad_offset,
            T* grad_factor, const Block<T>& block) {
  using V = Vector<T>;
  constexpr int L = kLanes<T>;
  const int64_t count = int64_t(groups) * call.points;
  add_lanes(block, count);
  for (int64_t k = 0; k < count; k += L) {
    const T* const entry = block.records + record_entry(k, kBlockArrays);
    const T* const table = call.table + record_entry(k, kTableArrays);
    V product[4];
    for (int c = 0; c < 4; ++c) product[c] = load<V>(entry + (kProduct + c) * kRecord);
    const V left = load<V>(entry + kLeft * kRecord), right = load<V>(entry + kRight * kRecord);
    const V top = load<V>(entry + kTop * kRecord), bottom = load<V>(entry + kBottom * kRecord);
    const V upper = left * product[0] + right * product[1];
    const V lower = left * product[2] + right * product[3];
    const V first = top * product[0] + bottom * product[2];
    const V second = top * product[1] + bottom * product[3];
    const V counted = load<V>(entry + kValidFactor * kRecord);
    const V to_x = load<V>(entry + kToLeft * kRecord) * first +
                   load<V>(entry + kToRight * kRecord) * second;
    const V to_y = load<V>(entry + kToTop * kRecord) * upper +
                   load<V>(entry + kToBottom * kRecord) * lower;
    const V x = counted * to_x * load<V>(table + kScaleX * kRecord);
    const V y = counted * to_y * load<V>(table + kScaleY * kRecord);
    const auto low = [](int i) { return i / 2 + (i & 1 ? L : 0); };
    const auto high = [](int i) { return (i + L) / 2 + (i & 1 ? L : 0); };
    store_some(grad_offset, 2 * k, 2 * count, shuffle<T, L>(x, y, low));
    store_some(grad_offset, 2 * k + L, 2 * count, shuffle<T, L>(x, y, high));
    store_some(grad_factor, k, count, top * upper + bottom * lower);
  }
  if (!call.softmax) return;
  for (int g = 0; g < groups; ++g) {
    const T* normal = factor + int64_t(g) * call.points;
    T* grad = grad_factor + int64_t(g) * call.points;
    T mean = 0;
    for (int p = 0; p < call.points; ++p) mean += normal[p] * grad[p];
    for (int p = 0; p < call.points; ++p) grad[p] = normal[p] * (grad[p] - mean);
  }
}

// Computes groups [first, first + groups) of one row, at most groups_at_once of them.
template <typename T, int kDepth>
BEVSTACK_INLINE void forward_block(const Sampling<T>& call, int64_t row, int64_t image,
                                   T start_x, T start_y, int first, int groups,
                                   const Block<T>& block) {
  const int64_t group = row * call.groups + first;
  const int64_t count = int64_t(groups) * call.points;
  // A register may be read beyond the block's end where 32 more numbers follow in the tensor.
  const bool may_read_on = (call.rows * call.groups - group) * call.points >= count + 32;
  const T* factor = call.factor + group * call.points;
  if (call.softmax) {
    normalise(factor, groups, call.points, block.factor);
    factor = block.factor;
  }
  locate<T, false>(call, start_x, start_y, call.offset + group * call.points * 2, factor, count,
                   may_read_on, block);
  const int depth = kDepth ? kDepth : call.channels;
  const T* value = call.value + image * call.image_size + int64_t(first) * depth;
  T* output = call.output + group * depth;
  for (int g = 0; g < groups; ++g, value += depth, output += depth) {
    const int64_t k = int64_t(g) * call.points;
    if constexpr (kDepth != 0) {
      gather<T, kLanes<T>, kDepth / kLanes<T>, kDepth>(block, k, call.points, value, depth, output);
    } else {
      gather_any(block, k, call.points, value, depth, output);
    }
  }
}

template <typename T, int kDepth>
BEVSTACK_INLINE void backward_block(const Sampling<T>& call, int64_t row, int64_t image,
                                    T start_x, T start_y, int first, int groups,
                                    const Block<T>& block) {
  const int64_t group = row * call.groups + first;
  const int64_t count = int64_t(groups) * call.points;
  const bool may_read_on = (call.rows * call.groups - group) * call.points >= count + 32;
  const T* factor = call.factor + group * call.points;
  if (call.softmax) {
    normalise(factor, groups, call.points, block.factor);
    factor = block.factor;
  }
  locate<T, true>(call, start_x, start_y, call.offset + group * call.points * 2, factor, count,
                  may_read_on, block);
  const int depth = kDepth ? kDepth : call.channels;
  const int64_t from = image * call.image_size + int64_t(first) * depth;
  for (int g = 0; g < groups; ++g) {
    const int64_t k = int64_t(g) * call.points;
    const T* value = call.value + from + int64_t(g) * depth;
    T* grad_value = call.grad_value + from + int64_t(g) * depth;
    const T* grad_output = call.grad_output + (group + g) * depth;
    if constexpr (kDepth != 0) {
      scatter<T, kLanes<T>, kDepth / kLanes<T>, kDepth, true>(block, k, call.points, value,
                                                              grad_value, depth, grad_output);
    } else {
      scatter_any(block, k, call.points, value, grad_value, depth, grad_output);
    }
  }
  finish(call, factor, groups, call.grad_offset + group * call.points * 2,
         call.grad_factor + group * call.points, block);
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
