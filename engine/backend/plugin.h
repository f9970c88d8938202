// SPDX-License-Identifier: MIT
//
// plugin.h: a device that lives in a shared library of its own, so that the engine needs neither its driver nor its
// compiler. devices.c opens the library when the device is first asked for; the library finds its device, or says why there
// is none. The engine's hidden functions reach the plugin through a table.
#ifndef MBI_PLUGIN_H
#define MBI_PLUGIN_H
#include "backend/backend.h"

enum { MBI_PLUGIN_ABI = 15 };

typedef struct mbi_plugin_host {
  int abi;                                                   // MBI_PLUGIN_ABI
  mb_status (*fail)(mb_status status, const char *format, ...); // core/status.h mbi_fail
  mb_status (*fail_in)(mb_status status, const char *prefix);   // core/status.h mbi_fail_in
  // Work memory on the device, through the engine's books (core/blocks.h): within the limit, cached blocks give way to it.
  mb_status (*take)(void **out, size_t bytes);
  void (*give)(void *data, size_t bytes);
} mbi_plugin_host;

// What the library exports as mbi_plugin_open: the device's table, which stays valid for the process. On failure
// `host->fail` has been given the reason.
typedef mb_status mbi_plugin_opener(const mbi_device **out, const mbi_plugin_host *host);
#endif
