// Memory of a CPU call that any host program can provide: scratch memory and tables of points.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "common/sampling.h"

namespace bevstack {

// Zeroed scratch memory of one thread, aligned to 64 bytes, the widest register.
template <typename T>
class Scratch {
 public:
  Scratch(int groups, int points)
      : numbers_(scratch_plan(groups, points).size + 64 / sizeof(T)) {}
  T* get() {
    const auto address = reinterpret_cast<uintptr_t>(numbers_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<T> numbers_;
};

// The memory of a table of points. The caller sets the first `points` entries; `repeated` copies
// them until the table is full.
template <typename T>
class PointTable {
 public:
  PointTable(int groups, int points)
      : padded_(padded_points(groups, points)), entries_(record_size(padded_, kTableArrays)) {}

  T& number(TableArray array, int64_t k) {
    return entries_[record_entry(k, kTableArrays) + array * kRecord];
  }

  void set_index(TableArray array, int64_t k, int64_t index) {
    const auto bits = static_cast<std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>(index);
    std::memcpy(&number(array, k), &bits, sizeof bits);
  }

  const T* repeated(int points) {
    for (int64_t k = points; k < padded_; ++k) {
      for (int array = 0; array < kTableArrays; ++array) {
        const auto which = TableArray(array);
        std::memcpy(&number(which, k), &number(which, k - points), sizeof(T));
      }
    }
    return entries_.data();
  }

 private:
  int64_t padded_;
  std::vector<T> entries_;
};

}  // namespace bevstack
