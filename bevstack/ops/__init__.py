"""Operators: deformable convolution v3, multi-scale deformable attention and RoIAlign."""

from bevstack.ops.dcnv3 import dcnv3, dcnv3_output_size
from bevstack.ops.deformable_attention import deformable_attention
from bevstack.ops.library import KernelInfo, has_native_kernel, kernels, why_reference
from bevstack.ops.loading import BUILD_COMMAND, native_problem, native_state, source_digest
from bevstack.ops.ms_deform_attn import ms_deform_attn
from bevstack.ops.roi_align import roi_align

native_problem()  # loads the compiled kernels if they exist

__all__ = [
    "BUILD_COMMAND",
    "KernelInfo",
    "dcnv3",
    "dcnv3_output_size",
    "deformable_attention",
    "has_native_kernel",
    "kernels",
    "ms_deform_attn",
    "native_problem",
    "native_state",
    "roi_align",
    "source_digest",
    "why_reference",
]
