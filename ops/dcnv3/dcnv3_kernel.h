// The order in which the outputs of dcnv3 are computed, for one instruction set.
#pragma once

#include "common/sampling_kernel.h"
#include "dcnv3/dcnv3.h"

namespace bevstack {
namespace BEVSTACK_ISA {

// Outputs side by side that are walked down the image together: what they read of a block of
// groups, with the lines above and below, stays in the second-level cache.
constexpr int64_t kTileWidth = 16;

// Lines of the input below an output that are fetched ahead of it.
constexpr int64_t kLinesAhead = 8;

template <typename T>
BEVSTACK_INLINE void fetch(const T* from, int64_t count) {
  for (int64_t k = 0; k < count; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + k, 0, 2);
}

// Asks for the channels of a block of groups, of the pixel that lies some lines below an output.
template <typename T>
BEVSTACK_INLINE void fetch_ahead(const Dcnv3Geometry& geometry, const Sampling<T>& call,
                                 int64_t image, int64_t x, int64_t y, int first, int groups) {
  if (y + kLinesAhead >= geometry.height || x >= geometry.width) return;
  const int64_t pixel = (y + kLinesAhead) * geometry.width + x;
  const int64_t from =
      image * call.image_size + (pixel * geometry.groups + first) * geometry.channels;
  const int64_t count = int64_t(groups) * geometry.channels;
  fetch(call.value + from, count);
  if (call.grad_value != nullptr) fetch(call.grad_value + from, count);
}

// Calls work(row, image, start_x, start_y, first_group, groups) for the blocks of the lines
// [begin, end) of all images and the groups [first, last), each block's outputs in tiles.
template <typename T, typename Work>
BEVSTACK_INLINE void for_each_block(const Dcnv3Geometry& geometry, int64_t begin, int64_t end,
                                    int first, int last, Work work) {
  const int at_once = groups_at_once(geometry.groups, geometry.points());
  while (begin < end) {
    const int64_t image = begin / geometry.out_height;
    const int64_t line = begin % geometry.out_height;
    const int64_t image_end = (image + 1) * geometry.out_height;
    const int64_t stop = (end < image_end ? end : image_end) - image * geometry.out_height;
    for (int g = first; g < last; g += at_once) {
      const int groups = last - g < at_once ? last - g : at_once;
      for (int64_t left = 0; left < geometry.out_width; left += kTileWidth) {
        const int64_t right =
            left + kTileWidth < geometry.out_width ? left + kTileWidth : geometry.out_width;
        for (int64_t y = line; y < stop; ++y) {
          for (int64_t x = left; x < right; ++x) {
            const int64_t row = (image * geometry.out_height + y) * geometry.out_width + x;
            work(row, image, T(x * geometry.stride_w), T(y * geometry.stride_h), g, groups);
          }
        }
      }
    }
    begin = image * geometry.out_height + stop;
  }
}

template <typename T, int kDepth>
void forward_lines(const Dcnv3Geometry& geometry, const Sampling<T>& call, int64_t begin,
                   int64_t end, T* scratch) {
  const Block<T> block(scratch, padded_points(call.groups, call.points));
  for_each_block<T>(geometry, begin, end, 0, call.groups,
                    [&](int64_t row, int64_t image, T x, T y, int first, int groups) {
                      fetch_ahead(geometry, call, image, int64_t(x), int64_t(y), first, groups);
                      forward_block<T, kDepth>(call, row, image, x, y, first, groups, block);
                    });
}

template <typename T, int kDepth>
void backward_units(const Dcnv3Geometry& geometry, const Sampling<T>& call, int64_t begin,
                    int64_t end, T* scratch) {
  const Block<T> block(scratch, padded_points(call.groups, call.points));
  while (begin < end) {
    const int64_t image = begin / call.groups;
    const int first = int(begin % call.groups);
    const int64_t left = end - begin;
    const int last = left < call.groups - first ? first + int(left) : call.groups;
    for_each_block<T>(geometry, image * geometry.out_height, (image + 1) * geometry.out_height,
                      first, last,
                      [&](int64_t row, int64_t of, T x, T y, int g, int groups) {
                        fetch_ahead(geometry, call, of, int64_t(x), int64_t(y), g, groups);
                        backward_block<T, kDepth>(call, row, of, x, y, g, groups, block);
                      });
    begin += last - first;
  }
}

// The outputs of lines [begin, end), counted over all images.
void dcnv3_forward(const Dcnv3Geometry& geometry, const Sampling<float>& call,
                   int64_t begin, int64_t end, float* scratch) {
  if (call.channels == 16) return forward_lines<float, 16>(geometry, call, begin, end, scratch);
  if (call.channels == 32) return forward_lines<float, 32>(geometry, call, begin, end, scratch);
  forward_lines<float, 0>(geometry, call, begin, end, scratch);
}

void dcnv3_forward(const Dcnv3Geometry& geometry, const Sampling<double>& call,
                   int64_t begin, int64_t end, double* scratch) {
  forward_lines<double, 0>(geometry, call, begin, end, scratch);
}

// The gradients of groups [begin, end), counted over all images. No two groups share a number of
// any gradient, and a group's sums are always made in one order.
void dcnv3_backward(const Dcnv3Geometry& geometry, const Sampling<float>& call,
                    int64_t begin, int64_t end, float* scratch) {
  if (call.channels == 16) return backward_units<float, 16>(geometry, call, begin, end, scratch);
  if (call.channels == 32) return backward_units<float, 32>(geometry, call, begin, end, scratch);
  backward_units<float, 0>(geometry, call, begin, end, scratch);
}

void dcnv3_backward(const Dcnv3Geometry& geometry, const Sampling<double>& call,
                    int64_t begin, int64_t end, double* scratch) {
  backward_units<double, 0>(geometry, call, begin, end, scratch);
}

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
