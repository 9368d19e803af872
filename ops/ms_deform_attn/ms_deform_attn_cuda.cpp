// bevstack::ms_deform_attn and bevstack::ms_deform_attn_backward on a GPU. The kernels are in
// ms_deform_attn_kernels.cu.
#include "ms_deform_attn/ms_deform_attn_cuda.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "common/cuda.h"

namespace bevstack {
namespace {

constexpr int64_t kMostPlaces = int64_t(1) << 30;  // kernels count them in 32 bits, one for a flag
constexpr int64_t kMostPoints = int64_t(1) << 20;

MsDeformAttnLevels make_levels(const at::Tensor& value, const at::Tensor& weights, bool packed,
                               at::IntArrayRef spatial_shapes) {
  TORCH_CHECK_VALUE(value.dim() == 4, "value must have shape (B, S, H, D); got ", value.sizes());
  TORCH_CHECK_VALUE(weights.dim() == (packed ? 4 : 5), "attention_weights must have ",
                    packed ? 4 : 5, " axes; got ", weights.sizes());
  TORCH_CHECK_VALUE(!spatial_shapes.empty() && spatial_shapes.size() % 2 == 0 &&
                        spatial_shapes.size() <= 2 * kMostLevels,
                    "spatial_shapes must hold a height and a width for each of 1 to ", kMostLevels,
                    " levels; got ", spatial_shapes);
  TORCH_CHECK_VALUE(value.size(2) < kMostPlaces && value.size(3) < kMostPlaces,
                    "value must have less than 2^30 heads and channels; got ", value.sizes());
  MsDeformAttnLevels levels{};
  for (size_t level = 0; level < spatial_shapes.size() / 2; ++level) {
    const int64_t height = spatial_shapes[2 * level], width = spatial_shapes[2 * level + 1];
    TORCH_CHECK_VALUE(height > 0 && width > 0 && height < kMostPlaces && width < kMostPlaces,
                      "spatial_shapes must be positive and below 2^30; got ", spatial_shapes);
    levels.height[level] = int(height);
    levels.width[level] = int(width);
    levels.first[level] = int(levels.pixels);
    levels.pixels += height * width;
    TORCH_CHECK_VALUE(
        levels.pixels < kMostPlaces / std::max<int64_t>(value.size(2), 1),
        "value must have less than 2^30 pixels times heads in an image; got spatial_shapes ",
        spatial_shapes, " and ", value.size(2), " heads");
  }
  levels.images = value.size(0);
  levels.rows = packed ? weights.size(0) : weights.size(1);
  levels.heads = int(value.size(2));
  levels.channels = int(value.size(3));
  levels.levels = int(spatial_shapes.size() / 2);
  const int64_t points = weights.size(-1);
  TORCH_CHECK_VALUE(points * levels.levels < kMostPoints,
                    "attention_weights must have less than 2^20 samples of a query and head; got ",
                    weights.sizes());
  levels.points = int(points);
  return levels;
}

// Checks all tensors and keeps those that the kernels read by pointer.
struct Arguments {
  at::Tensor index;
  MsDeformAttnLevels levels;

  Arguments(const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights,
            const std::optional<at::Tensor>& value_index, at::IntArrayRef spatial_shapes)
      : levels(make_levels(value, weights, value_index.has_value(), spatial_shapes)) {
    cuda::check_tensor("value", value, value,
                       {value.size(0), levels.pixels, value.size(2), value.size(3)});
    std::vector<int64_t> shape = {levels.rows, levels.heads, levels.levels, levels.points};
    if (!value_index.has_value()) shape.insert(shape.begin(), value.size(0));
    cuda::check_tensor("attention_weights", weights, value, shape);
    shape.push_back(2);
    cuda::check_tensor("sampling_locations", locations, value, shape);
    if (!value_index.has_value()) return;
    TORCH_CHECK_TYPE(value_index->scalar_type() == at::kLong, "value_index must be int64; got ",
                     value_index->scalar_type());
    TORCH_CHECK_VALUE(value_index->sizes() == at::IntArrayRef({levels.rows}),
                      "value_index must have shape ", at::IntArrayRef({levels.rows}), "; got ",
                      value_index->sizes());
    TORCH_CHECK_VALUE(value_index->device() == value.device(), "value_index must be on ",
                      value.device(), "; got ", value_index->device());
    index = value_index->contiguous();
    // Not null where there are no rows either: the kernels tell the two forms apart by it.
    levels.value_index = index.const_data_ptr<int64_t>();
  }
};

std::vector<int64_t> output_shape(const at::Tensor& value, const at::Tensor& weights) {
  std::vector<int64_t> shape = weights.sizes().vec();
  shape.resize(shape.size() - 3);
  shape.push_back(value.size(2) * value.size(3));
  return shape;
}

at::Tensor ms_deform_attn(const at::Tensor& value, const at::Tensor& sampling_locations,
                          const at::Tensor& attention_weights,
                          const std::optional<at::Tensor>& value_index,
                          at::IntArrayRef spatial_shapes) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Arguments arguments(value, sampling_locations, attention_weights, value_index,
                            spatial_shapes);
  cuda::Prepared prepared(value, sampling_locations, attention_weights,
                          arguments.levels.channels, false);
  return prepared.forward(output_shape(value, attention_weights), value.scalar_type(),
                          [&](const Tensors& tensors, const Queue& queue) {
                            launch_ms_deform_attn(arguments.levels, tensors, queue);
                          });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> ms_deform_attn_backward(
    const at::Tensor& grad_output, const at::Tensor& value, const at::Tensor& sampling_locations,
    const at::Tensor& attention_weights, const std::optional<at::Tensor>& value_index,
    at::IntArrayRef spatial_shapes) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Arguments arguments(value, sampling_locations, attention_weights, value_index,
                            spatial_shapes);
  const MsDeformAttnLevels& levels = arguments.levels;
  cuda::check_tensor("grad_output", grad_output, value, output_shape(value, attention_weights));
  cuda::Prepared prepared(value, sampling_locations, attention_weights, levels.channels,
                          cuda::deterministic());
  return prepared.backward(
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
}

}  // namespace
}  // namespace bevstack

TORCH_LIBRARY_IMPL(bevstack, CUDA, m) {
  m.impl("ms_deform_attn", bevstack::ms_deform_attn);
  m.impl("ms_deform_attn_backward", bevstack::ms_deform_attn_backward);
}
