#include "backend/cpu/device.h"
const char *mbi_gemm_library(void) { return "none"; }
