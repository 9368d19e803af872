// Instances of the deformable convolution v3 kernels for the GPU. The file includes no torch
// header: nvcc compiles it once for each architecture, and torch's headers would dominate the time.
#include "common/launch.cuh"
#include "dcnv3/dcnv3_cuda.h"
#include "dcnv3/dcnv3_points.cuh"

namespace bevstack {

using gpu::Dcnv3Points;
using gpu::Launcher;

void launch_dcnv3(const Dcnv3Geometry& geometry, const Tensors& tensors, const Queue& queue) {
  gpu::dispatch_forward<Dcnv3Points>(geometry, gpu::extent_of(geometry), tensors, Launcher{queue});
}

void launch_dcnv3_backward(const Dcnv3Geometry& geometry, const Tensors& tensors,
                           const Queue& queue) {
  gpu::dispatch_backward<Dcnv3Points>(geometry, gpu::extent_of(geometry), tensors,
                                      Launcher{queue});
}

void launch_dcnv3_bound(const Dcnv3Geometry& geometry, const Tensors& tensors,
                        const FixedPoint& fixed, const Queue& queue) {
  gpu::dispatch_bound<Dcnv3Points>(geometry, gpu::extent_of(geometry), tensors, fixed,
                                   Launcher{queue});
}

void launch_dcnv3_deterministic(const Dcnv3Geometry& geometry, const Tensors& tensors,
                                const FixedPoint& fixed, const Queue& queue) {
  gpu::dispatch_deterministic<Dcnv3Points>(geometry, gpu::extent_of(geometry), tensors, fixed,
                                           Launcher{queue});
}

}  // namespace bevstack
