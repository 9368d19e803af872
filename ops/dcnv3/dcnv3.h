// Deformable convolution v3: the geometry of a call and the positions of its points.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define BEVSTACK_HOST_DEVICE __host__ __device__
#else
#define BEVSTACK_HOST_DEVICE
#endif

namespace bevstack {

struct Dcnv3Geometry {
  int64_t batch, height, width;   // of the input
  int64_t out_height, out_width;  // of the output
  int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int groups, channels;  // channels of a group
  double offset_scale;
  bool remove_center, softmax;

  BEVSTACK_HOST_DEVICE int points() const { return kernel_h * kernel_w - int(remove_center); }

  // Kernel column and row of point p. The column is the outer index, the row the inner one; the
  // centre is omitted with remove_center.
  BEVSTACK_HOST_DEVICE int column(int p) const { return whole(p) / kernel_h; }
  BEVSTACK_HOST_DEVICE int row(int p) const { return whole(p) % kernel_h; }

  // Position of point p of output (0, 0) without offset.
  BEVSTACK_HOST_DEVICE double grid_x(int p) const {
    return place(column(p), kernel_w, pad_w, dilation_w);
  }
  BEVSTACK_HOST_DEVICE double grid_y(int p) const {
    return place(row(p), kernel_h, pad_h, dilation_h);
  }

 private:
  BEVSTACK_HOST_DEVICE int whole(int p) const {
    const int center = (kernel_w / 2) * kernel_h + kernel_h / 2;
    return remove_center && p >= center ? p + 1 : p;
  }
  BEVSTACK_HOST_DEVICE double place(int step, int kernel, int pad, int dilation) const {
    const int center = dilation * (kernel - 1) / 2;
    return center - pad + (step * dilation - center) * offset_scale;
  }
};

}  // namespace bevstack
