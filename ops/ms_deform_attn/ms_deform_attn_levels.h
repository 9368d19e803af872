// The sizes of one call of multi-scale deformable attention, passed to the CUDA kernels.
#pragma once

#include <stdint.h>

#include "dcnv3/dcnv3.h"  // BEVSTACK_HOST_DEVICE

namespace bevstack {

constexpr int kMostLevels = 32;  // passed by value with the launch

struct MsDeformAttnLevels {
  int64_t images;              // of value
  int64_t rows;                // query rows: of one image, or of all images with value_index
  const int64_t* value_index;  // (rows,): image of each row; null: `rows` rows for each image
  int heads, channels;         // channels of a head
  int levels, points;          // points of a level
  int height[kMostLevels];
  int width[kMostLevels];
  int first[kMostLevels];      // index of the level's first pixel
  int64_t pixels;              // of all levels
  int64_t* bad_index;          // receives an encoded index that no image has; null: not reported
};

// An index outside 0..B-1 in one number that is not 0, which means that there was none.
BEVSTACK_HOST_DEVICE inline int64_t encode_bad_index(int64_t index) {
  return index < 0 || index == INT64_MAX ? index : index + 1;
}
inline int64_t decode_bad_index(int64_t code) { return code > 0 ? code - 1 : code; }

}  // namespace bevstack
