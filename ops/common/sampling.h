// What both operators are: rows of outputs, each with groups of channels, each group a sum of
// bilinear samples of its own channels at moving points.
//
// Letters: G groups, D channels of a group, P points of a group.
#pragma once

#include <stdint.h>

namespace bevstack {

// Arrays over points are kept in records: of every array 16 entries, one array after the other,
// then the next 16 of every array. One pointer then reaches all of them.
constexpr int kRecord = 16;

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
  kFirst,     // place of the map's first pixel, in units of D channels
  kLineStep,  // from one line of the map to the next, in units of D channels
  kTableArrays
};

// Where entry k of array 0 lies; array a begins a * kRecord behind.
static inline uint64_t record_entry(uint64_t k, int arrays) {
  return k / kRecord * (arrays * kRecord) + k % kRecord;
}

// The tensors, contiguous. Those of gradients are null in the forward pass.
template <typename T>
struct Sampling {
  const T* value;   // images of (pixels, G, D)
  const T* offset;  // (rows, G, P, 2), pairs (x, y)
  const T* factor;  // (rows, G, P): masks or attention weights
  T* output;        // (rows, G, D)
  const T* grad_output;
  T* grad_value;
  T* grad_offset;
  T* grad_factor;
  int64_t rows;
  int64_t image_size;  // elements from one image of value to the next
  int groups;
  int channels;
  int points;
  bool softmax;  // normalise the factors over the points of a group first
  const T* table;  // TableArray of the points of as many groups as are computed at once
};

// Groups computed at once: enough to fill registers, few enough that what is kept of
// their points stays near.
static inline int groups_at_once(int groups, int points) {
  const int most = 256 / points;
  return most < 1 ? 1 : most < groups ? most : groups;
}

// Length of arrays over their points: whole records.
static inline int64_t padded_points(int groups, int points) {
  return (int64_t(groups_at_once(groups, points)) * points + kRecord - 1) / kRecord * kRecord;
}

// Numbers of scratch memory a thread needs, aligned to 64 bytes.
static inline int64_t scratch_size(int groups, int points) {
  return padded_points(groups, points) * (26 + 16);
}

}  // namespace bevstack
