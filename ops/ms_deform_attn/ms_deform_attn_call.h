// A call of ms_deform_attn on the CPU without torch: kernels, table of points and sizes.
#pragma once

#include <cstdint>

#include "common/memory.h"
#include "ms_deform_attn/ms_deform_attn.h"
#include "ms_deform_attn/ms_deform_attn_sizes.h"

#define BEVSTACK_DECLARE_FOR(T, S)                                                            \
  void ms_deform_attn_forward(const MsDeformAttnGeometry&, const Sampling<T, S>&, int64_t,    \
                              int64_t, const MsDeformAttnMemory<T>&);                         \
  void ms_deform_attn_backward(const MsDeformAttnGeometry&, const Sampling<T, S>&, int64_t,   \
                               int64_t, const MsDeformAttnMemory<T>&);
#define BEVSTACK_DECLARE(level)          \
  namespace level {                      \
  BEVSTACK_DECLARE_FOR(float, float)     \
  BEVSTACK_DECLARE_FOR(float, Half)      \
  BEVSTACK_DECLARE_FOR(float, BFloat16)  \
  BEVSTACK_DECLARE_FOR(double, double)   \
  }

namespace bevstack {

BEVSTACK_DECLARE(baseline)
BEVSTACK_DECLARE(avx2)
BEVSTACK_DECLARE(avx512)

#undef BEVSTACK_DECLARE
#undef BEVSTACK_DECLARE_FOR

// Fills the table of points. `shapes` holds height and width of each level; `pixel` is the distance
// between pixels of value, in numbers. Offsets to anchors are in pixels, locations without anchors
// are normalised to the map.
template <typename T>
void fill_table(const MsDeformAttnSizes& sizes, const int64_t* shapes, int64_t pixel, bool anchored,
                PointTable<T>& table) {
  int64_t k = 0, first = 0;
  for (int64_t level = 0; level < sizes.levels; ++level) {
    const int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
    for (int64_t p = 0; p < sizes.points; ++p, ++k) {
      table.number(kGridX, k) = table.number(kGridY, k) = T(-0.5);
      table.number(kWidth, k) = T(width);
      table.number(kHeight, k) = T(height);
      table.number(kScaleX, k) = anchored ? T(1) : T(width);
      table.number(kScaleY, k) = anchored ? T(1) : T(height);
      table.set_index(kLastColumn, k, width - 1);
      table.set_index(kLastLine, k, height - 1);
      table.set_index(kFirst, k, first * pixel);
      table.set_index(kLineStep, k, width * pixel);
    }
    first += height * width;
  }
}

template <typename T, typename S>
void set_sizes(const MsDeformAttnSizes& sizes, const MsDeformAttnGeometry& geometry,
               Sampling<T, S>& call) {
  call.rows = geometry.rows;
  call.groups = geometry.heads;
  call.channels = int(sizes.channels);
  call.points = int(sizes.levels * sizes.points);
  call.pixel_size = sizes.heads * sizes.channels;
  call.image_size = sizes.pixels * call.pixel_size;
  call.softmax = false;
  call.one_map = sizes.levels == 1;
}

// Makes a call one of offsets to anchors, (rows, anchors, 2), with logits in place of weights.
template <typename T, typename S>
void set_anchors(const MsDeformAttnSizes& sizes, const T* anchor, int64_t anchors, int64_t parts,
                 Sampling<T, S>& call) {
  call.softmax = true;
  call.parts = int(parts);
  call.anchor = anchor;
  call.anchors = int(anchors);
  call.map_points = int(sizes.points);
}

}  // namespace bevstack
