// Positions of the samples of multi-scale deformable attention.
#pragma once

#include "common/dispatch.cuh"
#include "ms_deform_attn/ms_deform_attn_levels.h"

namespace bevstack {
namespace gpu {

template <typename T>
struct MsDeformAttnPoints {
  static constexpr int kChunk = 8;  // points processed together
  static constexpr bool kIndexed = true;  // the caller may give image indices

  MsDeformAttnLevels levels;
  float inverse_points;

  static MsDeformAttnPoints make(const MsDeformAttnLevels& levels) {
    return {levels, 1.0f / float(levels.points)};
  }

  BEVSTACK_DEVICE bool known(int64_t image) const {
    return image >= 0 && image < levels.images;
  }
  // Writes an index that no image has to memory that the host reads later.
  BEVSTACK_DEVICE void report(int64_t image) const {
    volatile int64_t* const target = levels.bad_index;
    if (target != nullptr) *target = encode_bad_index(image);
  }
  BEVSTACK_DEVICE int64_t image(int64_t of_tile, int64_t row) const {
    return levels.value_index != nullptr ? levels.value_index[row] : of_tile;
  }
  BEVSTACK_DEVICE T origin_x(int64_t) const { return T(-0.5); }
  BEVSTACK_DEVICE T origin_y(int64_t) const { return T(-0.5); }
  BEVSTACK_DEVICE T scale_x(int p) const { return T(levels.width[level(p)]); }
  BEVSTACK_DEVICE T scale_y(int p) const { return T(levels.height[level(p)]); }

  BEVSTACK_DEVICE Position<T> position(T origin_x, T origin_y, int p, T location_x,
                                            T location_y) const {
    const int l = level(p);
    const int width = levels.width[l], height = levels.height[l];
    // Round after the product and after the sum, like the reference. Then the location of a pixel's
    // centre gives exactly that centre, and its derivative is the right-hand one.
    return {rounded_product(location_x, T(width)) + origin_x,
            rounded_product(location_y, T(height)) + origin_y, width, height, levels.first[l]};
  }

 private:
  BEVSTACK_DEVICE int level(int p) const { return quotient(p, inverse_points); }
};

// With value_index, the rows of all images are one list.
inline Extent extent_of(const MsDeformAttnLevels& l) {
  return {l.value_index != nullptr ? 1 : l.images,
          1,
          l.rows,
          l.heads,
          l.channels,
          l.levels * l.points,
          l.pixels * l.heads * l.channels,
          false};
}

}  // namespace gpu
}  // namespace bevstack
