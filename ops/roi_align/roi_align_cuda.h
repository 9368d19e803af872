// The kernel launches of RoIAlign. Each function makes at most one launch; the caller reads its
// error with cudaGetLastError.
#pragma once

#include "common/tensors.h"
#include "roi_align/roi_align.h"

namespace bevstack {

// Contiguous tensors of a call, all of one type, float32 or float64.
struct RoiAlignTensors {
  NumberType type;
  const int64_t* image;  // (R,)
  const void* sides;     // (R, 4) left, top, right, bottom in cells
  const void* maps;      // (B, C, H, W); null in the backward pass
  void* output;          // (R, C, bin rows, bin columns)
  const void* grad_output;
  void* grad_maps;  // zeros
};

void launch_roi_align(const RoiAlignShape&, const RoiAlignTensors&, const Queue&);

// Adds in any order.
void launch_roi_align_backward(const RoiAlignShape&, const RoiAlignTensors&, const Queue&);

// Sums each number in the order of the regions, which takes longer.
void launch_roi_align_ordered(const RoiAlignShape&, const RoiAlignTensors&, const Queue&);

}  // namespace bevstack
