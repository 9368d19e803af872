// Checks of the arguments of roi_align, and its regions in cells.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "common/checks.h"
#include "roi_align/roi_align.h"

namespace bevstack {

inline RoiAlignShape check_roi_align(const at::Tensor& maps, const at::Tensor& rois,
                                     at::IntArrayRef output_size, int64_t sampling_ratio,
                                     bool aligned) {
  TORCH_CHECK_VALUE(maps.dim() == 4, "maps must have shape (B, C, H, W); got ", maps.sizes());
  TORCH_CHECK_VALUE(rois.dim() == 2, "rois must have shape (R, 5); got ", rois.sizes());
  check_tensor("maps", maps, maps, maps.sizes());
  check_tensor("rois", rois, maps, {rois.size(0), 5});
  TORCH_CHECK_VALUE(output_size.size() == 2 && output_size[0] > 0 && output_size[1] > 0,
                    "output_size must be two positive numbers of bins; got ", output_size);
  TORCH_CHECK_VALUE(sampling_ratio >= 0 && sampling_ratio <= kMostPoints,
                    "sampling_ratio must lie in 0..2^20; got ", sampling_ratio);
  return {maps.size(0),   maps.size(1),   maps.size(2),   maps.size(3), rois.size(0),
          output_size[0], output_size[1], sampling_ratio, aligned};
}

inline void check_roi_gradient(const at::Tensor& grad_output, const at::Tensor& maps,
                               const RoiAlignShape& shape) {
  check_tensor("grad_output", grad_output, maps,
               {shape.rois, shape.channels, shape.bin_rows, shape.bin_columns});
}

// The regions in the type of the arithmetic. Sides are computed with torch's functions, so that the
// numbers of samples are the same for every kernel.
struct RoiBoxes {
  at::Tensor image;  // (R,) int64
  at::Tensor sides;  // (R, 4) left, top, right, bottom in cells

  RoiBoxes(const at::Tensor& rois, at::ScalarType computing, double spatial_scale, bool aligned)
      : image(rois.select(1, 0).to(at::kLong).contiguous()),
        sides(rois.narrow(1, 1, 4)
                  .to(computing)
                  .mul(spatial_scale)
                  .sub(aligned ? 0.5 : 0.0)
                  .contiguous()) {}
};

}  // namespace bevstack
