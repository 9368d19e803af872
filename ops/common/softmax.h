// The softmax over the points of each group, for one instruction set.
//
// Groups are stored one after the other, P numbers each, so groups do not start at register
// boundaries. Maxima and sums are therefore computed over the window of P numbers that starts at
// every position, in log2(P) steps; only the windows at the starts of groups are used. The result
// of a group is applied from its start in full registers; the next group overwrites the excess.
#pragma once

#include "common/sampling.h"
#include "common/simd.h"

namespace bevstack {
namespace BEVSTACK_ISA {

// Replaces numbers[k] by the maximum of numbers k to k + points - 1.
template <typename T>
BEVSTACK_INLINE void window_maxima(T* numbers, int64_t count, int points) {
  using V = Vector<T>;
  for (int covered = 1; covered < points;) {
    const int step = 2 * covered <= points ? covered : points - covered;
    for (int64_t k = 0; k < count; k += kLanes<T>) {
      const V a = load<V>(numbers + k), b = load<V>(numbers + k + step);
      store(numbers + k, a > b ? a : b);
    }
    covered += step;
  }
}

// Stores the sum of numbers k to k + points - 1 in sums[k], for points up to kBlockPoints.
// Overwrites `numbers`.
template <typename T>
BEVSTACK_INLINE void window_sums(T* numbers, T* sums, int64_t count, int points) {
  using V = Vector<T>;
  for (int64_t k = 0; k < count; k += kLanes<T>) store(sums + k, V{});
  int covered = 0;
  for (int width = 1;; width *= 2) {  // numbers[k] holds the sum of `width` numbers
    if (points & width) {
      for (int64_t k = 0; k < count; k += kLanes<T>) {
        store(sums + k, load<V>(sums + k) + load<V>(numbers + k + covered));
      }
      covered += width;
    }
    if (covered == points) return;
    for (int64_t k = 0; k < count + points; k += kLanes<T>) {
      store(numbers + k, load<V>(numbers + k) + load<V>(numbers + k + width));
    }
  }
}

// Stores to[k] = apply(from[k], of_group) for all k of each group. of_group is the entry of
// `group_numbers` at the group's start. `to` has room for one more register.
template <typename T, typename Apply>
BEVSTACK_INLINE void for_groups(const T* from, const T* group_numbers, int groups, int points,
                                T* to, Apply apply) {
  using V = Vector<T>;
  for (int64_t start = 0; start < int64_t(groups) * points; start += points) {
    const V of_group = broadcast<V>(group_numbers[start]);
    for (int64_t k = start; k < start + points; k += kLanes<T>) {
      store(to + k, apply(load<V>(from + k), of_group));
    }
  }
}

// The softmax of a single group with more than kBlockPoints points.
template <typename T>
void normalise_long(const T* logits, int points, T* factor) {
  T most = logits[0], sum = 0;
  for (int p = 1; p < points; ++p) most = logits[p] > most ? logits[p] : most;
  for (int p = 0; p < points; ++p) factor[p] = logits[p] - most;
  for (int p = 0; p < points; p += kLanes<T>) {
    store(factor + p, exp_negative<T>(load<Vector<T>>(factor + p)));
  }
  for (int p = 0; p < points; ++p) sum += factor[p];
  for (int p = 0; p < points; ++p) factor[p] /= sum;
}

template <typename T>
void denormalise_long(const T* factor, int points, T* grad) {
  T mean = 0;
  for (int p = 0; p < points; ++p) mean += factor[p] * grad[p];
  for (int p = 0; p < points; ++p) grad[p] = factor[p] * (grad[p] - mean);
}

// Computes factor = softmax of logits over the points of each group. Reads up to one register
// beyond the end of logits; the other arrays are longer than count by kBlockPoints + 32.
template <typename T>
void normalise(const T* logits, int groups, int points, T* factor, T* sums, T* window) {
  using V = Vector<T>;
  const int64_t count = int64_t(groups) * points;
  if (points > kBlockPoints) {
    for (int g = 0; g < groups; ++g) {
      normalise_long(logits + int64_t(g) * points, points, factor + int64_t(g) * points);
    }
    return;
  }
  __builtin_memcpy(sums, logits, uint64_t(count) * sizeof(T));
  window_maxima(sums, count, points);
  for_groups(logits, sums, groups, points, window, [](V x, V most) { return x - most; });
  for (int64_t k = 0; k < count; k += kLanes<T>) {
    const V power = exp_negative<T>(load<V>(window + k));
    store(window + k, power);
    store(factor + k, power);
  }
  window_sums(factor, sums, count, points);
  for (int64_t k = 0; k < count; k += kLanes<T>) store(sums + k, T(1) / load<V>(sums + k));
  for_groups(window, sums, groups, points, factor, [](V x, V inverse) { return x * inverse; });
}

// Replaces the gradient to the factors by that to the logits: factor * (grad - sum(factor * grad)).
template <typename T>
void denormalise(const T* factor, int groups, int points, T* grad, T* sums, T* window) {
  using V = Vector<T>;
  const int64_t count = int64_t(groups) * points;
  if (points > kBlockPoints) {
    for (int g = 0; g < groups; ++g) {
      denormalise_long(factor + int64_t(g) * points, points, grad + int64_t(g) * points);
    }
    return;
  }
  for (int64_t k = 0; k < count; k += kLanes<T>) {
    store(window + k, load<V>(factor + k) * load<V>(grad + k));
  }
  window_sums(window, sums, count, points);
  for_groups(grad, sums, groups, points, window, [](V x, V mean) { return x - mean; });
  for (int64_t k = 0; k < count; k += kLanes<T>) {
    store(grad + k, load<V>(factor + k) * load<V>(window + k));
  }
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
