// Multi-scale deformable attention: the geometry of a call.
#pragma once

#include <stdint.h>

namespace bevstack {

constexpr int kRegisterPoints = 16;  // points that the widest register holds

struct MsDeformAttnGeometry {
  int64_t batch;               // images of value
  int64_t rows;                // queries of all images
  int64_t queries;             // of one image, if value_index is null
  const int64_t* value_index;  // (rows,): the image that a row samples, or null
  int64_t pixels;              // of an image, all levels
  int heads;

  int64_t image(int64_t row) const {
    return value_index != nullptr ? value_index[row] : row / queries;
  }

  // Returns true if this number of rows reads an image's pixels often enough that copying them is
  // faster. If several heads are needed to fill a register with points, a forward pass is as fast
  // without the copy.
  bool copy_pays(int64_t rows_of_image, int points, bool gradients) const {
    return (gradients || points >= kRegisterPoints) && rows_of_image * points >= 2 * pixels;
  }

  // Returns the end, at most `end`, of the run of rows from `row` on that sample the same image.
  int64_t end_of_run(int64_t row, int64_t end) const {
    if (value_index == nullptr) {
      const int64_t last = (row / queries + 1) * queries;
      return last < end ? last : end;
    }
    int64_t stop = row + 1;
    while (stop < end && value_index[stop] == value_index[row]) ++stop;
    return stop;
  }
};

// Returns the number of heads whose part of an image is copied together: their points fill a
// register.
static inline int heads_together(int heads, int points) {
  const int wanted = points < kRegisterPoints ? (kRegisterPoints + points - 1) / points : 1;
  return wanted < heads ? wanted : heads;
}

// Memory of one thread.
template <typename T>
struct MsDeformAttnMemory {
  T* scratch;           // see scratch_plan
  void* copy;           // of heads_together heads of an image, and of their gradient in T
  const T* copy_table;  // table of points for such a copy
};

}  // namespace bevstack
