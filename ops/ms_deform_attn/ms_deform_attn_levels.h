// The sizes of one call of multi-scale deformable attention, passed to the CUDA kernels.
#pragma once

#include <stdint.h>

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
};

}  // namespace bevstack
