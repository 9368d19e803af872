#define BEVSTACK_ISA avx512
#include "ms_deform_attn/ms_deform_attn_kernel.h"
