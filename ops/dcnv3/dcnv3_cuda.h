// The launches of deformable convolution v3 on a GPU. Each is one launch at most; its errors are
// read with cudaGetLastError.
#pragma once

#include "common/tensors.h"
#include "dcnv3/dcnv3.h"

namespace bevstack {

void launch_dcnv3(const Dcnv3Geometry&, const Tensors&, const Queue&);
void launch_dcnv3_backward(const Dcnv3Geometry&, const Tensors&, const Queue&);

// The same without dependence on the order of additions, in two launches; then read_fixed_point.
void launch_dcnv3_bound(const Dcnv3Geometry&, const Tensors&, const FixedPoint&, const Queue&);
void launch_dcnv3_deterministic(const Dcnv3Geometry&, const Tensors&, const FixedPoint&,
                                const Queue&);

}  // namespace bevstack
