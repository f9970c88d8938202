/* SPDX-License-Identifier: MIT
 *
 * no_driver.c: a driver's library that has no device. cuDNN looks these functions up before it makes a plan for a device
 * that is only described to it; it compiles the plan's code and has it loaded, and nothing can be run. The name of
 * the last kernel can be asked for.
 */
#include <string.h>

typedef int status; /* CUresult */
enum { SUCCESS = 0, NO_DEVICE = 100 };

status cuDriverGetVersion(int *version) {
  *version = 13000;
  return SUCCESS;
}
status cuGetErrorString(status error, const char **text) {
  *text = error == SUCCESS ? "no error" : "no device";
  return SUCCESS;
}
status cuGetErrorName(status error, const char **text) { return cuGetErrorString(error, text); }

static int loaded;
status cuLibraryLoadData(void **library) {
  *library = &loaded;
  return SUCCESS;
}
status cuLibraryUnload(void *library) {
  (void)library;
  return SUCCESS;
}
static char last_kernel[256];
const char *no_driver_last_kernel(void) { return last_kernel; }
status cuLibraryGetKernel(void **kernel, void *library, const char *name) {
  (void)library;
  strncpy(last_kernel, name, sizeof last_kernel - 1);
  *kernel = &loaded;
  return SUCCESS;
}

#define REFUSES(name) \
  status name(void) { return NO_DEVICE; }
REFUSES(cuInit)
REFUSES(cuCtxGetCurrent)
REFUSES(cuCtxGetLimit)
REFUSES(cuCtxPopCurrent)
REFUSES(cuCtxPushCurrent)
REFUSES(cuDeviceGet)
REFUSES(cuDeviceGetCount)
REFUSES(cuGetExportTable)
REFUSES(cuKernelGetAttribute)
REFUSES(cuKernelGetFunction)
REFUSES(cuKernelSetAttribute)
REFUSES(cuLaunchCooperativeKernel)
REFUSES(cuLaunchKernel)
REFUSES(cuLaunchKernelEx)
REFUSES(cuLibraryLoadFromFile)
REFUSES(cuLinkAddData)
REFUSES(cuLinkComplete)
REFUSES(cuLinkCreate)
REFUSES(cuLinkDestroy)
REFUSES(cuOccupancyMaxPotentialClusterSize)
REFUSES(cuStreamGetCtx)
