#define BEVSTACK_ISA avx2
#include "roi_align/roi_align_kernel.h"
