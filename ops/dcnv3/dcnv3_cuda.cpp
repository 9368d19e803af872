// bevstack::dcnv3 and bevstack::dcnv3_backward on a GPU. The kernels are in dcnv3_kernels.cu.
#include "dcnv3/dcnv3_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/cuda.h"
#include "dcnv3/dcnv3_checks.h"

namespace bevstack {
namespace {

at::Tensor dcnv3(const at::Tensor& input, const at::Tensor& offset, const at::Tensor& mask,
                 at::IntArrayRef kernel_size, at::IntArrayRef stride, at::IntArrayRef padding,
                 at::IntArrayRef dilation, int64_t groups, double offset_scale, bool remove_center,
                 bool softmax) {
  const Dcnv3Geometry geometry = make_geometry(
      input, {kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax});
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
  const Dcnv3Geometry geometry = make_geometry(
      input, {kernel_size, stride, padding, dilation, groups, offset_scale, remove_center, softmax});
  check_tensors(geometry, input, offset, mask);
  check_grad_output(geometry, input, grad_output);
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
