// Checks the arguments of a dcnv3 call on any device and computes its geometry.
#pragma once

#include "common/checks.h"
#include "dcnv3/dcnv3.h"

namespace bevstack {

struct Dcnv3Options {
  at::IntArrayRef kernel_size, stride, padding, dilation;
  int64_t groups;
  double offset_scale;
  bool remove_center, softmax;
};

inline void check_pair(const char* name, at::IntArrayRef pair, int64_t least) {
  TORCH_CHECK_VALUE(pair.size() == 2 && pair[0] >= least && pair[1] >= least &&
                        pair[0] < kMostPoints && pair[1] < kMostPoints,
                    name, " must be a pair (height, width) of at least ", least, "; got ", pair);
}

inline Dcnv3Geometry make_geometry(const at::Tensor& input, const Dcnv3Options& options) {
  check_pair("kernel_size", options.kernel_size, 1);
  check_pair("stride", options.stride, 1);
  check_pair("padding", options.padding, 0);
  check_pair("dilation", options.dilation, 1);
  TORCH_CHECK_VALUE(input.dim() == 4, "input must have shape (B, H, W, C); got ", input.sizes());
  const int64_t groups = options.groups, channels = input.size(3);
  TORCH_CHECK_VALUE(groups >= 1 && groups < kMostPlacesOnGpu && channels % groups == 0,
                    "input must have a multiple of groups=", groups, " channels; got ", channels);
  check_image_size("input", input,
                   capped_product(capped_product(input.size(1), input.size(2)), groups),
                   channels / groups);
  const auto outputs = [&](int axis) {
    const int64_t room = input.size(1 + axis) + 2 * options.padding[axis] -
                         options.dilation[axis] * (options.kernel_size[axis] - 1) - 1;
    return room < 0 ? 0 : room / options.stride[axis] + 1;
  };
  Dcnv3Geometry geometry{};
  geometry.batch = input.size(0);
  geometry.height = input.size(1);
  geometry.width = input.size(2);
  geometry.out_height = outputs(0);
  geometry.out_width = outputs(1);
  geometry.kernel_h = int(options.kernel_size[0]), geometry.kernel_w = int(options.kernel_size[1]);
  geometry.stride_h = int(options.stride[0]), geometry.stride_w = int(options.stride[1]);
  geometry.pad_h = int(options.padding[0]), geometry.pad_w = int(options.padding[1]);
  geometry.dilation_h = int(options.dilation[0]), geometry.dilation_w = int(options.dilation[1]);
  geometry.groups = int(groups);
  geometry.channels = int(channels / groups);
  geometry.offset_scale = options.offset_scale;
  geometry.remove_center = options.remove_center;
  geometry.softmax = options.softmax;
  TORCH_CHECK_VALUE(geometry.out_height >= 1 && geometry.out_width >= 1,
                    "input must be at least as large as the dilated kernel after padding; got ",
                    input.sizes());
  const int64_t points =
      options.kernel_size[0] * options.kernel_size[1] - int64_t(options.remove_center);
  TORCH_CHECK_VALUE(points >= 1 && points < kMostPoints,
                    "kernel_size must leave 1 to 2^20 - 1 points; got ", options.kernel_size);
  return geometry;
}

inline void check_tensors(const Dcnv3Geometry& geometry, const at::Tensor& input,
                          const at::Tensor& offset, const at::Tensor& mask) {
  const int64_t points = int64_t(geometry.groups) * geometry.points();
  const int64_t height = geometry.out_height, width = geometry.out_width;
  check_tensor("input", input, input, input.sizes());
  check_tensor("offset", offset, input, {geometry.batch, height, width, points * 2});
  check_tensor("mask", mask, input, {geometry.batch, height, width, points});
}

inline void check_grad_output(const Dcnv3Geometry& geometry, const at::Tensor& input,
                              const at::Tensor& grad_output) {
  check_tensor("grad_output", grad_output, input,
               {geometry.batch, geometry.out_height, geometry.out_width, input.size(3)});
}

}  // namespace bevstack
