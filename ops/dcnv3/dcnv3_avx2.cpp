#define BEVSTACK_ISA avx2
#include "dcnv3/dcnv3_kernel.h"
