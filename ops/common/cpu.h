// What the CPU side of both operators shares with torch: types, scratch memory, checks.
#pragma once

#include <cstdint>
#include <cstring>
#include <tuple>
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

// How values are stored while they are computed with `computing`: half types stay as they are.
inline at::ScalarType storage_type(const at::Tensor& tensor, at::ScalarType computing) {
  const bool half = tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16;
  return half && computing == at::kFloat ? tensor.scalar_type() : computing;
}

inline Storage storage_of(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kHalf) return Storage::half;
  if (tensor.scalar_type() == at::kBFloat16) return Storage::bfloat16;
  return Storage::computing;
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

// Calls work(T, S) with the types of arithmetic and of stored values, as null pointers.
template <typename Work>
void with_types(const at::Tensor& values, at::ScalarType computing, Work work) {
  constexpr float* kFloat = nullptr;
  if (computing == at::kDouble) return work((double*)nullptr, (double*)nullptr);
  if (values.scalar_type() == at::kHalf) return work(kFloat, (Half*)nullptr);
  if (values.scalar_type() == at::kBFloat16) return work(kFloat, (BFloat16*)nullptr);
  work(kFloat, kFloat);
}

// The three inputs of a call, contiguous, each in the type that it is read in.
struct Inputs {
  at::ScalarType computing;
  at::Tensor value, offset, factor;

  Inputs(const at::Tensor& of_value, const at::Tensor& of_offset, const at::Tensor& of_factor)
      : computing(computing_type({of_value, of_offset, of_factor})),
        value(prepare(of_value, storage_type(of_value, computing))),
        offset(prepare(of_offset, storage_type(of_offset, computing))),
        factor(prepare(of_factor, storage_type(of_factor, computing))) {}

  template <typename T, typename S>
  Sampling<T, S> call() const {
    Sampling<T, S> call{};
    call.value = static_cast<const S*>(value.const_data_ptr());
    call.offset = offset.const_data_ptr();
    call.factor = factor.const_data_ptr();
    call.offset_storage = storage_of(offset);
    call.factor_storage = storage_of(factor);
    return call;
  }
};

// Its gradients. That of the values is summed in the type of arithmetic and rounded once.
struct Gradients {
  at::Tensor value, offset, factor;

  explicit Gradients(const Inputs& inputs)
      : value(empty_result(inputs.value.sizes(), inputs.value.options().dtype(inputs.computing))),
        offset(empty_result(inputs.offset.sizes(), inputs.offset.options())),
        factor(empty_result(inputs.factor.sizes(), inputs.factor.options())) {
    value.zero_();
  }

  template <typename T, typename S>
  void put_into(Sampling<T, S>& call, const at::Tensor& grad_output) const {
    call.grad_output = static_cast<const S*>(grad_output.const_data_ptr());
    call.grad_value = value.mutable_data_ptr<T>();
    call.grad_offset = offset.mutable_data_ptr();
    call.grad_factor = factor.mutable_data_ptr();
  }

  std::tuple<at::Tensor, at::Tensor, at::Tensor> as(const at::Tensor& of_value,
                                                    const at::Tensor& of_offset,
                                                    const at::Tensor& of_factor) const {
    return {value.to(of_value.scalar_type()), offset.to(of_offset.scalar_type()),
            factor.to(of_factor.scalar_type())};
  }
};

// Zeroed memory of one thread, aligned to a register.
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

// The memory of a table of points. The first `points` entries are set, then repeated to its end.
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
