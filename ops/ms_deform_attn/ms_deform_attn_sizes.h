// The sizes of a call of multi-scale deformable attention on any device.
#pragma once

#include <stdint.h>

namespace bevstack {

struct MsDeformAttnSizes {
  int64_t images, rows, heads, channels, levels, points;  // rows: per image; all with value_index
  int64_t pixels;  // of an image, all levels
};

}  // namespace bevstack
