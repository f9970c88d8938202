// SPDX-License-Identifier: MIT
//
// profile.c: what a device was asked to do between mb_profile_begin and mb_profile_end: a row for each slot, dtype and shape, with
// its calls, their time and their cost. While a profile is on, mbi_device_of answers with a device of this file, whose functions
// note a call and hand it on; otherwise nothing is paid but that question.
//
// Times on a device with a queue are those between two stamps in the queue, before a call's work and behind it; they are read at
// the end, so nothing waits in between. Elsewhere they are the clock's.
#include "backend/profile.h"

#include <stdlib.h>
#include <string.h>

#include "backend/costs.h"
#include "core/storage.h"

int mbi_profile_is_on;

typedef struct row {
  mb_profile_row said;        // what is reported; its texts are `name` and `shape`
  const char *name;
  char shape[MBI_COST_SHAPE];
  uint64_t hash;
  int64_t next;               // of the same bucket, -1 at its end
} row;

// A call whose time the device still keeps.
typedef struct pending {
  int64_t row, from, to;      // stamps
} pending;

typedef struct call {
  mb_device where;
  const char *name;
  mbi_cost cost;
  int64_t from, launches;
  double began;
} call;

enum { DEVICES = 2, BUCKETS = 1024, MOST_PENDING = 16384 };

static struct {
  const mbi_device *real;
  mbi_device noting;
} devices[DEVICES];

static row *noted;
static int64_t n_rows, rows_capacity, bucket[BUCKETS];
static pending *waiting;      // of cuda
static int64_t n_waiting, waiting_capacity;
static mb_status problem;     // the first one: the report is given up, the work goes on
static char problem_text[256];

static void give_up(mb_status status) {
  if (problem != MB_OK) return;
  problem = status;
  strncpy(problem_text, mb_last_error(), sizeof problem_text - 1);
}

static int grow(void **items, int64_t *capacity, int64_t count, size_t size) {
  if (count < *capacity) return 1;
  int64_t wanted = *capacity ? 2 * *capacity : 256;
  void *larger = realloc(*items, (size_t)wanted * size);
  if (!larger) {
    mbi_fail(MB_ERR_NOMEM, "mb_profile_end: out of memory for %lld rows", (long long)wanted);
    give_up(MB_ERR_NOMEM);
    return 0;
  }
  *items = larger, *capacity = wanted;
  return 1;
}

// ----- rows ------------------------------------------------------------------------------------------------------------

static uint64_t hash_of(const call *c) {
  uint64_t hash = 1469598103934665603u; // FNV-1a
  for (const char *p = c->name; *p; p++) hash = (hash ^ (uint8_t)*p) * 1099511628211u;
  for (const char *p = c->cost.shape; *p; p++) hash = (hash ^ (uint8_t)*p) * 1099511628211u;
  hash = (hash ^ (uint64_t)c->cost.dtype) * 1099511628211u;
  return (hash ^ (uint64_t)c->where) * 1099511628211u;
}

static int64_t row_of(const call *c) {
  uint64_t hash = hash_of(c);
  int64_t *head = &bucket[hash % BUCKETS];
  for (int64_t i = *head; i >= 0; i = noted[i].next)
    if (noted[i].hash == hash && strcmp(noted[i].name, c->name) == 0 && strcmp(noted[i].shape, c->cost.shape) == 0 &&
        noted[i].said.dtype == c->cost.dtype && noted[i].said.device == c->where)
      return i;
  if (!grow((void **)&noted, &rows_capacity, n_rows, sizeof *noted)) return -1;
  row *r = &noted[n_rows];
  *r = (row){.name = c->name, .hash = hash, .next = *head};
  memcpy(r->shape, c->cost.shape, sizeof r->shape);
  r->said.device = c->where, r->said.dtype = c->cost.dtype, r->said.is_product = c->cost.is_product;
  *head = n_rows;
  return n_rows++;
}

// ----- a call ---------------------------------------------------------------------------------------------------

// Times of the calls whose work is done: waits for the device, once for many calls.
static void settle(void) {
  const mbi_device *device = devices[MB_CUDA].real;
  if (!n_waiting || !device) return;
  mb_status status = device->synchronize();
  for (int64_t i = 0; i < n_waiting && status == MB_OK; i++) {
    double seconds;
    status = device->stamp_seconds(&seconds, waiting[i].from, waiting[i].to);
    if (status == MB_OK) noted[waiting[i].row].said.seconds += seconds;
  }
  for (int64_t i = 0; i < n_waiting; i++) device->release_stamp(waiting[i].from), device->release_stamp(waiting[i].to);
  n_waiting = 0;
  if (status != MB_OK) give_up(status);
}

static int64_t launches_of(const mbi_device *device) { return device->launches ? device->launches() : 0; }

static int64_t stamp(const mbi_device *device) {
  int64_t number = -1;
  mb_status status = device->stamp(&number);
  if (status != MB_OK) give_up(status);
  return number;
}

static void begin(call *c, mb_device where, mb_dtype dtype, const char *name) {
  c->where = where, c->name = name, c->from = -1;
  c->cost = (mbi_cost){.dtype = dtype};
}

static void start(call *c) {
  const mbi_device *device = devices[c->where].real;
  c->launches = launches_of(device);
  c->began = mb_time();
  if (!device->stamp || problem != MB_OK) return;
  if (n_waiting >= MOST_PENDING) settle();
  c->from = stamp(device);
}

static mb_status finish(call *c, mb_status status) {
  const mbi_device *device = devices[c->where].real;
  double ended = mb_time();
  int64_t to = c->from >= 0 && problem == MB_OK ? stamp(device) : -1;
  int64_t at = status == MB_OK && problem == MB_OK ? row_of(c) : -1;
  if (at < 0) {
    if (device->stamp) device->release_stamp(c->from), device->release_stamp(to);
    return status;
  }
  mb_profile_row *said = &noted[at].said;
  said->calls++;
  said->launches += device->launches ? device->launches() - c->launches : 1;
  said->bytes += c->cost.bytes, said->flops += c->cost.flops;
  if (!device->stamp) said->seconds += ended - c->began;
  else if (to >= 0 && grow((void **)&waiting, &waiting_capacity, n_waiting, sizeof *waiting))
    waiting[n_waiting++] = (pending){at, c->from, to};
  return status;
}

// ----- tables ---------------------------------------------------------------------------------------------------

#define NAMED(name) cpu_f32_##name
#define WHERE MB_CPU
#define DTYPE MB_F32
#define TABLE cpu_f32
#include "backend/profile_table.h"
#define NAMED(name) cpu_f64_##name
#define WHERE MB_CPU
#define DTYPE MB_F64
#define TABLE cpu_f64
#include "backend/profile_table.h"
#define NAMED(name) cuda_f32_##name
#define WHERE MB_CUDA
#define DTYPE MB_F32
#define TABLE cuda_f32
#include "backend/profile_table.h"
#define NAMED(name) cuda_f64_##name
#define WHERE MB_CUDA
#define DTYPE MB_F64
#define TABLE cuda_f64
#include "backend/profile_table.h"
#define NAMED(name) cuda_bf16_##name
#define WHERE MB_CUDA
#define DTYPE MB_BF16
#define TABLE cuda_bf16
#include "backend/profile_table.h"

static const mbi_kernels *const tables[DEVICES][MB_DTYPE_COUNT] = {
  [MB_CPU] = {[MB_F32] = &cpu_f32, [MB_F64] = &cpu_f64},
  [MB_CUDA] = {[MB_F32] = &cuda_f32, [MB_F64] = &cuda_f64, [MB_BF16] = &cuda_bf16},
};

// ----- copies and fills -----------------------------------------------------------------------------------------
// One function for each device, because a device's functions are not told which one they are of.

static void bytes_moved(call *c, mb_device where, mb_dtype dtype, const char *name, double bytes, int64_t elements) {
  begin(c, where, dtype, name);
  c->cost.bytes = bytes;
  mbi_cost_shape(&c->cost, "%lld", (long long)elements);
  start(c);
}

#define ON_BOTH(type, name, parameters, body)                               \
  static type cpu_##name parameters { const mb_device where = MB_CPU; body } \
  static type cuda_##name parameters { const mb_device where = MB_CUDA; body }
#define REAL (devices[where].real)

ON_BOTH(mb_status, copy_in, (void *device, const void *host, size_t bytes), {
  call c;
  bytes_moved(&c, where, MB_U8, "copy_in", (double)bytes, (int64_t)bytes);
  return finish(&c, REAL->copy_in(device, host, bytes));
})
ON_BOTH(mb_status, copy_out, (void *host, const void *device, size_t bytes), {
  call c;
  bytes_moved(&c, where, MB_U8, "copy_out", (double)bytes, (int64_t)bytes);
  return finish(&c, REAL->copy_out(host, device, bytes));
})
ON_BOTH(mb_status, zero, (void *device, size_t bytes), {
  call c;
  bytes_moved(&c, where, MB_U8, "zero", (double)bytes, (int64_t)bytes);
  return finish(&c, REAL->zero(device, bytes));
})
ON_BOTH(mb_status, fill, (void *dst, mb_dtype dtype, double value, int64_t count), {
  call c;
  bytes_moved(&c, where, dtype, "fill", (double)count * (double)mbi_dtype_size(dtype), count);
  return finish(&c, REAL->fill(dst, dtype, value, count));
})
ON_BOTH(mb_status, convert, (void *dst, mb_dtype dst_dtype, const void *src, mb_dtype src_dtype, int64_t count), {
  call c;
  begin(&c, where, dst_dtype, "convert");
  c.cost.bytes = (double)count * (double)(mbi_dtype_size(dst_dtype) + mbi_dtype_size(src_dtype));
  mbi_cost_shape(&c.cost, "%lld from %s", (long long)count, mbi_dtype_name(src_dtype));
  start(&c);
  return finish(&c, REAL->convert(dst, dst_dtype, src, src_dtype, count));
})
ON_BOTH(mb_status, copy_view, (const mbi_view *dst, const mbi_view *src, size_t element), {
  call c;
  begin(&c, where, element == 1 ? MB_U8 : element == 2 ? MB_BF16 : element == 4 ? MB_F32 : MB_F64, "copy_view");
  c.cost.bytes = (double)(mbi_view_elements(dst) + mbi_view_elements(src)) * (double)element;
  mbi_cost_view(&c.cost, dst);
  start(&c);
  return finish(&c, REAL->copy_view(dst, src, element));
})
ON_BOTH(mb_status, check_ids, (int64_t *bad, const void *ids, mb_dtype dtype, int64_t count, int64_t limit, int64_t ignored), {
  call c;
  bytes_moved(&c, where, dtype, "check_ids", (double)count * (double)mbi_dtype_size(dtype), count);
  return finish(&c, REAL->check_ids(bad, ids, dtype, count, limit, ignored));
})

ON_BOTH(mb_status, clean_ids, (int32_t *clean, int64_t *found, const int32_t *ids, int64_t count, int64_t limit, int64_t ignored,
                               int32_t instead), {
  call c;
  bytes_moved(&c, where, MB_I32, "clean_ids", 8 * (double)count, count);
  return finish(&c, REAL->clean_ids(clean, found, ids, count, limit, ignored, instead));
})
// All that was captured is one call, whose cost is not known any more.
ON_BOTH(mb_status, replay, (mbi_captured *captured), {
  call c;
  begin(&c, where, MB_U8, "replay");
  start(&c);
  return finish(&c, REAL->replay(captured));
})

const mbi_device *mbi_profiled(mb_device which, const mbi_device *device) {
  if (!device || devices[which].real == device) return device ? &devices[which].noting : NULL;
  devices[which].real = device;
  mbi_device *d = &devices[which].noting;
  *d = *device;
#define CHOOSE(name) d->name = which == MB_CPU ? cpu_##name : cuda_##name
  CHOOSE(copy_in), CHOOSE(copy_out), CHOOSE(zero), CHOOSE(fill), CHOOSE(convert), CHOOSE(copy_view), CHOOSE(check_ids);
  if (device->clean_ids) CHOOSE(clean_ids);
  if (device->replay) CHOOSE(replay);
  for (int dtype = 0; dtype < MB_DTYPE_COUNT; dtype++)
    if (device->kernels[dtype]) d->kernels[dtype] = tables[which][dtype];
  return d;
}

// ----- stamps ---------------------------------------------------------------------------------------------------
// Where calls return when their work is done, a stamp is the clock's nanoseconds.

static mb_status queue_of(const mbi_device **out, mb_device device) {
  MB_TRY(mb_device_check(device));
  *out = mbi_device_of(device);
  return MB_OK;
}

mb_status mb_stamp(int64_t *stamp, mb_device device) {
  const mbi_device *queue;
  *stamp = -1;
  MB_TRY(queue_of(&queue, device));
  if (queue->stamp) return queue->stamp(stamp);
  *stamp = (int64_t)(1e9 * mb_time());
  return MB_OK;
}

mb_status mb_stamp_seconds(double *seconds, mb_device device, int64_t from, int64_t to) {
  const mbi_device *queue;
  if (from < 0 || to < 0) MB_FAIL(MB_ERR_ARG, "mb_stamp_seconds: stamps %lld and %lld have no time", (long long)from, (long long)to);
  MB_TRY(queue_of(&queue, device));
  if (queue->stamp) {
    MB_TRY(queue->synchronize());
    return queue->stamp_seconds(seconds, from, to);
  }
  *seconds = 1e-9 * (double)(to - from);
  return MB_OK;
}

void mb_stamp_release(mb_device device, int64_t stamp) {
  const mbi_device *queue;
  if (queue_of(&queue, device) == MB_OK && queue->release_stamp) queue->release_stamp(stamp);
}

// ----- public ---------------------------------------------------------------------------------------------------

mb_status mb_profile_begin(void) {
  if (mbi_profile_is_on) MB_FAIL(MB_ERR_STATE, "mb_profile_begin: a profile is on already");
  free(noted), free(waiting);
  noted = NULL, waiting = NULL;
  n_rows = rows_capacity = n_waiting = waiting_capacity = 0;
  for (int i = 0; i < BUCKETS; i++) bucket[i] = -1;
  problem = MB_OK;
  mbi_profile_is_on = 1;
  return MB_OK;
}

static int slower(const void *a, const void *b) {
  const mb_profile_row *x = &((const row *)a)->said, *y = &((const row *)b)->said;
  if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
  return strcmp(((const row *)a)->name, ((const row *)b)->name);
}

mb_status mb_profile_end(void) {
  if (!mbi_profile_is_on) MB_FAIL(MB_ERR_STATE, "mb_profile_end: no profile is on");
  settle();
  mbi_profile_is_on = 0;
  if (problem != MB_OK) {
    n_rows = 0;
    MB_FAIL(problem, "mb_profile_end: %s", problem_text);
  }
  if (n_rows) qsort(noted, (size_t)n_rows, sizeof *noted, slower);
  return MB_OK;
}

int64_t mb_profile_count(void) { return mbi_profile_is_on ? 0 : n_rows; }

mb_status mb_profile_row_at(mb_profile_row *out, int64_t index) {
  if (index < 0 || index >= mb_profile_count())
    MB_FAIL(MB_ERR_ARG, "mb_profile_row_at: row %lld, there are %lld", (long long)index, (long long)mb_profile_count());
  *out = noted[index].said;
  out->name = noted[index].name, out->shape = noted[index].shape;
  return MB_OK;
}
