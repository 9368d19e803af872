// bevstack::roi_align and bevstack::roi_align_backward on a GPU. The kernels are in
// roi_align_kernels.cu.
#include "roi_align/roi_align_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/cuda.h"
#include "roi_align/roi_align_checks.h"

namespace bevstack {
namespace {

// Half types are computed in float32.
at::ScalarType computing_of(const at::Tensor& maps, const at::Tensor& rois) {
  const bool wide = maps.scalar_type() == at::kDouble || rois.scalar_type() == at::kDouble;
  return wide ? at::kDouble : at::kFloat;
}

at::Tensor roi_align(const at::Tensor& maps, const at::Tensor& rois, at::IntArrayRef output_size,
                     double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiAlignShape shape = check_roi_align(maps, rois, output_size, sampling_ratio, aligned);
  const c10::cuda::CUDAGuard guard(maps.device());
  const at::ScalarType computing = computing_of(maps, rois);
  at::Tensor output = at::zeros({shape.rois, shape.channels, shape.bin_rows, shape.bin_columns},
                                maps.options().dtype(computing));
  if (shape.height == 0 || shape.width == 0) return output.to(maps.scalar_type());
  const RoiBoxes boxes(rois, computing, spatial_scale, aligned);
  const at::Tensor prepared = cuda::prepare(maps, computing);
  RoiAlignTensors tensors{};
  tensors.type = cuda::number_type(computing);
  tensors.image = boxes.image.const_data_ptr<int64_t>();
  tensors.sides = boxes.sides.const_data_ptr();
  tensors.maps = prepared.const_data_ptr();
  tensors.output = output.mutable_data_ptr();
  launch_roi_align(shape, tensors, cuda::current_queue());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output.to(maps.scalar_type());
}

at::Tensor roi_align_backward(const at::Tensor& grad_output, const at::Tensor& maps,
                              const at::Tensor& rois, at::IntArrayRef output_size,
                              double spatial_scale, int64_t sampling_ratio, bool aligned) {
  const RoiAlignShape shape = check_roi_align(maps, rois, output_size, sampling_ratio, aligned);
  check_roi_gradient(grad_output, maps, shape);
  const c10::cuda::CUDAGuard guard(maps.device());
  const at::ScalarType computing = computing_of(maps, rois);
  at::Tensor grad_maps = at::zeros(maps.sizes(), maps.options().dtype(computing));
  if (grad_maps.numel() == 0) return grad_maps.to(maps.scalar_type());
  const RoiBoxes boxes(rois, computing, spatial_scale, aligned);
  const at::Tensor grad = cuda::prepare(grad_output, computing);
  RoiAlignTensors tensors{};
  tensors.type = cuda::number_type(computing);
  tensors.image = boxes.image.const_data_ptr<int64_t>();
  tensors.sides = boxes.sides.const_data_ptr();
  tensors.grad_output = grad.const_data_ptr();
  tensors.grad_maps = grad_maps.mutable_data_ptr();
  const auto launch = cuda::deterministic() ? launch_roi_align_ordered : launch_roi_align_backward;
  launch(shape, tensors, cuda::current_queue());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_maps.to(maps.scalar_type());
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CUDA, m) {
  m.impl("roi_align", bevstack::roi_align);
  m.impl("roi_align_backward", bevstack::roi_align_backward);
}
