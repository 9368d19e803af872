// bevstack::dcnv3 and bevstack::dcnv3_backward on a GPU. The kernels are in dcnv3_kernels.cu.
#include "dcnv3/dcnv3_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/cuda.h"

namespace bevstack {
namespace {

constexpr int64_t kMostPlaces = int64_t(1) << 30;  // kernels count them in 32 bits, one for a flag
constexpr int64_t kMostPoints = int64_t(1) << 20;

// Where arguments come from anyone who calls the operator, not from bevstack.ops alone.
void check_pair(const char* name, at::IntArrayRef pair, int64_t least) {
  TORCH_CHECK_VALUE(pair.size() == 2 && pair[0] >= least && pair[1] >= least &&
                        pair[0] < kMostPoints && pair[1] < kMostPoints,
                    name, " must be a pair (height, width) of at least ", least, "; got ", pair);
}

Dcnv3Geometry make_geometry(const at::Tensor& input, at::IntArrayRef kernel_size,
                            at::IntArrayRef stride, at::IntArrayRef padding,
                            at::IntArrayRef dilation, int64_t groups, double offset_scale,
                            bool remove_center, bool softmax) {
  check_pair("kernel_size", kernel_size, 1);
  check_pair("stride", stride, 1);
  check_pair("padding", padding, 0);
  check_pair("dilation", dilation, 1);
  TORCH_CHECK_VALUE(input.dim() == 4, "input must have shape (B, H, W, C); got ", input.sizes());
  TORCH_CHECK_VALUE(groups >= 1 && input.size(3) % groups == 0,
                    "input must have a multiple of groups=", groups, " channels; got ",
                    input.size(3));
  TORCH_CHECK_VALUE(groups < kMostPlaces && input.size(3) < kMostPlaces &&
                        input.size(1) < kMostPlaces && input.size(2) < kMostPlaces &&
                        input.size(1) * input.size(2) < kMostPlaces / groups,
                    "input must have less than 2^30 pixels times groups in an image; got ",
                    input.sizes());
  const auto outputs = [&](int axis) {
    const int64_t room =
        input.size(1 + axis) + 2 * padding[axis] - dilation[axis] * (kernel_size[axis] - 1) - 1;
    return room < 0 ? 0 : room / stride[axis] + 1;
  };
  Dcnv3Geometry geometry{};
  geometry.batch = input.size(0);
  geometry.height = input.size(1);
  geometry.width = input.size(2);
  geometry.out_height = outputs(0);
  geometry.out_width = outputs(1);
  geometry.kernel_h = int(kernel_size[0]), geometry.kernel_w = int(kernel_size[1]);
  geometry.stride_h = int(stride[0]), geometry.stride_w = int(stride[1]);
  geometry.pad_h = int(padding[0]), geometry.pad_w = int(padding[1]);
  geometry.dilation_h = int(dilation[0]), geometry.dilation_w = int(dilation[1]);
  geometry.groups = int(groups);
  geometry.channels = int(input.size(3) / groups);
  geometry.offset_scale = offset_scale;
  geometry.remove_center = remove_center;
  geometry.softmax = softmax;
  TORCH_CHECK_VALUE(geometry.out_height >= 1 && geometry.out_width >= 1,
                    "input must be at least as large as the dilated kernel once padded; got ",
                    input.sizes());
  const int64_t points = kernel_size[0] * kernel_size[1] - int64_t(remove_center);
  TORCH_CHECK_VALUE(points >= 1 && points < kMostPoints,
                    "kernel_size must leave 1 to 2^20 - 1 points; got ", kernel_size);
  return geometry;
}

void check_tensors(const Dcnv3Geometry& geometry, const at::Tensor& input,
                   const at::Tensor& offset, const at::Tensor& mask) {
  const int64_t points = int64_t(geometry.groups) * geometry.points();
  const int64_t height = geometry.out_height, width = geometry.out_width;
  cuda::check_tensor("input", input, input, input.sizes());
  cuda::check_tensor("offset", offset, input, {geometry.batch, height, width, points * 2});
  cuda::check_tensor("mask", mask, input, {geometry.batch, height, width, points});
}

at::Tensor dcnv3(const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
                 at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, int64_t groups, double offset_scale, bool remove_center,
                 bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(input, kernel_size, stride, padding, dilation,
                                               groups, offset_scale, remove_center, softmax);
  check_tensors(geometry, input, offset, mask);
  const c10::cuda::CUDAGuard guard(input.device());
  cuda::Prepared prepared(input, offset, mask, geometry.channels, false);
  return prepared.forward({geometry.batch, geometry.out_height, geometry.out_width, input.size(3)},
                          input.scalar_type(), [&](const Tensors& tensors, const Queue& queue) {
                            launch_dcnv3(geometry, tensors, queue);
                          });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> dcnv3_backward(
    const at::Tensor& grad_output, const at::Tensor& input, const at::Tensor& offset,
    const at::Tensor& mask, at::IntArrayRef kernel_size, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups, double offset_scale,
    bool remove_center, bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(input, kernel_size, stride, padding, dilation,
                                               groups, offset_scale, remove_center, softmax);
  check_tensors(geometry, input, offset, mask);
  cuda::check_tensor(
      "grad_output", grad_output, input,
      {geometry.batch, geometry.out_height, geometry.out_width, input.size(3)});
  const c10::cuda::CUDAGuard guard(input.device());
  cuda::Prepared prepared(input, offset, mask, geometry.channels, cuda::deterministic());
  return prepared.backward(
      grad_output, {input.scalar_type(), offset.scalar_type(), mask.scalar_type()},
      [&](const Tensors& tensors, const Queue& queue) {
        launch_dcnv3_backward(geometry, tensors, queue);
      },
      [&](const Tensors& tensors, const FixedPoint& fixed, const Queue& queue) {
        launch_dcnv3_bound(geometry, tensors, fixed, queue);
      },
      [&](const Tensors& tensors, const FixedPoint& fixed, const Queue& queue) {
        launch_dcnv3_deterministic(geometry, tensors, fixed, queue);
      });
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CUDA, m) {
  m.impl("dcnv3", bevstack::dcnv3);
  m.impl("dcnv3_backward", bevstack::dcnv3_backward);
}
