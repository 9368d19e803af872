// Multi-scale deformable attention: what one call is.
#pragma once

#include <stdint.h>

namespace bevstack {

constexpr int kRegisterPoints = 16;  // that the widest register holds

struct MsDeformAttnGeometry {
  int64_t batch;               // images of value
  int64_t rows;                // queries of all images
  int64_t queries;             // of one image, where value_index is null
  const int64_t* value_index;  // (rows,): the image a row reads
  int64_t pixels;              // of an image, all levels
  int heads;

  int64_t image(int64_t row) const {
    return value_index != nullptr ? value_index[row] : row / queries;
  }

  // Whether so many rows of an image read its pixels often enough to pay for a copy of them. Where
  // it takes several heads to fill a register with points, a forward pass is as fast without.
  bool copy_pays(int64_t rows_of_image, int points, bool gradients) const {
    return (gradients || points >= kRegisterPoints) && rows_of_image * points >= 2 * pixels;
  }

  // The end, or `end`, of the rows from `row` on that read the same image.
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

// Heads whose part of an image is copied together: those whose points fill a register.
static inline int heads_together(int heads, int points) {
  const int wanted = points < kRegisterPoints ? (kRegisterPoints + points - 1) / points : 1;
  return wanted < heads ? wanted : heads;
}

// What a thread works in.
template <typename T>
struct MsDeformAttnMemory {
  T* scratch;           // see scratch_plan
  void* copy;           // of an image, heads_together of its heads, and of their gradient in T
  const T* copy_table;  // the table of points for such a copy
};

}  // namespace bevstack
