// SPDX-License-Identifier: MIT
//
// devices.c: which devices this process can use. The CPU is part of the library; the CUDA device comes from a plugin beside
// it, libmoonbow_cuda.so, opened when the device is first asked for. MOONBOW_CUDA_PLUGIN names another file.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cpu/device.h"
#include "backend/plugin.h"
#include "backend/profile.h"
#include "core/capture.h"

enum { PATH_CAPACITY = 4096, REASON_CAPACITY = 512 };

// Where the plugin is expected: in the folder of this library.
static int plugin_path(char *path) {
  const char *wish = getenv("MOONBOW_CUDA_PLUGIN");
  static const char inside_this_library;
  Dl_info here;
  if (wish) return snprintf(path, PATH_CAPACITY, "%s", wish) < PATH_CAPACITY;
  if (!dladdr(&inside_this_library, &here) || !here.dli_fname) return 0;
  const char *end = strrchr(here.dli_fname, '/');
  int folder = end ? (int)(end - here.dli_fname) + 1 : 0;
  return snprintf(path, PATH_CAPACITY, "%.*slibmoonbow_cuda.so", folder, here.dli_fname) < PATH_CAPACITY;
}

// Without the driver there is no device, and the plugin, whose libraries are large, need not be loaded to find that out.
static mb_status check_driver(void) {
  if (getenv("MOONBOW_CUDA_PLUGIN")) return MB_OK; // the file that was asked for may need none
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) MB_FAIL(MB_ERR_DEVICE, "device cuda is not available: there is no NVIDIA driver: %s", dlerror());
  dlclose(driver);
  return MB_OK;
}

static mb_status take(void **out, size_t bytes) { return mbi_work_take(out, MB_CUDA, bytes); }
static void give(void *data, size_t bytes) { mbi_work_give(MB_CUDA, data, bytes); }

static mb_status open_plugin(const mbi_device **out) {
  char path[PATH_CAPACITY];
  if (!plugin_path(path)) MB_FAIL(MB_ERR_DEVICE, "device cuda is not available: the path of its plugin is too long");
  if (access(path, R_OK) != 0) MB_FAIL(MB_ERR_DEVICE, "device cuda is not available: there is no %s; it is built where nvcc is found", path);
  MB_TRY(check_driver());
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) MB_FAIL(MB_ERR_DEVICE, "device cuda is not available: %s", dlerror());
  mbi_plugin_opener *open;
  *(void **)&open = dlsym(library, "mbi_plugin_open");
  if (!open) MB_FAIL(MB_ERR_DEVICE, "device cuda is not available: %s is not a plugin of moonbow", path);
  static const mbi_plugin_host host = {.abi = MBI_PLUGIN_ABI, .fail = mbi_fail, .fail_in = mbi_fail_in, .take = take, .give = give};
  return open(out, &host);
}

static int tf32_is_allowed(void) {
  const char *wish = getenv("MOONBOW_TF32");
  return wish && strcmp(wish, "1") == 0;
}
static int tf32 = -1; // until it is set or asked for
static int bits_may_differ(void) {
  const char *wish = getenv("MOONBOW_DETERMINISTIC");
  return wish && strcmp(wish, "0") == 0;
}
static int deterministic = -1;
static const mbi_device *opened; // cuda, once it is

// The plugin is looked for once; what it answered then is the answer ever after.
static const mbi_device *cuda_device(void) {
  static char reason[REASON_CAPACITY];
  if (opened) return opened;
  if (!*reason && open_plugin(&opened) == MB_OK) {
    if (opened->allow_tf32) opened->allow_tf32(mb_tf32());
    if (opened->keep_bits) opened->keep_bits(mb_deterministic());
    return opened;
  }
  if (!*reason) snprintf(reason, sizeof reason, "%s", mb_last_error());
  mbi_fail(MB_ERR_DEVICE, "%s", reason);
  return NULL;
}

int mb_tf32(void) {
  if (tf32 < 0) tf32 = tf32_is_allowed();
  return tf32;
}

// A device that is not open yet learns it when it is.
void mb_tf32_set(int allowed) {
  tf32 = allowed != 0;
  if (opened && opened->allow_tf32) opened->allow_tf32(tf32);
}

int mb_deterministic(void) {
  if (deterministic < 0) deterministic = !bits_may_differ();
  return deterministic;
}

void mb_deterministic_set(int wanted) {
  deterministic = wanted != 0;
  if (opened && opened->keep_bits) opened->keep_bits(deterministic);
}

const mbi_device *mbi_device_of(mb_device device) {
  const mbi_device *found = device == MB_CPU ? mbi_cpu_device() : cuda_device();
  return mbi_profile_is_on ? mbi_profiled(device, found) : found;
}

mb_status mb_device_check(mb_device device) {
  if (device != MB_CPU && device != MB_CUDA) MB_FAIL(MB_ERR_DEVICE, "mb_device_check: unknown device %d", (int)device);
  const mbi_device *found = mbi_device_of(device);
  return found ? found->usable() : MB_ERR_DEVICE;
}

mb_status mb_device_synchronize(mb_device device) {
  MB_TRY(mb_device_check(device));
  MB_TRY(mbi_device_of(device)->synchronize());
  return mbi_capture_settle(device);
}

int64_t mb_device_waits(mb_device device) { return mb_device_check(device) == MB_OK ? mbi_device_of(device)->waits() : -1; }

mb_status mb_device_info(mb_device_facts *out, mb_device device) {
  MB_TRY(mb_device_check(device));
  const mbi_device *found = mbi_device_of(device);
  *out = (mb_device_facts){0};
  snprintf(out->name, sizeof out->name, "%s", found->name);
  return found->info ? found->info(out) : MB_OK;
}

// The device, or MB_OK without one: a device that was never used has chosen nothing.
static mb_status device_with_choices(const mbi_device **out, mb_device device, const char *who) {
  *out = NULL;
  if (device != MB_CPU && device != MB_CUDA) MB_FAIL(MB_ERR_DEVICE, "%s: unknown device %d", who, (int)device);
  *out = device == MB_CPU ? mbi_cpu_device() : opened;
  return MB_OK;
}

mb_status mb_choices(const char **out, mb_device device) {
  const mbi_device *found;
  *out = "";
  MB_TRY(device_with_choices(&found, device, "mb_choices"));
  return found && found->choices ? found->choices(out) : MB_OK;
}

mb_status mb_device_notes(const char **out, mb_device device) {
  const mbi_device *found;
  *out = "";
  MB_TRY(device_with_choices(&found, device, "mb_device_notes"));
  return found && found->notes ? found->notes(out) : MB_OK;
}

mb_status mb_choices_set(mb_device device, const char *text) {
  const mbi_device *found;
  MB_TRY(device_with_choices(&found, device, "mb_choices_set"));
  if (!text) MB_FAIL(MB_ERR_ARG, "mb_choices_set: the text is NULL");
  if (!*text) return MB_OK;
  if (!found || !found->set_choices) MB_FAIL(MB_ERR_STATE, "mb_choices_set: the device in use has no choices of algorithms");
  return found->set_choices(text);
}

const char *mb_build_info(void) {
  static char text[256];
  snprintf(text, sizeof text, "moonbow %s, gcc %s, simd %s, gemm %s, %d threads", MOONBOW_VERSION, __VERSION__, mbi_cpu_level(),
           mbi_gemm_library(), mb_threads());
  return text;
}
