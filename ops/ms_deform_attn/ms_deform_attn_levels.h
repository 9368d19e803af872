// One call of multi-scale deformable attention, as the CUDA kernels see it.
#pragma once

#include <stdint.h>

namespace bevstack {

constexpr int kMostLevels = 32;  // they travel with the launch

struct MsDeformAttnLevels {
  int64_t images;              // of value
  int64_t rows;                // of queries: of one image, or of all where value_index is given
  const int64_t* value_index;  // (rows,): the image of each row; null where each image has its own
  int heads, channels;         // channels of a head
  int levels, points;          // points of a level
  int height[kMostLevels];
  int width[kMostLevels];
  int first[kMostLevels];      // the level's first pixel
  int64_t pixels;              // of all levels
};

}  // namespace bevstack
