// Positions of the points of deformable convolution v3, without a division or a float64 number.
#pragma once

#include "common/dispatch.cuh"
#include "dcnv3/dcnv3.h"

namespace bevstack {
namespace gpu {

template <typename T>
struct Dcnv3Points {
  static constexpr int kChunk = 9;  // points processed together: those of a 3x3 kernel

  int width, height;  // of the input
  int64_t stride_x, stride_y;
  int64_t start_x, start_y;    // of the kernel's centre at the first output
  int dilation_x, dilation_y;
  int center_x, center_y;
  int kernel_h;
  int left_out;                // index of the omitted point; kernel_h * kernel_w if there is none
  float inverse_kernel_h;
  T scale;

  static Dcnv3Points make(const Dcnv3Geometry& g) {
    Dcnv3Points points;
    points.width = int(g.width);
    points.height = int(g.height);
    points.stride_x = g.stride_w;
    points.stride_y = g.stride_h;
    points.center_x = int(int64_t(g.dilation_w) * (g.kernel_w - 1) / 2);
    points.center_y = int(int64_t(g.dilation_h) * (g.kernel_h - 1) / 2);
    points.start_x = int64_t(points.center_x) - g.pad_w;
    points.start_y = int64_t(points.center_y) - g.pad_h;
    points.dilation_x = g.dilation_w;
    points.dilation_y = g.dilation_h;
    points.kernel_h = g.kernel_h;
    points.left_out = g.remove_center ? (g.kernel_w / 2) * g.kernel_h + g.kernel_h / 2
                                      : g.kernel_h * g.kernel_w;
    points.inverse_kernel_h = 1.0f / float(g.kernel_h);
    points.scale = T(g.offset_scale);
    return points;
  }

  static constexpr bool kIndexed = false;  // the caller gives no image indices
  BEVSTACK_DEVICE bool known(int64_t) const { return true; }
  BEVSTACK_DEVICE void report(int64_t) const {}
  BEVSTACK_DEVICE int64_t image(int64_t of_tile, int64_t) const { return of_tile; }
  BEVSTACK_DEVICE T origin_x(int64_t x) const { return T(x * stride_x + start_x); }
  BEVSTACK_DEVICE T origin_y(int64_t y) const { return T(y * stride_y + start_y); }
  BEVSTACK_DEVICE T scale_x(int) const { return scale; }
  BEVSTACK_DEVICE T scale_y(int) const { return scale; }

  // Exact if offset, scale and origin are integers.
  BEVSTACK_DEVICE Position<T> position(T origin_x, T origin_y, int p, T offset_x,
                                            T offset_y) const {
    const int whole = p >= left_out ? p + 1 : p;
    const int column = quotient(whole, inverse_kernel_h);
    const int row = whole - column * kernel_h;
    return {origin_x + (T(column * dilation_x - center_x) + offset_x) * scale,
            origin_y + (T(row * dilation_y - center_y) + offset_y) * scale, width, height, 0};
  }
};

inline Extent extent_of(const Dcnv3Geometry& g) {
  return {g.batch,    g.out_height, g.out_width, g.groups,
          g.channels, g.points(),   g.height * g.width * g.groups * g.channels, g.softmax};
}

}  // namespace gpu
}  // namespace bevstack
