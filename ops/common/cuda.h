// CUDA host code that both operators share: types, tensors, memory, launches.
//
// It is in a separate namespace because the CPU code has functions with the same names.
#pragma once

#include <tuple>
#include <vector>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "common/fixed_point.h"
#include "common/tensors.h"

namespace bevstack {
namespace cuda {

inline NumberType number_type(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return NumberType::float64;
    case at::kFloat:
      return NumberType::float32;
    case at::kHalf:
      return NumberType::float16;
    case at::kBFloat16:
      return NumberType::bfloat16;
    default:
      TORCH_CHECK_TYPE(false, "a tensor must be float16, bfloat16, float32 or float64; got ", type);
  }
}

// The types that kernels work on. All are float64 if any tensor is. Half types are kept if a kernel
// is compiled for the number of channels; else they are converted to float32.
struct Types {
  at::ScalarType value, offset, sum;
};

inline Types choose_types(const at::Tensor& value, const at::Tensor& offset,
                          const at::Tensor& factor, int64_t channels, bool fixed_point) {
  for (const at::Tensor* tensor : {&value, &offset, &factor}) {
    if (tensor->scalar_type() == at::kDouble) return {at::kDouble, at::kDouble, at::kDouble};
  }
  if (fixed_point || !has_own_kernel(channels)) return {at::kFloat, at::kFloat, at::kFloat};
  const bool same = offset.scalar_type() == factor.scalar_type();
  return {value.scalar_type(), same ? offset.scalar_type() : at::kFloat, at::kFloat};
}

// Returns the tensor with this type, contiguous, and aligned to the 16 bytes that kernels read at
// once. It is copied only if it does not meet these conditions.
inline at::Tensor prepare(const at::Tensor& tensor, at::ScalarType type) {
  at::Tensor prepared = tensor.to(type).contiguous();
  const auto address = reinterpret_cast<uintptr_t>(prepared.const_data_ptr());
  return address % 16 == 0 ? prepared : prepared.clone();
}

// Returns the current stream of the current device. Does not synchronise, so that CUDA graphs can
// capture the call.
inline Queue current_queue() {
  int device = 0, processors = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
  return {c10::cuda::getCurrentCUDAStream().stream(), processors};
}

// Returns true if torch.use_deterministic_algorithms is set.
inline bool deterministic() { return at::globalContext().deterministicAlgorithms(); }

inline int log2_up(int64_t count) {
  int log2 = 0;
  while (log2 < 40 && (int64_t(1) << log2) < count) ++log2;
  return log2;
}

// The tensors of a call in the form that the kernels read. Keeps converted copies alive until the
// launch.
class Prepared {
 public:
  Prepared(const at::Tensor& value, const at::Tensor& offset, const at::Tensor& factor,
           int64_t channels, bool fixed_point)
      : fixed_point_(fixed_point),
        types_(choose_types(value, offset, factor, channels, fixed_point)),
        value_(prepare(value, types_.value)),
        offset_(prepare(offset, types_.offset)),
        factor_(prepare(factor, types_.offset)) {
    tensors_.value_type = number_type(types_.value);
    tensors_.offset_type = number_type(types_.offset);
    tensors_.value = value_.const_data_ptr();
    tensors_.offset = offset_.const_data_ptr();
    tensors_.factor = factor_.const_data_ptr();
  }

  // Computes the output. launch(tensors, queue) makes one kernel launch.
  template <typename Launch>
  at::Tensor forward(at::IntArrayRef shape, at::ScalarType type, Launch launch) {
    at::Tensor output = at::empty(shape, value_.options());
    if (output.numel() != 0) {
      tensors_.output = output.mutable_data_ptr();
      launch(tensors_, current_queue());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    return output.to(type);
  }

  // Computes the gradients, each in the type of its tensor. The operator provides the launches:
  // launch(tensors, queue), bound(tensors, fixed, queue), deterministic(tensors, fixed, queue).
  template <typename Launch, typename Bound, typename Deterministic>
  std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
      const at::Tensor& grad_output, const std::array<at::ScalarType, 3>& types, Launch launch,
      Bound bound, Deterministic deterministic) {
    const at::Tensor grad = prepare(grad_output, types_.value);
    at::Tensor grad_offset = at::empty(offset_.sizes(), offset_.options());
    at::Tensor grad_factor = at::empty(factor_.sizes(), factor_.options());
    at::Tensor grad_value;
    tensors_.grad_output = grad.const_data_ptr();
    tensors_.grad_offset = grad_offset.mutable_data_ptr();
    tensors_.grad_factor = grad_factor.mutable_data_ptr();
    if (grad.numel() == 0 || factor_.numel() == 0) {  // no output or no sample: all gradients are 0
      grad_value = at::zeros(value_.sizes(), value_.options());
      grad_offset.zero_();
      grad_factor.zero_();
    } else if (fixed_point_) {
      grad_value = sum_in_fixed_point(bound, deterministic);
    } else {
      grad_value = at::zeros(value_.sizes(), value_.options().dtype(types_.sum));
      tensors_.grad_value = grad_value.mutable_data_ptr();
      launch(tensors_, current_queue());
      C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    return {grad_value.to(types[0]), grad_offset.to(types[1]), grad_factor.to(types[2])};
  }

 private:
  template <typename Bound, typename Deterministic>
  at::Tensor sum_in_fixed_point(Bound bound, Deterministic deterministic) {
    const int64_t size = value_.numel(), integers = types_.sum == at::kDouble ? 2 : 1;
    const at::TensorOptions options = value_.options().dtype(at::kLong);
    at::Tensor sums = at::zeros({integers * size}, options), most = at::zeros({1}, options);
    at::Tensor grad_value = at::empty(value_.sizes(), value_.options());
    FixedPoint fixed{};
    fixed.sums = reinterpret_cast<uint64_t*>(sums.mutable_data_ptr<int64_t>());
    fixed.bound = reinterpret_cast<uint64_t*>(most.mutable_data_ptr<int64_t>());
    fixed.size = size;
    fixed.log2_count = log2_up(factor_.numel());
    tensors_.grad_value = grad_value.mutable_data_ptr();
    const Queue queue = current_queue();
    bound(tensors_, fixed, queue);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    deterministic(tensors_, fixed, queue);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    launch_read_fixed_point(tensors_, fixed, queue);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return grad_value;
  }

  bool fixed_point_;  // sum the gradient to the values independently of the order of additions
  Types types_;
  at::Tensor value_, offset_, factor_;
  Tensors tensors_{};
};

}  // namespace cuda
}  // namespace bevstack
