#define BEVSTACK_ISA avx512
#include "dcnv3/dcnv3_kernel.h"
