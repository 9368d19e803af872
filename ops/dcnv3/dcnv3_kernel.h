// The loops over the outputs of dcnv3, for one instruction set.
#pragma once

#include "common/sampling_kernel.h"
#include "dcnv3/dcnv3.h"

namespace bevstack {
namespace BEVSTACK_ISA {

// Width of the column of outputs that is processed from top to bottom. The input that these outputs
// read for a block of groups, with its neighbourhood, stays in the second-level cache.
constexpr int64_t kTileWidth = 16;

// Inputs of fewer bytes are in a cache already: prefetching would cost more than it gains.
constexpr int64_t kNear = int64_t(4) << 20;

// Outputs of one image and one block of groups: columns [left, right) of lines [top, bottom).
struct Tile {
  int64_t image, left, right, top, bottom;
  int first, groups;
};

// Prefetches memory some outputs before it is needed. Tiles are not processed in the order of
// memory, so the hardware prefetcher does not predict the accesses.
template <typename T, typename S>
class Ahead {
 public:
  Ahead(const Dcnv3Geometry& geometry, const Sampling<T, S>& call)
      : geometry_(geometry), call_(call), reach_(reach(geometry)), useful_(bytes() > kNear) {}

  // Prefetches the data of the output one line below (x, y), or at the top of the next column of
  // outputs: offsets and masks, output or gradients, and the pixels at the edge of the area that
  // the points reach.
  BEVSTACK_INLINE void fetch_for(const Tile& tile, int64_t x, int64_t y) const {
    if (!useful_) return;
    int64_t column = x, line = y + 1;
    if (line == tile.bottom) column += kTileWidth, line = tile.top;
    if (column < geometry_.out_width) fetch_output(tile, column, line);
    column = x * geometry_.stride_w;
    line = y * geometry_.stride_h + reach_ + 2;
    if (line >= geometry_.height) column += kTileWidth * geometry_.stride_w;
    if (line >= geometry_.height) line -= geometry_.height;
    if (line >= geometry_.height) return;
    fetch_pixel(tile, column, line);
    if (x - tile.left < reach_) fetch_pixel(tile, column - reach_, line);
    if (tile.right - x <= reach_) fetch_pixel(tile, column + reach_, line);
  }

 private:
  // Bytes of the values and points of all images.
  int64_t bytes() const {
    return geometry_.batch * call_.image_size * int64_t(sizeof(S)) +
           call_.rows * call_.groups * call_.points * 3 * int64_t(sizeof(T));
  }

  // Distance in pixels from an output to most of its points, assuming that the offsets of a trained
  // layer are about as large as the kernel.
  static int64_t reach(const Dcnv3Geometry& geometry) {
    const int height = geometry.kernel_h * geometry.dilation_h;
    const int width = geometry.kernel_w * geometry.dilation_w;
    const double pixels = (height > width ? height : width) * geometry.offset_scale * 1.25;
    return pixels < 1 ? 1 : pixels < 16 ? int64_t(pixels) : 16;
  }

  BEVSTACK_INLINE void fetch_output(const Tile& tile, int64_t x, int64_t y) const {
    const int64_t row = (tile.image * geometry_.out_height + y) * geometry_.out_width + x;
    fetch_row(call_, row, tile.first, tile.groups);
  }

  BEVSTACK_INLINE void fetch_pixel(const Tile& tile, int64_t x, int64_t y) const {
    if (x < 0 || x >= geometry_.width) return;
    const int64_t place = ((y * geometry_.width + x) * geometry_.groups + tile.first) *
                          geometry_.channels;
    const int64_t from = tile.image * call_.image_size + place;
    const int64_t channels = int64_t(tile.groups) * geometry_.channels;
    fetch<0>(call_.value + from, channels * int64_t(sizeof(S)));
    if (call_.grad_value == nullptr) return;
    fetch<1>(call_.grad_value + from, channels * int64_t(sizeof(T)));
  }

  const Dcnv3Geometry& geometry_;
  const Sampling<T, S>& call_;
  const int64_t reach_;
  const bool useful_;
};

// Calls work(tile, x, y) for the outputs of lines [begin, end), counted over all images, and groups
// [first, last).
template <typename Work>
BEVSTACK_INLINE void for_each_block(const Dcnv3Geometry& geometry, int64_t begin, int64_t end,
                                    int first, int last, Work work) {
  const int at_once = groups_at_once(geometry.groups, geometry.points());
  Tile tile{};
  while (begin < end) {
    tile.image = begin / geometry.out_height;
    tile.top = begin % geometry.out_height;
    const int64_t image_end = (tile.image + 1) * geometry.out_height;
    tile.bottom = tile.top + (end < image_end ? end : image_end) - begin;
    for (tile.first = first; tile.first < last; tile.first += at_once) {
      tile.groups = last - tile.first < at_once ? last - tile.first : at_once;
      for (tile.left = 0; tile.left < geometry.out_width; tile.left = tile.right) {
        const int64_t right = tile.left + kTileWidth;
        tile.right = right < geometry.out_width ? right : geometry.out_width;
        for (int64_t y = tile.top; y < tile.bottom; ++y) {
          for (int64_t x = tile.left; x < tile.right; ++x) work(tile, x, y);
        }
      }
    }
    begin += tile.bottom - tile.top;
  }
}

template <typename T, typename S, int kDepth>
void forward_lines(const Dcnv3Geometry& geometry, const Sampling<T, S>& call, int64_t begin,
                   int64_t end, T* scratch) {
  const Block<T> block(scratch, scratch_plan(call.groups, call.points));
  const Ahead<T, S> ahead(geometry, call);
  for_each_block(geometry, begin, end, 0, call.groups, [&](const Tile& tile, int64_t x, int64_t y) {
    ahead.fetch_for(tile, x, y);
    const int64_t row = (tile.image * geometry.out_height + y) * geometry.out_width + x;
    forward_block<T, S, kDepth>(call, row, tile.image, T(x * geometry.stride_w),
                                T(y * geometry.stride_h), tile.first, tile.groups, block);
  });
}

template <typename T, typename S, int kDepth>
void backward_units(const Dcnv3Geometry& geometry, const Sampling<T, S>& call, int64_t begin,
                    int64_t end, T* scratch) {
  const Block<T> block(scratch, scratch_plan(call.groups, call.points));
  const Ahead<T, S> ahead(geometry, call);
  while (begin < end) {
    const int64_t image = begin / call.groups;
    const int first = int(begin % call.groups);
    const int64_t left = end - begin;
    const int last = left < call.groups - first ? first + int(left) : call.groups;
    for_each_block(geometry, image * geometry.out_height, (image + 1) * geometry.out_height, first,
                   last, [&](const Tile& tile, int64_t x, int64_t y) {
                     ahead.fetch_for(tile, x, y);
                     const int64_t row =
                         (tile.image * geometry.out_height + y) * geometry.out_width + x;
                     backward_block<T, S, kDepth>(call, row, tile.image, T(x * geometry.stride_w),
                                                  T(y * geometry.stride_h), tile.first,
                                                  tile.groups, block);
                   });
    begin += last - first;
  }
}

// Forward: computes the outputs of lines [begin, end), counted over all images. Backward: computes
// the gradients of groups [begin, end), counted over all images. No two groups share a number of
// any gradient, and the order of a group's sums is fixed.
#define BEVSTACK_DEFINE(T, S)                                                                   \
  void dcnv3_forward(const Dcnv3Geometry& geometry, const Sampling<T, S>& call, int64_t begin,  \
                     int64_t end, T* scratch) {                                                 \
    BEVSTACK_BY_DEPTH(T, forward_lines, S, geometry, call, begin, end, scratch);                \
  }                                                                                             \
  void dcnv3_backward(const Dcnv3Geometry& geometry, const Sampling<T, S>& call, int64_t begin, \
                      int64_t end, T* scratch) {                                                \
    BEVSTACK_BY_DEPTH(T, backward_units, S, geometry, call, begin, end, scratch);               \
  }

BEVSTACK_DEFINE(float, float)
BEVSTACK_DEFINE(float, Half)
BEVSTACK_DEFINE(float, BFloat16)
BEVSTACK_DEFINE(double, double)

}  // namespace BEVSTACK_ISA
}  // namespace bevstack
