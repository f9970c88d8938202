// SPDX-License-Identifier: MIT
//
// device.c: the CPU as a device: memory, numbers of any dtype, and the choice of kernel tables.
// MOONBOW_ISA=base|v3|v4 overrides the choice, downwards only. Copies between views are in copy.c.
#define _GNU_SOURCE
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "backend/cpu/device.h"
#include "core/storage.h"

enum { HUGE_FROM = 4 << 20, HUGE_PAGE = 2 << 20, PARALLEL_BYTES = 1 << 20, PARALLEL_COUNT = 1 << 17 };

// ----- memory ---------------------------------------------------------------------------------------

// Large blocks are mapped by themselves: they start as zero pages that cost nothing until they are touched,
// and go back to the system whole. They begin on a 2 MiB boundary and ask for huge pages, which means fewer
// faults at first touch and fewer TLB misses in matrix products.
static mb_status map_pages(void **out, size_t bytes) {
  char *start = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) MB_FAIL(MB_ERR_NOMEM, "out of memory: %zu bytes", bytes);
  size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE, after = HUGE_PAGE - before;
  if (before) munmap(start, before);
  if (after) munmap(start + before + bytes, after);
  *out = start + before;
  madvise(*out, bytes, MADV_HUGEPAGE);
  return MB_OK;
}

static size_t whole_pages(size_t bytes) { return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE; }

static mb_status cpu_allocate(void **out, int *is_zero, size_t bytes) {
  *is_zero = bytes >= HUGE_FROM;
  if (*is_zero) return map_pages(out, whole_pages(bytes));
  *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!*out) MB_FAIL(MB_ERR_NOMEM, "out of memory: %zu bytes", bytes);
  return MB_OK;
}

static void cpu_release(void *data, size_t bytes) {
  if (bytes >= HUGE_FROM) munmap(data, whole_pages(bytes));
  else free(data);
}

mb_status mbi_cpu_copy(void *to, const void *from, size_t bytes) {
  if (bytes < PARALLEL_BYTES) {
    memcpy(to, from, bytes);
    return MB_OK;
  }
#pragma omp parallel for schedule(static)
  for (size_t start = 0; start < bytes; start += PARALLEL_BYTES) {
    size_t n = bytes - start < PARALLEL_BYTES ? bytes - start : PARALLEL_BYTES;
    memcpy((char *)to + start, (const char *)from + start, n);
  }
  return MB_OK;
}

static mb_status cpu_zero(void *data, size_t bytes) {
#pragma omp parallel for schedule(static) if (bytes >= PARALLEL_BYTES)
  for (size_t start = 0; start < bytes; start += PARALLEL_BYTES)
    memset((char *)data + start, 0, bytes - start < PARALLEL_BYTES ? bytes - start : PARALLEL_BYTES);
  return MB_OK;
}

// ----- numbers of any dtype -----------------------------------------------------------------------------

static double from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return (double)value;
}

// The nearest bf16, of two the even one; NaN stays NaN.
static uint16_t to_bf16(double x) {
  float value = (float)x;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double load(const void *data, mb_dtype dtype, int64_t i) {
  switch (dtype) {
    case MB_F32: return (double)((const float *)data)[i];
    case MB_F64: return ((const double *)data)[i];
    case MB_I32: return ((const int32_t *)data)[i];
    case MB_U16: return ((const uint16_t *)data)[i];
    case MB_BF16: return from_bf16(((const uint16_t *)data)[i]);
    default: return ((const uint8_t *)data)[i];
  }
}

// Floats become integers by truncation, held within the type's range; NaN becomes 0.
static double held(double x, double low, double high) { return x != x ? 0 : x < low ? low : x > high ? high : x; }

static void store(void *data, mb_dtype dtype, int64_t i, double x) {
  switch (dtype) {
    case MB_F32: ((float *)data)[i] = (float)x; break;
    case MB_F64: ((double *)data)[i] = x; break;
    case MB_I32: ((int32_t *)data)[i] = (int32_t)held(x, INT32_MIN, INT32_MAX); break;
    case MB_U16: ((uint16_t *)data)[i] = (uint16_t)held(x, 0, UINT16_MAX); break;
    case MB_BF16: ((uint16_t *)data)[i] = to_bf16(x); break;
    default: ((uint8_t *)data)[i] = (uint8_t)held(x, 0, UINT8_MAX); break;
  }
}

static mb_status cpu_convert(void *dst, mb_dtype dst_dtype, const void *src, mb_dtype src_dtype, int64_t count) {
  if (dst_dtype == src_dtype) return mbi_cpu_copy(dst, src, (size_t)count * mbi_dtype_size(dst_dtype));
  if (dst_dtype == MB_F64 && src_dtype == MB_F32) { // the two common ones as vector code
    double *to = dst;
    const float *from = src;
#pragma omp parallel for simd schedule(static) if (count >= PARALLEL_COUNT)
    for (int64_t i = 0; i < count; i++) to[i] = (double)from[i];
    return MB_OK;
  }
  if (dst_dtype == MB_F32 && src_dtype == MB_F64) {
    float *to = dst;
    const double *from = src;
#pragma omp parallel for simd schedule(static) if (count >= PARALLEL_COUNT)
    for (int64_t i = 0; i < count; i++) to[i] = (float)from[i];
    return MB_OK;
  }
#pragma omp parallel for schedule(static) if (count >= PARALLEL_COUNT)
  for (int64_t i = 0; i < count; i++) store(dst, dst_dtype, i, load(src, src_dtype, i));
  return MB_OK;
}

static mb_status cpu_fill(void *dst, mb_dtype dtype, double value, int64_t count) {
  if (value == 0.0 && !signbit(value)) return cpu_zero(dst, (size_t)count * mbi_dtype_size(dtype));
  if (dtype == MB_F32) {
    float *to = dst, number = (float)value;
#pragma omp parallel for simd schedule(static) if (count >= PARALLEL_COUNT)
    for (int64_t i = 0; i < count; i++) to[i] = number;
    return MB_OK;
  }
#pragma omp parallel for schedule(static) if (count >= PARALLEL_COUNT)
  for (int64_t i = 0; i < count; i++) store(dst, dtype, i, value);
  return MB_OK;
}

static mb_status cpu_check_ids(int64_t *bad, const void *ids, mb_dtype dtype, int64_t count, int64_t limit, int64_t ignored) {
  *bad = -1;
  for (int64_t i = 0; i < count; i++) {
    int64_t id = (int64_t)load(ids, dtype, i);
    if (id != ignored && (id < 0 || id >= limit)) {
      *bad = i;
      return MB_OK;
    }
  }
  return MB_OK;
}

// Calls return when their work is done; what would be a wait elsewhere is counted.
static int64_t waits;
static int64_t cpu_waits(void) { return waits; }
static mb_status cpu_synchronize(void) {
  waits++;
  return MB_OK;
}
static mb_status cpu_copy_out(void *host, const void *device, size_t bytes) {
  waits++;
  return mbi_cpu_copy(host, device, bytes);
}
static mb_status cpu_usable(void) { return MB_OK; }
static void cpu_trim(void) {}

// What Linux believes new work could have without swapping, and all memory.
static mb_status cpu_room(int64_t *free_bytes, int64_t *total_bytes) {
  char line[128];
  long long kib;
  *free_bytes = *total_bytes = 0;
  FILE *file = fopen("/proc/meminfo", "r");
  if (!file) MB_FAIL(MB_ERR_IO, "free memory is not known: /proc/meminfo cannot be read");
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "MemTotal: %lld", &kib) == 1) *total_bytes = kib * 1024;
    if (sscanf(line, "MemAvailable: %lld", &kib) == 1) *free_bytes = kib * 1024;
  }
  fclose(file);
  return MB_OK;
}

// ----- mail ---------------------------------------------------------------------------------------------

struct mbi_mail {
  size_t bytes;
  void *data;
};

static void cpu_mail_free(mbi_mail *mail) {
  mbi_free(mail->data);
  mbi_free(mail);
}

static mb_status cpu_mail_new(mbi_mail **out, size_t bytes) {
  void *memory;
  *out = NULL;
  MB_TRY(mbi_calloc(&memory, "mail", 1, sizeof(mbi_mail)));
  mbi_mail *mail = memory;
  mail->bytes = bytes;
  mb_status status = mbi_calloc(&mail->data, "mail", bytes, 1);
  if (status != MB_OK) cpu_mail_free(mail);
  else *out = mail;
  return status;
}

static mb_status cpu_mail_send(mbi_mail *mail, const void *device) { return mbi_cpu_copy(mail->data, device, mail->bytes); }

static mb_status cpu_mail_open(const void **data, mbi_mail *mail) {
  *data = mail->data;
  return MB_OK;
}

// ----- the device ---------------------------------------------------------------------------------------

extern const mbi_kernels mbk_cpu_table_f32_base, mbk_cpu_table_f32_v3, mbk_cpu_table_f32_v4;
extern const mbi_kernels mbk_cpu_table_f64_base, mbk_cpu_table_f64_v3, mbk_cpu_table_f64_v4;

static const struct {
  const char *name;
  const mbi_kernels *f32, *f64;
} levels[] = {
  {"base", &mbk_cpu_table_f32_base, &mbk_cpu_table_f64_base},
  {"v3", &mbk_cpu_table_f32_v3, &mbk_cpu_table_f64_v3},
  {"v4", &mbk_cpu_table_f32_v4, &mbk_cpu_table_f64_v4},
};

static mbi_device cpu = {
  .name = "cpu", .allocate = cpu_allocate, .release = cpu_release, .copy_in = mbi_cpu_copy, .copy_out = cpu_copy_out, .zero = cpu_zero,
  .synchronize = cpu_synchronize, .waits = cpu_waits, .room = cpu_room, .trim = cpu_trim, .usable = cpu_usable,
  .mail_new = cpu_mail_new, .mail_free = cpu_mail_free, .mail_send = cpu_mail_send, .mail_open = cpu_mail_open,
  .copy_view = mbi_cpu_copy_view, .convert = cpu_convert, .fill = cpu_fill, .check_ids = cpu_check_ids,
};
static int level = -1;

static int best_level(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return 2;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") ? 1 : 0;
}

static void choose_level(void) {
  level = best_level();
  const char *wish = getenv("MOONBOW_ISA");
  for (int i = 0; wish && i < level; i++)
    if (strcmp(wish, levels[i].name) == 0) level = i;
  cpu.kernels[MB_F32] = levels[level].f32;
  cpu.kernels[MB_F64] = levels[level].f64;
}

const mbi_device *mbi_cpu_device(void) {
  if (level < 0) choose_level();
  return &cpu;
}

const char *mbi_cpu_level(void) {
  mbi_cpu_device();
  return levels[level].name;
}

mb_status mb_threads_set(int threads) {
  if (threads < 1 || threads > 4096) MB_FAIL(MB_ERR_ARG, "mb_threads_set: %d threads, a number from 1 to 4096 was expected", threads);
  omp_set_num_threads(threads);
  return MB_OK;
}
int mb_threads(void) { return omp_get_max_threads(); }
