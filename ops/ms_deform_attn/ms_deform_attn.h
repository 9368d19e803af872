// Multi-scale deformable attention: what one call is.
#pragma once

#include <stdint.h>

namespace bevstack {

struct MsDeformAttnGeometry {
  int64_t batch;               // images of value
  int64_t rows;                // queries of all images
  int64_t queries;             // of one image, where value_index is null
  const int64_t* value_index;  // (rows,): the image a row reads
  int heads;

  int64_t image(int64_t row) const {
    return value_index != nullptr ? value_index[row] : row / queries;
  }
};

}  // namespace bevstack
