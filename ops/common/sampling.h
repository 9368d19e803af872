// The computation that both operators share. An output row has groups of channels. Each group is a
// weighted sum of bilinear samples, at the group's points, of the same group's channels of value.
//
// Letters: G groups, D channels of a group, P points of a group.
#pragma once

#include <stdint.h>

namespace bevstack {

// Numbers stored in 16 bits; the arithmetic is in float.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Storage type of an array over points.
enum class Storage : int { computing, half, bfloat16 };  // computing: the type T of the arithmetic

// Maximum number of points computed at once, unless a single group has more. It is large enough to
// fill registers and small enough that the points' data stays in the first-level cache.
constexpr int kBlockPoints = 144;

// Arrays over points are stored in records. A record holds kRecord entries of each array, one array
// after the other; then the next record follows. One pointer then reaches all arrays at offsets
// known at compile time. kRecord is not a power of two, else all arrays would compete for the same
// cache lines.
constexpr int kRecord = kBlockPoints + 16;

// Constant data of a point, the same for all outputs. The integer arrays hold the bits of an
// integer with the size of T.
enum TableArray {
  kGridX,   // position without offset; a position is start + grid + offset * scale
  kGridY,
  kScaleX,
  kScaleY,
  kWidth,   // of the map that the point samples, in pixels
  kHeight,
  kLastColumn,  // integers from here on
  kLastLine,
  kFirst,     // index of the map's first pixel in an image of value, in numbers
  kLineStep,  // numbers from one line of the map to the next
  kTableArrays
};

// Index of entry k of array 0; array a follows a * kRecord later.
static inline uint64_t record_entry(uint64_t k, int arrays) {
  return k / kRecord * (arrays * kRecord) + k % kRecord;
}

// Returns the size, in numbers, of `count` entries of `arrays` arrays.
static inline int64_t record_size(int64_t count, int arrays) {
  return (count + kRecord - 1) / kRecord * (int64_t(arrays) * kRecord);
}

// The contiguous tensors of a call; values are stored in S. The gradients are null in the forward
// pass.
template <typename T, typename S = T>
struct Sampling {
  using Number = T;
  const S* value;        // images of (pixels, G, D)
  const void* offset;    // (rows, G, P, 2), pairs (x, y), in offset_storage
  const void* factor;    // (rows, G, P): masks or attention weights, in factor_storage
  S* output;             // (rows, G, D)
  const S* grad_output;
  T* grad_value;         // zeros; not in S, in which sums would lose most of their digits
  void* grad_offset;     // in offset_storage
  void* grad_factor;     // in factor_storage
  int64_t rows;
  int64_t image_size;  // numbers from one image of value to the next, less than 2^32
  int64_t pixel_size;  // numbers from one pixel of value to the next
  int first_group;     // first group that value and grad_value hold
  int groups;
  int channels;
  int points;
  Storage offset_storage;
  Storage factor_storage;
  bool softmax;    // normalise the factors over the points of a group first
  int parts;       // of a group's points, which the softmax normalises to 1 / parts each; 0: one
  const T* anchor;   // (rows, anchors, 2), normalised to each map, added to the offsets; may be null
  int anchors;       // point p of a map adds anchor p % anchors
  int map_points;    // points of a group in each map, with anchors
  bool one_map;    // all points sample one map: in the table only kGridX and kGridY differ
  const T* table;  // TableArray of the points of groups_at_once groups
};

static inline int groups_at_once(int groups, int points) {
  const int most = kBlockPoints / points;
  return most < 1 ? 1 : most < groups ? most : groups;
}

// Length of arrays over the points of a block: a multiple of every register width.
static inline int64_t padded_points(int groups, int points) {
  return (int64_t(groups_at_once(groups, points)) * points + 15) / 16 * 16;
}

// Offsets, in numbers, of the parts of a thread's scratch memory; see Block.
struct ScratchPlan {
  int64_t weights, products, factor, sums, window, offset, grad_offset, grad_factor, anchor, size;
};

// Data of each point of a block. The first three arrays hold unsigned integers.
enum BlockArray {
  kPlace,  // index of corner (y0, x0) in an image of value, in numbers; all ones: invalid point
  kStepX,  // numbers from there to x1
  kStepY,  // numbers from there to y1
  // For the gradients:
  kLeft,   // weight of x0, above 0; 0 if x0 is outside the map
  kRight,  // weight of x1, 0 or more; -1 if x1 is outside the map
  kTop,    // the same for y0 and y1
  kBottom,
  kValidFactor,
  kBlockArrays
};

static inline ScratchPlan scratch_plan(int groups, int points) {
  const int64_t padded = padded_points(groups, points);
  const int64_t length = padded + kBlockPoints + 32;  // window sums read beyond the end
  ScratchPlan plan;
  plan.weights = record_size(padded, kBlockArrays);
  plan.products = plan.weights + 4 * padded;
  plan.factor = plan.products + 4 * padded;
  plan.sums = plan.factor + length;
  plan.window = plan.sums + length;
  plan.offset = plan.window + length;
  plan.grad_offset = plan.offset + 2 * length;
  plan.grad_factor = plan.grad_offset + 2 * length;
  plan.anchor = plan.grad_factor + length;
  plan.size = plan.anchor + 2 * length;
  return plan;
}

}  // namespace bevstack
