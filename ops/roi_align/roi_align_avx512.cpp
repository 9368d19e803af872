#define BEVSTACK_ISA avx512
#include "roi_align/roi_align_kernel.h"
