#define BEVSTACK_ISA baseline
#include "roi_align/roi_align_kernel.h"
