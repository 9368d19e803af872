#define BEVSTACK_ISA baseline
#include "ms_deform_attn/ms_deform_attn_kernel.h"
