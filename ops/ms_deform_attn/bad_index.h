// Report of an index in value_index that no image has. Only the GPU reads the indices, and a call
// does not wait for it. So a kernel writes such an index to memory of the host, and the next call
// on the same GPU raises. The row of the index is NaN.
#pragma once

#include <string.h>

#include <c10/cuda/CUDAException.h>
#include <c10/util/Exception.h>

#include "ms_deform_attn/ms_deform_attn_levels.h"

namespace bevstack {
namespace cuda {

constexpr int kMostDevices = 64;

// Returns zeros that every GPU can write, one number for each. They are never freed: a captured
// graph may write them at any time.
inline int64_t* allocate_bad_indices() {
  void* memory = nullptr;
  // A capture that is in progress forbids allocations of its thread, unless it is relaxed.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  C10_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
  const cudaError_t error = cudaHostAlloc(&memory, kMostDevices * sizeof(int64_t),
                                          cudaHostAllocPortable | cudaHostAllocMapped);
  C10_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
  C10_CUDA_CHECK(error);
  memset(memory, 0, kMostDevices * sizeof(int64_t));
  return static_cast<int64_t*>(memory);
}

// Returns the number of one GPU, at an address that host and GPU share.
inline int64_t* bad_index_memory(int device) {
  static int64_t* const memory = allocate_bad_indices();
  TORCH_CHECK_VALUE(device >= 0 && device < kMostDevices, "value must be on one of the first ",
                    kMostDevices, " GPUs; got ", device);
  return memory + device;
}

// Raises once for a reported index.
inline void raise_bad_index(int64_t* memory) {
  const int64_t code = __atomic_load_n(memory, __ATOMIC_RELAXED);
  if (code == 0) return;
  __atomic_store_n(memory, 0, __ATOMIC_RELAXED);
  TORCH_CHECK_VALUE(false, "value_index must lie in the images of value; got ",
                    decode_bad_index(code), " in this or an earlier call on the GPU, whose row is "
                    "NaN: set CUDA_LAUNCH_BLOCKING=1 to raise in the call itself");
}

}  // namespace cuda
}  // namespace bevstack
