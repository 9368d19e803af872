// What both operators are: rows of outputs, each with groups of channels, each group a sum of
// bilinear samples of its own channels at moving points.
//
// Letters: G groups, D channels of a group, P points of a group.
#pragma once

#include <stdint.h>

namespace bevstack {

// The points of as many groups as are computed at once, point by point: where they lie without
// offset, and which map they read. A position in pixels is start + grid + offset * scale.
template <typename T, typename I>
struct PointTable {
  const T* grid_x;
  const T* grid_y;
  const T* scale_x;
  const T* scale_y;
  const T* width;  // of the map, in pixels
  const T* height;
  const I* last_column;
  const I* last_line;
  const I* first;      // place of the map's first pixel, in units of D channels
  const I* line_step;  // from one line of the map to the next, in units of D channels
};

// The tensors, contiguous. Those of gradients are null in the forward pass.
template <typename T, typename I>
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
  PointTable<T, I> table;
};

// Groups computed at once: enough to fill registers, few enough that what is kept of
// their points stays near.
static inline int groups_at_once(int groups, int points) {
  const int most = 256 / points;
  return most < 1 ? 1 : most < groups ? most : groups;
}

// Length of the arrays of a PointTable: whole registers, of at most 16 lanes.
static inline int64_t padded_points(int groups, int points) {
  return (int64_t(groups_at_once(groups, points)) * points + 15) / 16 * 16;
}

// Numbers of scratch memory a thread needs, aligned to 64 bytes.
static inline int64_t scratch_size(int groups, int points) {
  return padded_points(groups, points) * (26 + 16);
}

}  // namespace bevstack
