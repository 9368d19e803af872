"""The project's operators: deformable convolution v3 and multi-scale deformable attention."""

from bevstack.ops.dcnv3 import dcnv3, dcnv3_output_size
from bevstack.ops.library import KernelInfo, kernels, native_problem
from bevstack.ops.ms_deform_attn import ms_deform_attn

native_problem()  # loads the compiled kernels where there are any

__all__ = [
    "KernelInfo",
    "dcnv3",
    "dcnv3_output_size",
    "kernels",
    "ms_deform_attn",
    "native_problem",
]
