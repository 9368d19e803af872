// The order in which the rows of ms_deform_attn are computed, for one instruction set.
#pragma once

#include "common/sampling_kernel.h"
#include "ms_deform_attn/ms_deform_attn.h"

namespace bevstack {
namespace BEVSTACK_ISA {

template <typename T, int kDepth>
void forward_rows(const MsDeformAttnGeometry& geometry, const Sampling<T>& call,
                  int64_t begin, int64_t end, T* scratch) {
  const Block<T> block(scratch, padded_points(call.groups, call.points));
  const int at_once = groups_at_once(call.groups, call.points);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = geometry.image(row);
    for (int head = 0; head < call.groups; head += at_once) {
      const int heads = call.groups - head < at_once ? call.groups - head : at_once;
      forward_block<T, kDepth>(call, row, image, T(0), T(0), head, heads, block);
    }
  }
}

template <typename T, int kDepth>
void backward_units(const MsDeformAttnGeometry& geometry, const Sampling<T>& call,
                    int64_t begin, int64_t end, T* scratch) {
  const Block<T> block(scratch, padded_points(call.groups, call.points));
  const int at_once = groups_at_once(call.groups, call.points);
  for (int64_t row = 0; row < geometry.rows; ++row) {
    const int64_t image = geometry.image(row);
    const int64_t first = begin - image * call.groups;
    const int64_t last = end - image * call.groups;
    const int stop = last < call.groups ? int(last < 0 ? 0 : last) : call.groups;
    for (int head = first > 0 ? int(first < stop ? first : stop) : 0; head < stop;) {
      const int heads = stop - head < at_once ? stop - head : at_once;
      backward_block<T, kDepth>(call, row, image, T(0), T(0), head, heads, block);
      head += heads;
    }
  }
}

// The outputs of rows [begin, end).
void ms_deform_attn_forward(const MsDeformAttnGeometry& geometry,
                            const Sampling<float>& call, int64_t begin, int64_t end,
                            float* scratch) {
  if (call.channels == 16) return forward_rows<float, 16>(geometry, call, begin, end, scratch);
  if (call.channels == 32) return forward_rows<float, 32>(geometry, call, begin, end, scratch);
  forward_rows<float, 0>(geometry, call, begin, end, scratch);
}

void ms_deform_attn_forward(const MsDeformAttnGeometry& geometry,
                            const Sampling<double>& call, int64_t begin, int64_t end,
                            double* scratch) {
  forward_rows<double, 0>(geometry, call, begin, end, scratch);
}

// The gradients of heads [begin, end), counted over all images. No two heads share a number of any
// gradient, and a head's sums are always made in one order.
void ms_deform_attn_backward(const MsDeformAttnGeometry& geometry,
                             const Sampling<float>& call, int64_t begin, int64_t end,
                             float* scratch) {
  if (call.channels == 16) return backward_units<float, 16>(geometry, call, begin, end, scratch);
  if (call.channels == 32) return backward_units<float, 32>(geometry, call, begin, end, scratch);
  backward_units<float, 0>(geometry, call, begin, end, scratch);
}

void ms_deform_attn_backward(const MsDeformAttnGeometry& geometry,
                             const Sampling<double>& call, int64_t begin, int64_t end,
                             double* scratch) {
  backward_units<double, 0>(geometry, call, begin, end, scratch);
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
