// The kernel launches of deformable convolution v3. Each function makes at most one launch; the
// caller reads its error with cudaGetLastError.
#pragma once

#include "common/tensors.h"
#include "dcnv3/dcnv3.h"

namespace bevstack {

void launch_dcnv3(const Dcnv3Geometry&, const Tensors&, const Queue&);
void launch_dcnv3_backward(const Dcnv3Geometry&, const Tensors&, const Queue&);

// The backward pass in fixed point, whose sums do not depend on the order of additions: call both,
// then launch_read_fixed_point.
void launch_dcnv3_bound(const Dcnv3Geometry&, const Tensors&, const FixedPoint&, const Queue&);
void launch_dcnv3_deterministic(const Dcnv3Geometry&, const Tensors&, const FixedPoint&,
                                const Queue&);

}  // namespace bevstack
