// A call of dcnv3 on the CPU without torch: the kernels, the table of points and the sizes.
#pragma once

#include <cstdint>

#include "common/memory.h"
#include "dcnv3/dcnv3.h"

#define BEVSTACK_DECLARE_FOR(T, S)                                                         \
  void dcnv3_forward(const Dcnv3Geometry&, const Sampling<T, S>&, int64_t, int64_t, T*);  \
  void dcnv3_backward(const Dcnv3Geometry&, const Sampling<T, S>&, int64_t, int64_t, T*);
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

template <typename T>
void fill_table(const Dcnv3Geometry& geometry, PointTable<T>& table) {
  const int64_t pixel = int64_t(geometry.groups) * geometry.channels;
  for (int p = 0; p < geometry.points(); ++p) {
    table.number(kGridX, p) = T(geometry.grid_x(p));
    table.number(kGridY, p) = T(geometry.grid_y(p));
    table.number(kScaleX, p) = table.number(kScaleY, p) = T(geometry.offset_scale);
    table.number(kWidth, p) = T(geometry.width);
    table.number(kHeight, p) = T(geometry.height);
    table.set_index(kLastColumn, p, geometry.width - 1);
    table.set_index(kLastLine, p, geometry.height - 1);
    table.set_index(kFirst, p, 0);
    table.set_index(kLineStep, p, geometry.width * pixel);
  }
}

template <typename T, typename S>
void set_sizes(const Dcnv3Geometry& geometry, Sampling<T, S>& call) {
  call.rows = geometry.batch * geometry.out_height * geometry.out_width;
  call.groups = geometry.groups;
  call.channels = geometry.channels;
  call.points = geometry.points();
  call.pixel_size = geometry.groups * geometry.channels;
  call.image_size = geometry.height * geometry.width * call.pixel_size;
  call.softmax = geometry.softmax;
  call.one_map = true;
}

}  // namespace bevstack
