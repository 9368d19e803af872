// The order in which the rows of ms_deform_attn are computed, for one instruction set.
#pragma once

#include "common/sampling_kernel.h"
#include "ms_deform_attn/ms_deform_attn.h"

namespace bevstack {
namespace BEVSTACK_ISA {

template <typename T, typename S, int kDepth>
void forward_rows(const MsDeformAttnGeometry& geometry, const Sampling<T, S>& call,
                  int64_t begin, int64_t end, T* scratch) {
  const Block<T> block(scratch, scratch_plan(call.groups, call.points));
  const int at_once = groups_at_once(call.groups, call.points);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t image = geometry.image(row);
    for (int head = 0; head < call.groups; head += at_once) {
      const int heads = call.groups - head < at_once ? call.groups - head : at_once;
      forward_block<T, S, kDepth>(call, row, image, T(0), T(0), head, heads, block);
    }
  }
}

template <typename T, typename S, int kDepth>
void backward_units(const MsDeformAttnGeometry& geometry, const Sampling<T, S>& call,
                    int64_t begin, int64_t end, T* scratch) {
  const Block<T> block(scratch, scratch_plan(call.groups, call.points));
  const int at_once = groups_at_once(call.groups, call.points);
  for (int64_t row = 0; row < geometry.rows; ++row) {
    const int64_t image = geometry.image(row);
    const int64_t first = begin - image * call.groups;
    const int64_t last = end - image * call.groups;
    const int stop = last < call.groups ? int(last < 0 ? 0 : last) : call.groups;
    for (int head = first > 0 ? int(first < stop ? first : stop) : 0; head < stop;) {
      const int heads = stop - head < at_once ? stop - head : at_once;
      backward_block<T, S, kDepth>(call, row, image, T(0), T(0), head, heads, block);
      head += heads;
    }
  }
}

// Forward: the outputs of rows [begin, end). Backward: the gradients of heads [begin, end), counted
// over all images; no two heads share a number of any gradient, and a head's sums are always made
// in one order.
#define BEVSTACK_DEFINE(T, S)                                                            \
  void ms_deform_attn_forward(const MsDeformAttnGeometry& geometry,                      \
                              const Sampling<T, S>& call, int64_t begin, int64_t end,    \
                              T* scratch) {                                              \
    BEVSTACK_BY_DEPTH(T, forward_rows, S, geometry, call, begin, end, scratch);          \
  }                                                                                      \
  void ms_deform_attn_backward(const MsDeformAttnGeometry& geometry,                     \
                               const Sampling<T, S>& call, int64_t begin, int64_t end,   \
                               T* scratch) {                                             \
    BEVSTACK_BY_DEPTH(T, backward_units, S, geometry, call, begin, end, scratch);        \
  }

BEVSTACK_DEFINE(float, float)
BEVSTACK_DEFINE(float, Half)
BEVSTACK_DEFINE(float, BFloat16)
BEVSTACK_DEFINE(double, double)

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
