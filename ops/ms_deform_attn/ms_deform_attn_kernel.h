// The loops over the rows of ms_deform_attn, for one instruction set.
#pragma once

#include "common/sampling_kernel.h"
#include "ms_deform_attn/ms_deform_attn.h"

namespace bevstack {
namespace BEVSTACK_ISA {

// Distances of prefetching. A few heads' parts of consecutive rows or pixels are too far apart for
// the hardware prefetcher. Prefetching beyond the end has no effect.
constexpr int64_t kRowsAhead = 2;
constexpr int64_t kPixelsAhead = 16;

// A copy of a few heads' part of an image. If many rows sample one image, they do so head by head,
// from such a copy. In the image, the pixels of a head are usually a power of two apart: they
// compete for a few cache lines, and a page holds few of them. In the copy, the lines that
// neighbouring rows read fit into the second-level cache.
template <typename T, typename S>
class HeadMap {
 public:
  HeadMap(const MsDeformAttnGeometry& geometry, const Sampling<T, S>& call,
          const MsDeformAttnMemory<T>& memory)
      : geometry_(geometry),
        whole_(call),
        copy_(call),
        width_(int64_t(heads_together(call.groups, call.points)) * call.channels),
        memory_(memory.copy) {
    copy_.image_size = 0;
    copy_.pixel_size = width_;
    copy_.table = memory.copy_table;
  }

  // Returns true if a copy is worth its cost for this number of rows of one image.
  bool pays(int64_t rows) const {
    return geometry_.copy_pays(rows, whole_.points, whole_.grad_value != nullptr);
  }

  // Copies heads [first, first + heads) of an image and returns the call that samples the copy.
  const Sampling<T, S>& take(int64_t image, int first, int heads) {
    const int64_t numbers = int64_t(heads) * whole_.channels;
    const int64_t bytes = numbers * int64_t(sizeof(S));
    S* const value = static_cast<S*>(memory_);
    copy_.first_group = first;
    copy_.value = value;
    const S* from = at(whole_.value, image, first);
    for (int64_t p = 0; p < geometry_.pixels; ++p, from += whole_.pixel_size) {
      fetch<0>(from + kPixelsAhead * whole_.pixel_size, bytes);
      __builtin_memcpy(value + p * width_, from, uint64_t(bytes));
    }
    if (whole_.grad_value != nullptr) {
      const uint64_t numbers = uint64_t(geometry_.pixels * width_);
      copy_.grad_value = static_cast<T*>(memory_) + (numbers * sizeof(S) + sizeof(T) - 1) / sizeof(T);
      __builtin_memset(copy_.grad_value, 0, numbers * sizeof(T));
    }
    return copy_;
  }

  // Adds the gradient that was summed in the copy to the image's gradient.
  void give_back(int64_t image, int first, int heads) const {
    const int64_t numbers = int64_t(heads) * whole_.channels;
    T* to = at(whole_.grad_value, image, first);
    const T* from = copy_.grad_value;
    for (int64_t p = 0; p < geometry_.pixels; ++p, to += whole_.pixel_size, from += width_) {
      fetch<1>(to + kPixelsAhead * whole_.pixel_size, numbers * int64_t(sizeof(T)));
      for (int64_t c = 0; c < numbers; ++c) to[c] += from[c];
    }
  }

 private:
  template <typename N>
  N* at(N* numbers, int64_t image, int first) const {
    return numbers + image * whole_.image_size + int64_t(first) * whole_.channels;
  }

  const MsDeformAttnGeometry& geometry_;
  const Sampling<T, S>& whole_;
  Sampling<T, S> copy_;
  const int64_t width_;  // numbers from one pixel of the copy to the next
  void* const memory_;
};

template <typename T, typename S, int kDepth>
void forward_rows(const MsDeformAttnGeometry& geometry, const Sampling<T, S>& call,
                  int64_t begin, int64_t end, const MsDeformAttnMemory<T>& memory) {
  const Block<T> block(memory.scratch, scratch_plan(call.groups, call.points));
  HeadMap<T, S> map(geometry, call, memory);
  for (int64_t row = begin, stop; row < end; row = stop) {
    stop = geometry.end_of_run(row, end);
    const int64_t image = geometry.image(row);
    const bool pays = map.pays(stop - row);
    const int at_once = pays ? heads_together(call.groups, call.points)
                             : groups_at_once(call.groups, call.points);
    for (int head = 0; head < call.groups; head += at_once) {
      const int heads = call.groups - head < at_once ? call.groups - head : at_once;
      const Sampling<T, S>& from = pays ? map.take(image, head, heads) : call;
      for (int64_t r = row; r < stop; ++r) {
        if (pays && r + kRowsAhead < stop) fetch_row(call, r + kRowsAhead, head, heads);
        forward_block<T, S, kDepth>(from, r, image, T(0), T(0), head, heads, block);
      }
    }
  }
}

template <typename T, typename S, int kDepth>
void backward_units(const MsDeformAttnGeometry& geometry, const Sampling<T, S>& call,
                    int64_t begin, int64_t end, const MsDeformAttnMemory<T>& memory) {
  const Block<T> block(memory.scratch, scratch_plan(call.groups, call.points));
  HeadMap<T, S> map(geometry, call, memory);
  for (int64_t row = 0, stop; row < geometry.rows; row = stop) {
    stop = geometry.end_of_run(row, geometry.rows);
    const int64_t image = geometry.image(row);
    const int64_t first = begin - image * call.groups, last = end - image * call.groups;
    const int end_head = last < call.groups ? int(last < 0 ? 0 : last) : call.groups;
    const bool pays = map.pays(stop - row);
    const int at_once = pays ? heads_together(call.groups, call.points)
                             : groups_at_once(call.groups, call.points);
    for (int head = first > 0 ? int(first < end_head ? first : end_head) : 0, heads;
         head < end_head; head += heads) {
      heads = end_head - head < at_once ? end_head - head : at_once;
      const Sampling<T, S>& from = pays ? map.take(image, head, heads) : call;
      for (int64_t r = row; r < stop; ++r) {
        if (pays && r + kRowsAhead < stop) fetch_row(call, r + kRowsAhead, head, heads);
        backward_block<T, S, kDepth>(from, r, image, T(0), T(0), head, heads, block);
      }
      if (pays) map.give_back(image, head, heads);
    }
  }
}

// Forward: computes the outputs of rows [begin, end). Backward: computes the gradients of heads
// [begin, end), counted over all images. No two heads share a number of any gradient, and the order
// of a head's sums is fixed.
#define BEVSTACK_DEFINE(T, S)                                                                  \
  void ms_deform_attn_forward(const MsDeformAttnGeometry& geometry,                            \
                              const Sampling<T, S>& call, int64_t begin, int64_t end,          \
                              const MsDeformAttnMemory<T>& memory) {                           \
    BEVSTACK_BY_DEPTH(T, forward_rows, S, geometry, call, begin, end, memory);                 \
  }                                                                                            \
  void ms_deform_attn_backward(const MsDeformAttnGeometry& geometry,                           \
                               const Sampling<T, S>& call, int64_t begin, int64_t end,         \
                               const MsDeformAttnMemory<T>& memory) {                          \
    BEVSTACK_BY_DEPTH(T, backward_units, S, geometry, call, begin, end, memory);               \
  }

BEVSTACK_DEFINE(float, float)
BEVSTACK_DEFINE(float, Half)
BEVSTACK_DEFINE(float, BFloat16)
BEVSTACK_DEFINE(double, double)

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
