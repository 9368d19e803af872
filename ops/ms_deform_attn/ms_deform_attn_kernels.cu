// Instances of the multi-scale deformable attention kernels for the GPU. The file includes no torch
// header: nvcc compiles it once for each architecture, and torch's headers would dominate the time.
#include "common/launch.cuh"
#include "ms_deform_attn/ms_deform_attn_cuda.h"
#include "ms_deform_attn/ms_deform_attn_points.cuh"

namespace bevstack {

using gpu::MsDeformAttnPoints;
using gpu::Launcher;

void launch_ms_deform_attn(const MsDeformAttnLevels& levels, const Tensors& tensors, const Queue& queue) {
  gpu::dispatch_forward<MsDeformAttnPoints>(levels, gpu::extent_of(levels), tensors, Launcher{queue});
}

void launch_ms_deform_attn_backward(const MsDeformAttnLevels& levels, const Tensors& tensors,
                           const Queue& queue) {
  gpu::dispatch_backward<MsDeformAttnPoints>(levels, gpu::extent_of(levels), tensors,
                                      Launcher{queue});
}

void launch_ms_deform_attn_bound(const MsDeformAttnLevels& levels, const Tensors& tensors,
                        const FixedPoint& fixed, const Queue& queue) {
  gpu::dispatch_bound<MsDeformAttnPoints>(levels, gpu::extent_of(levels), tensors, fixed,
                                   Launcher{queue});
}

void launch_ms_deform_attn_deterministic(const MsDeformAttnLevels& levels, const Tensors& tensors,
                                const FixedPoint& fixed, const Queue& queue) {
  gpu::dispatch_deterministic<MsDeformAttnPoints>(levels, gpu::extent_of(levels), tensors, fixed,
                                           Launcher{queue});
}

}  // namespace bevstack
