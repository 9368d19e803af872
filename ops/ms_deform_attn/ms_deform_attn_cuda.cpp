// bevstack::ms_deform_attn and bevstack::ms_deform_attn_backward on a GPU. The kernels are in
// ms_deform_attn_kernels.cu.
#include "ms_deform_attn/ms_deform_attn_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/cuda.h"
#include "ms_deform_attn/bad_index.h"
#include "ms_deform_attn/ms_deform_attn_checks.h"

namespace bevstack {
namespace {

MsDeformAttnLevels make_levels(const MsDeformAttnSizes& sizes, at::IntArrayRef spatial_shapes) {
  TORCH_CHECK_VALUE(sizes.levels <= kMostLevels, "spatial_shapes must hold at most ", kMostLevels,
                    " levels; got ", spatial_shapes);
  TORCH_CHECK_VALUE(sizes.heads < kMostPlacesOnGpu, "value must have less than 2^30 heads; got ",
                    sizes.heads);
  MsDeformAttnLevels levels{};
  for (int64_t level = 0; level < sizes.levels; ++level) {
    levels.height[level] = int(spatial_shapes[2 * level]);
    levels.width[level] = int(spatial_shapes[2 * level + 1]);
    levels.first[level] = int(levels.pixels);
    levels.pixels += spatial_shapes[2 * level] * spatial_shapes[2 * level + 1];
  }
  levels.images = sizes.images;
  levels.rows = sizes.rows;
  levels.heads = int(sizes.heads);
  levels.channels = int(sizes.channels);
  levels.levels = int(sizes.levels);
  levels.points = int(sizes.points);
  return levels;
}

// Checks all tensors, and raises if an earlier call on this GPU found a bad index. Keeps value_index
// alive, which the kernels read by pointer.
struct Arguments {
  at::Tensor index;
  MsDeformAttnLevels levels;

  Arguments(const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights,
            const std::optional<at::Tensor>& value_index, at::IntArrayRef spatial_shapes)
      : levels(make_levels(check_arguments(value, locations, weights, value_index, spatial_shapes),
                           spatial_shapes)) {
    if (!value_index.has_value()) return;
    index = value_index->contiguous();
    // Not null even without rows: the kernels distinguish the two forms of a call by this pointer.
    levels.value_index = index.const_data_ptr<int64_t>();
    levels.bad_index = cuda::bad_index_memory(value.device().index());
    raise_if_bad();
  }

  // Never waits for the GPU: after a launch, this finds the index of an earlier one, or with
  // CUDA_LAUNCH_BLOCKING=1 that of this launch.
  void raise_if_bad() const {
    if (levels.bad_index != nullptr) cuda::raise_bad_index(levels.bad_index);
  }
};

at::Tensor ms_deform_attn(const at::Tensor& value, const at::Tensor& sampling_locations,
                          const at::Tensor& attention_weights,
                          const std::optional<at::Tensor>& value_index,
                          at::IntArrayRef spatial_shapes) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Arguments arguments(value, sampling_locations, attention_weights, value_index,
                            spatial_shapes);
  cuda::Prepared prepared(value, sampling_locations, attention_weights,
                          arguments.levels.channels, false);
  at::Tensor output =
      prepared.forward(output_shape(value, attention_weights), value.scalar_type(),
                       [&](const Tensors& tensors, const Queue& queue) {
                         launch_ms_deform_attn(arguments.levels, tensors, queue);
                       });
  arguments.raise_if_bad();
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ms_deform_attn_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights, const std::optional<at::Tensor>& value_index,
    at::IntArrayRef spatial_shapes) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Arguments arguments(value, sampling_locations, attention_weights, value_index,
                            spatial_shapes);
  const MsDeformAttnLevels& levels = arguments.levels;
  check_tensor("grad_output", grad_output, value, output_shape(value, attention_weights));
  cuda::Prepared prepared(value, sampling_locations, attention_weights, levels.channels,
                          cuda::deterministic());
  auto gradients = prepared.backward(
      grad_output,
      {value.scalar_type(), sampling_locations.scalar_type(), attention_weights.scalar_type()},
      [&](const Tensors& tensors, const Queue& queue) {
        launch_ms_deform_attn_backward(levels, tensors, queue);
      },
      [&](const Tensors& tensors, const FixedPoint& fixed, const Queue& queue) {
        launch_ms_deform_attn_bound(levels, tensors, fixed, queue);
      },
      [&](const Tensors& tensors, const FixedPoint& fixed, const Queue& queue) {
        launch_ms_deform_attn_deterministic(levels, tensors, fixed, queue);
      });
  arguments.raise_if_bad();
  return gradients;
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CUDA, m) {
  m.impl("ms_deform_attn", bevstack::ms_deform_attn);
  m.impl("ms_deform_attn_backward", bevstack::ms_deform_attn_backward);
}
