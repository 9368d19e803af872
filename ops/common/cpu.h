// What the CPU side of both operators shares with torch: types, scratch memory, checks.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "common/sampling.h"

namespace bevstack {

// The type arithmetic is done in: float64 where any tensor has it, else float32.
inline at::ScalarType computing_type(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& tensor : tensors) {
    if (tensor.scalar_type() == at::kDouble) return at::kDouble;
  }
  return at::kFloat;
}

inline void check_floating(const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_TYPE(at::isFloatingType(tensor.scalar_type()), name,
                   " must be of a floating type; got ", tensor.scalar_type());
}

inline void check_shape(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) {
  TORCH_CHECK_VALUE(tensor.sizes() == shape, name, " must have shape ", shape, "; got ",
                    tensor.sizes());
  TORCH_CHECK_VALUE(tensor.device().is_cpu(), name, " must be on the CPU; got ", tensor.device());
}

inline at::Tensor prepare(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.to(type).contiguous();
}

// An uninitialised tensor. Large memory is handed out by the system anew at each call, and in pages
// of 4 KB that takes as long as computing what goes into it.
inline at::Tensor empty_result(at::IntArrayRef shape, const at::TensorOptions& options) {
  at::Tensor result = at::empty(shape, options);
#if defined(__linux__)
  constexpr uintptr_t kHugePage = uintptr_t(2) << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(result.mutable_data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + result.nbytes()) / kHugePage * kHugePage;
  // A wish only: where the system refuses, pages stay small.
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return result;
}

// Zeroed memory of one thread, aligned to a register.
template <typename T>
class Scratch {
 public:
  explicit Scratch(const Sampling<T>& call)
      : numbers_(scratch_size(call.groups, call.points) + 64 / sizeof(T)) {}
  T* get() {
    const auto address = reinterpret_cast<uintptr_t>(numbers_.data());
    return reinterpret_cast<T*>((address + 63) / 64 * 64);
  }

 private:
  std::vector<T> numbers_;
};

// The memory of a table of points. The first `points` entries are set, then repeated to its end.
template <typename T>
class PointTable {
 public:
  PointTable(int groups, int points)
      : padded_(padded_points(groups, points)), entries_(padded_ * kTableArrays) {}

  T& number(TableArray array, int64_t k) {
    return entries_[record_entry(k, kTableArrays) + array * kRecord];
  }

  void set_index(TableArray array, int64_t k, int64_t index) {
    const std::conditional_t<sizeof(T) == 4, int32_t, int64_t> bits = index;
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
