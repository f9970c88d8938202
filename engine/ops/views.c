#include "ops/ops.h"
mb_status mb_cast(mb_tensor **out, mb_tensor *a, mb_dtype dtype) { (void)a; (void)dtype; *out = NULL; return MB_ERR_INTERNAL; }
mb_status mb_to_device(mb_tensor **out, mb_tensor *a, mb_device d) { (void)a; (void)d; *out = NULL; return MB_ERR_INTERNAL; }
