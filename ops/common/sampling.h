// What both operators are: rows of outputs, each with groups of channels, each group a sum of
// bilinear samples of its own channels at moving points.
//
// Letters: G groups, D channels of a group, P points of a group.
#pragma once

#include <stdint.h>

namespace bevstack {

// Numbers that are stored in 16 bits; arithmetic is done in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// How an array over points is stored.
enum class Storage : int { computing, half, bfloat16 };  // computing: in the type T of arithmetic

// Points that are computed at once, at most, unless a single group has more: enough to fill
// registers, few enough that what is kept of them stays in the first-level cache.
constexpr int kBlockPoints = 144;

// Arrays over points are kept in records: of every array kRecord entries, one array after the
// other, then the next ones of every array. One pointer then reaches all of them, at distances
// known when compiling. No power of two, or all arrays would compete for the same lines of the
// cache.
constexpr int kRecord = kBlockPoints + 16;

// What there is to know of a point beforehand. The arrays of integers hold the bits of an integer
// of the size of T.
enum TableArray {
  kGridX,   // where it lies without offset; a position is start + grid + offset * scale
  kGridY,
  kScaleX,
  kScaleY,
  kWidth,   // of the map it reads, in pixels
  kHeight,
  kLastColumn,  // integers from here on
  kLastLine,
  kFirst,     // place of the map's first pixel in an image of value, in numbers
  kLineStep,  // from one line of the map to the next
  kTableArrays
};

// Where entry k of array 0 lies; array a begins a * kRecord behind.
static inline uint64_t record_entry(uint64_t k, int arrays) {
  return k / kRecord * (arrays * kRecord) + k % kRecord;
}

// Numbers that `count` entries of `arrays` arrays take.
static inline int64_t record_size(int64_t count, int arrays) {
  return (count + kRecord - 1) / kRecord * (int64_t(arrays) * kRecord);
}

// The tensors, contiguous; values are stored in S. Those of gradients are null in the forward pass.
template <typename T, typename S = T>
struct Sampling {
  using Number = T;
  const S* value;        // images of (pixels, G, D)
  const void* offset;    // (rows, G, P, 2), pairs (x, y), in offset_storage
  const void* factor;    // (rows, G, P): masks or attention weights, in factor_storage
  S* output;             // (rows, G, D)
  const S* grad_output;
  T* grad_value;         // zeros; not in S, whose sums would lose most of their digits
  void* grad_offset;     // in offset_storage
  void* grad_factor;     // in factor_storage
  int64_t rows;
  int64_t image_size;  // numbers from one image of value to the next, less than 2^32
  int64_t pixel_size;  // and from one pixel to the next
  int first_group;     // of those that value and grad_value hold
  int groups;
  int channels;
  int points;
  Storage offset_storage;
  Storage factor_storage;
  bool softmax;    // normalise the factors over the points of a group first
  bool one_map;    // all points read the same map: all but kGridX and kGridY is alike in the table
  const T* table;  // TableArray of the points of as many groups as are computed at once
};

static inline int groups_at_once(int groups, int points) {
  const int most = kBlockPoints / points;
  return most < 1 ? 1 : most < groups ? most : groups;
}

// Length of arrays over the points of a block: whole registers of any width.
static inline int64_t padded_points(int groups, int points) {
  return (int64_t(groups_at_once(groups, points)) * points + 15) / 16 * 16;
}

// Parts of a thread's scratch memory, in numbers from its beginning; see Block.
struct ScratchPlan {
  int64_t weights, products, factor, sums, window, offset, grad_offset, grad_factor, size;
};

// What is kept of each point of a block.
enum BlockArray {
  kPlace,  // of the corner (y0, x0) in an image of value, in numbers; all ones where there is none
  kStepX,  // from there to x1, and to y1; the first three hold unsigned integers
  kStepY,
  // For the gradients:
  kLeft,   // weight of x0, above 0; 0 where it lies outside the map
  kRight,  // weight of x1, possibly 0; -1 where it lies outside
  kTop,    // likewise of y0 and y1
  kBottom,
  kValidFactor,
  kBlockArrays
};

static inline ScratchPlan scratch_plan(int groups, int points) {
  const int64_t padded = padded_points(groups, points);
  const int64_t length = padded + kBlockPoints + 32;  // with what window sums read behind the end
  ScratchPlan plan;
  plan.weights = record_size(padded, kBlockArrays);
  plan.products = plan.weights + 4 * padded;
  plan.factor = plan.products + 4 * padded;
  plan.sums = plan.factor + length;
  plan.window = plan.sums + length;
  plan.offset = plan.window + length;
  plan.grad_offset = plan.offset + 2 * length;
  plan.grad_factor = plan.grad_offset + 2 * length;
  plan.size = plan.grad_factor + length;
  return plan;
}

}  // namespace bevstack
