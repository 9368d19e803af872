// The tensors of a call for the CUDA kernels, declared without torch or CUDA headers.
#pragma once

#include <stdint.h>

struct CUstream_st;  // cudaStream_t points to it

namespace bevstack {

// Storage type of a tensor.
enum class NumberType : int { float64 = 0, float32 = 1, float16 = 2, bfloat16 = 3 };

// Kernels are specialised for these numbers of channels of a group; one more handles any number.
constexpr bool has_own_kernel(int64_t channels) { return channels == 16 || channels == 32; }

// All tensors are contiguous and aligned to 16 bytes. Offsets, factors and their gradients have
// offset_type, values and outputs value_type. Both types are float32, or both float64, if no kernel
// is specialised for the number of channels or if sums are in fixed point. Both are float64 if one
// is. The gradient to the values is summed in float32, or in float64 for float64.
struct Tensors {
  NumberType value_type;
  NumberType offset_type;
  const void* value;   // images of (pixels, G, D)
  const void* offset;  // (rows, G, P, 2)
  const void* factor;  // (rows, G, P)
  void* output;        // (rows, G, D)
  // In the backward pass:
  const void* grad_output;
  void* grad_value;  // zeros
  void* grad_offset;
  void* grad_factor;
};

// Memory of fixed-point sums, which do not depend on the order of additions, for the gradient to
// the values.
struct FixedPoint {
  uint64_t* sums;   // zeros, one for each number of value; two for each for float64
  uint64_t* bound;  // zero, then the bits of the largest magnitude that is added, as float64
  int64_t size;     // numbers in value
  int log2_count;   // at most 2^log2_count numbers are added to one sum
};

// The stream and device that kernels are launched on.
struct Queue {
  CUstream_st* stream;
  int processors;  // of the device
};

}  // namespace bevstack
