#define BEVSTACK_ISA baseline
#include "dcnv3/dcnv3_kernel.h"
