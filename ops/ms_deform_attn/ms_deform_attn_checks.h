// Checks the arguments of an ms_deform_attn call on any device and computes its sizes.
#pragma once

#include <optional>
#include <vector>

#include "common/checks.h"
#include "ms_deform_attn/ms_deform_attn_sizes.h"

namespace bevstack {

inline int64_t count_pixels(at::IntArrayRef spatial_shapes) {
  TORCH_CHECK_VALUE(!spatial_shapes.empty() && spatial_shapes.size() % 2 == 0,
                    "spatial_shapes must hold a height and a width for each level; got ",
                    spatial_shapes);
  int64_t pixels = 0;
  for (size_t level = 0; level < spatial_shapes.size(); level += 2) {
    const int64_t height = spatial_shapes[level], width = spatial_shapes[level + 1];
    TORCH_CHECK_VALUE(height > 0 && width > 0 && height < kMostPlacesOnGpu &&
                          width < kMostPlacesOnGpu,
                      "spatial_shapes must be positive and below 2^30; got ", spatial_shapes);
    pixels += height * width;
  }
  return pixels;
}

// Checks shapes, types and devices, but not the numbers in value_index.
inline MsDeformAttnSizes check_arguments(const at::Tensor& value, const at::Tensor& locations,
                                         const at::Tensor& weights,
                                         const std::optional<at::Tensor>& value_index,
                                         at::IntArrayRef spatial_shapes) {
  const bool packed = value_index.has_value();
  TORCH_CHECK_VALUE(value.dim() == 4, "value must have shape (B, S, H, D); got ", value.sizes());
  TORCH_CHECK_VALUE(weights.dim() == (packed ? 4 : 5), "attention_weights must have ",
                    packed ? 4 : 5, " axes; got ", weights.sizes());
  MsDeformAttnSizes sizes{};
  sizes.images = value.size(0);
  sizes.rows = packed ? weights.size(0) : weights.size(1);
  sizes.heads = value.size(2);
  sizes.channels = value.size(3);
  sizes.levels = int64_t(spatial_shapes.size()) / 2;
  sizes.points = weights.size(-1);
  sizes.pixels = count_pixels(spatial_shapes);
  check_image_size("value", value, capped_product(sizes.pixels, sizes.heads), sizes.channels);
  TORCH_CHECK_VALUE(capped_product(sizes.points, sizes.levels) < kMostPoints,
                    "attention_weights must have less than 2^20 samples of a query and head; got ",
                    weights.sizes());
  check_tensor("value", value, value, {sizes.images, sizes.pixels, sizes.heads, sizes.channels});
  std::vector<int64_t> shape = {sizes.rows, sizes.heads, sizes.levels, sizes.points};
  if (!packed) shape.insert(shape.begin(), sizes.images);
  check_tensor("attention_weights", weights, value, shape);
  shape.push_back(2);
  check_tensor("sampling_locations", locations, value, shape);
  if (packed) {
    TORCH_CHECK_TYPE(value_index->scalar_type() == at::kLong, "value_index must be int64; got ",
                     value_index->scalar_type());
    TORCH_CHECK_VALUE(value_index->sizes() == at::IntArrayRef({sizes.rows}),
                      "value_index must have shape ", at::IntArrayRef({sizes.rows}), "; got ",
                      value_index->sizes());
    TORCH_CHECK_VALUE(value_index->device() == value.device(), "value_index must be on ",
                      value.device(), "; got ", value_index->device());
  }
  return sizes;
}

inline std::vector<int64_t> output_shape(const at::Tensor& value, const at::Tensor& weights) {
  std::vector<int64_t> shape = weights.sizes().vec();
  shape.resize(shape.size() - 3);
  shape.push_back(value.size(2) * value.size(3));
  return shape;
}

}  // namespace bevstack
