// SPDX-License-Identifier: MIT
//
// devices.c: which devices this process can use.
#include <stdio.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"

const mbi_device *mbi_device_of(mb_device device) {
  if (device == MB_CPU) return mbi_cpu_device();
  mbi_fail(MB_ERR_DEVICE, "device cuda is not available: this build has no CUDA backend");
  return NULL;
}

mb_status mb_device_check(mb_device device) {
  if (device != MB_CPU && device != MB_CUDA) MB_FAIL(MB_ERR_DEVICE, "mb_device_check: unknown device %d", (int)device);
  return mbi_device_of(device) ? MB_OK : MB_ERR_DEVICE;
}

const char *mb_build_info(void) {
  static char text[256];
  snprintf(text, sizeof text, "moonbow %s, gcc %s, simd %s, gemm %s, %d threads", MOONBOW_VERSION, __VERSION__, mbi_cpu_level(),
           mbi_gemm_library(), mb_threads());
  return text;
}
