// SPDX-License-Identifier: MIT
//
// onednn.c: products by oneDNN's matmul primitive (C API, versions 2 and 3), f32. A primitive is code made
// for one product: sizes, strides, factors and number of threads; making one costs 0.1 to 0.4 ms, so they are
// kept in a small set-associative cache. alpha and beta are part of the code: alpha as an output scale
// (version 2) or a linear post-op (version 3), beta as a sum post-op.
#include "backend/cpu/gemm.h"

#if defined(MB_HAVE_DNNL)
#include <oneapi/dnnl/dnnl.h>

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct product_key {
  int64_t m, n, k, lda, ldb, ldc, batch, stride_a, stride_b, stride_c;
  int32_t transpose_a, transpose_b, has_bias, threads;
  float alpha, beta;
} product_key;

// Arguments of a primitive, in the order of `roles`.
enum { A, B, C, BIAS, ARGUMENTS };
static const int roles[ARGUMENTS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};

typedef struct product {
  product_key key;
  uint64_t last_used;                // 0 = empty
  int is_slow;                       // oneDNN has only its reference loops for this product
  dnnl_primitive_t primitive;
  dnnl_memory_t memory[ARGUMENTS];   // BIAS only where there is one
} product;

enum { SETS = 64, WAYS = 8 };
static product cache[SETS][WAYS];
static uint64_t clock_now;
static dnnl_engine_t engine;
static dnnl_stream_t stream;

const char *mbi_onednn_version(void) {
  static char text[32];
  const dnnl_version_t *v = dnnl_version();
  snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
  return text;
}

static mb_status failed(dnnl_status_t status, const char *what, const product_key *k) {
  return mbi_fail(status == dnnl_out_of_memory ? MB_ERR_NOMEM : MB_ERR_INTERNAL,
                  "matrix product %lld x %lld x %lld: oneDNN could not %s, status %d (MOONBOW_BLAS=openblas does without it)",
                  (long long)k->m, (long long)k->n, (long long)k->k, what, (int)status);
}

#define DNNL_TRY(call, what, key)                                        \
  do {                                                                   \
    dnnl_status_t dnnl_status_ = (call);                                 \
    if (dnnl_status_ != dnnl_success) return failed(dnnl_status_, what, key); \
  } while (0)

static product_key key_of(const mbi_gemm *g) {
  product_key key;
  memset(&key, 0, sizeof key); // padding takes part in the comparison
  key.m = g->m, key.n = g->n, key.k = g->k, key.lda = g->lda, key.ldb = g->ldb, key.ldc = g->ldc, key.batch = g->batch;
  if (g->batch > 1) key.stride_a = g->stride_a, key.stride_b = g->stride_b, key.stride_c = g->stride_c;
  key.transpose_a = g->transpose_a != 0, key.transpose_b = g->transpose_b != 0, key.has_bias = g->bias != NULL;
  key.threads = omp_get_max_threads();
  key.alpha = (float)g->alpha, key.beta = (float)g->beta;
  return key;
}

static void empty_product(product *p) {
  for (int i = 0; i < ARGUMENTS; i++)
    if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
  if (p->primitive) dnnl_primitive_destroy(p->primitive);
  memset(p, 0, sizeof *p);
}

// At exit, or when the library is unloaded; asked for after oneDNN has started, so that it still works then.
static void at_unload(void) {
  for (int i = 0; i < SETS * WAYS; i++) empty_product(&cache[i / WAYS][i % WAYS]);
  if (stream) dnnl_stream_destroy(stream);
  if (engine) dnnl_engine_destroy(engine);
  stream = NULL, engine = NULL;
}

// ----- what differs between versions 2 and 3 -----------------------------------------------------------

// Sizes and strides of one argument: (rows, columns), with the batch in front if there is one.
typedef struct layout {
  int ndim;
  dnnl_dims_t size, stride;
} layout;

static layout layout_of(const product_key *k, int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride,
                        int64_t batch_stride) {
  layout l = {.ndim = 0};
  if (k->batch > 1) { // stride 0: one matrix for all, which oneDNN writes as a size of 1
    l.size[0] = batch_stride == 0 ? 1 : k->batch;
    l.stride[0] = batch_stride == 0 ? rows * row_stride + columns * column_stride : batch_stride;
    l.ndim = 1;
  }
  l.size[l.ndim] = rows, l.stride[l.ndim++] = row_stride;
  l.size[l.ndim] = columns, l.stride[l.ndim++] = column_stride;
  return l;
}

static void make_layouts(layout *l, const product_key *k) {
  l[A] = k->transpose_a ? layout_of(k, k->m, k->k, 1, k->lda, k->stride_a) : layout_of(k, k->m, k->k, k->lda, 1, k->stride_a);
  l[B] = k->transpose_b ? layout_of(k, k->k, k->n, 1, k->ldb, k->stride_b) : layout_of(k, k->k, k->n, k->ldb, 1, k->stride_b);
  l[C] = layout_of(k, k->m, k->n, k->ldc, 1, k->stride_c);
  l[BIAS] = layout_of(k, 1, k->n, k->n, 1, 0);
}

static dnnl_status_t add_factors(dnnl_primitive_attr_t attributes, const product_key *k) {
  dnnl_post_ops_t after;
  dnnl_status_t status = dnnl_post_ops_create(&after);
  if (status != dnnl_success) return status;
#if DNNL_VERSION_MAJOR >= 3
  if (k->alpha != 1.0f) status = dnnl_post_ops_append_eltwise(after, dnnl_eltwise_linear, k->alpha, 0.0f);
  if (status == dnnl_success && k->beta != 0.0f) status = dnnl_post_ops_append_sum(after, k->beta, 0, dnnl_data_type_undef);
#else
  if (k->alpha != 1.0f) status = dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &k->alpha);
  if (status == dnnl_success && k->beta != 0.0f) status = dnnl_post_ops_append_sum(after, k->beta);
#endif
  if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attributes, after);
  dnnl_post_ops_destroy(after);
  return status;
}

#if DNNL_VERSION_MAJOR >= 3
static dnnl_status_t describe(dnnl_primitive_desc_t *out, product *p, dnnl_primitive_attr_t attributes, const layout *l) {
  dnnl_memory_desc_t d[ARGUMENTS] = {NULL};
  dnnl_status_t status = dnnl_success;
  int arguments = p->key.has_bias ? ARGUMENTS : BIAS;
  for (int i = 0; i < arguments && status == dnnl_success; i++) {
    status = dnnl_memory_desc_create_with_strides(&d[i], l[i].ndim, l[i].size, dnnl_f32, l[i].stride);
    if (status == dnnl_success) status = dnnl_memory_create(&p->memory[i], d[i], engine, DNNL_MEMORY_NONE);
  }
  if (status == dnnl_success) status = dnnl_matmul_primitive_desc_create(out, engine, d[A], d[B], d[BIAS], d[C], attributes);
  for (int i = 0; i < ARGUMENTS; i++)
    if (d[i]) dnnl_memory_desc_destroy(d[i]);
  return status;
}
#else
static dnnl_status_t describe(dnnl_primitive_desc_t *out, product *p, dnnl_primitive_attr_t attributes, const layout *l) {
  dnnl_memory_desc_t d[ARGUMENTS];
  dnnl_status_t status = dnnl_success;
  int arguments = p->key.has_bias ? ARGUMENTS : BIAS;
  for (int i = 0; i < arguments && status == dnnl_success; i++) {
    status = dnnl_memory_desc_init_by_strides(&d[i], l[i].ndim, l[i].size, dnnl_f32, l[i].stride);
    if (status == dnnl_success) status = dnnl_memory_create(&p->memory[i], &d[i], engine, DNNL_MEMORY_NONE);
  }
  dnnl_matmul_desc_t product_desc;
  if (status == dnnl_success) status = dnnl_matmul_desc_init(&product_desc, &d[A], &d[B], p->key.has_bias ? &d[BIAS] : NULL, &d[C]);
  if (status == dnnl_success) status = dnnl_primitive_desc_create(out, &product_desc, attributes, engine, NULL);
  return status;
}
#endif

// ----- the cache ---------------------------------------------------------------------------------------

// Leaves is_slow set, and no error, when oneDNN has nothing but its reference code.
static mb_status make_product(product *p) {
  if (!stream) {
    if (!engine) DNNL_TRY(dnnl_engine_create(&engine, dnnl_cpu, 0), "open the CPU", &p->key);
    DNNL_TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "open a stream", &p->key);
    atexit(at_unload);
  }
  layout layouts[ARGUMENTS];
  make_layouts(layouts, &p->key);
  dnnl_primitive_attr_t attributes;
  DNNL_TRY(dnnl_primitive_attr_create(&attributes), "make attributes", &p->key);
  dnnl_primitive_desc_t description = NULL;
  dnnl_status_t status = add_factors(attributes, &p->key);
  if (status == dnnl_success) status = describe(&description, p, attributes, layouts);
  dnnl_primitive_attr_destroy(attributes);
  const char *implementation = "ref";
  if (status == dnnl_success) status = dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, (void *)&implementation);
  p->is_slow = status == dnnl_unimplemented || (status == dnnl_success && strncmp(implementation, "ref", 3) == 0);
  if (status == dnnl_success && !p->is_slow) status = dnnl_primitive_create(&p->primitive, description);
  if (description) dnnl_primitive_desc_destroy(description);
  if (!p->is_slow) DNNL_TRY(status, "make the primitive", &p->key);
  return MB_OK;
}

static uint64_t hash(const product_key *key) {
  uint64_t h = 1469598103934665603u; // FNV-1a over 32-bit words
  uint32_t words[sizeof *key / 4];
  memcpy(words, key, sizeof words);
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) h = (h ^ words[i]) * 1099511628211u;
  return h >> 32;
}

// The primitive for a key, made in the place of the one of its set that was used the longest ago.
static mb_status find(product **out, const product_key *key) {
  product *set = cache[hash(key) % SETS], *oldest = set;
  for (int i = 0; i < WAYS; i++) {
    if (set[i].last_used && memcmp(&set[i].key, key, sizeof *key) == 0) {
      set[i].last_used = ++clock_now;
      *out = &set[i];
      return MB_OK;
    }
    if (set[i].last_used < oldest->last_used) oldest = &set[i];
  }
  empty_product(oldest);
  oldest->key = *key;
  mb_status status = make_product(oldest);
  if (status == MB_OK) oldest->last_used = ++clock_now;
  else empty_product(oldest);
  *out = oldest;
  return status;
}

mb_status mbi_onednn_f32(int *done, const mbi_gemm *g) {
  *done = 0;
  if (g->bias && g->alpha != 1) return MB_OK; // the scale would reach the bias too
  product_key key = key_of(g);
  product *p;
  MB_TRY(find(&p, &key));
  if (p->is_slow) return MB_OK;
  // oneDNN's API takes all addresses as writable; it writes only to C.
  const void *data[ARGUMENTS] = {g->a, g->b, g->c, g->bias};
  dnnl_exec_arg_t arguments[ARGUMENTS];
  int count = g->bias ? ARGUMENTS : BIAS;
  for (int i = 0; i < count; i++) {
    DNNL_TRY(dnnl_memory_set_data_handle(p->memory[i], (void *)(uintptr_t)data[i]), "take an address", &key);
    arguments[i] = (dnnl_exec_arg_t){roles[i], p->memory[i]};
  }
  DNNL_TRY(dnnl_primitive_execute(p->primitive, stream, count, arguments), "run", &key);
  DNNL_TRY(dnnl_stream_wait(stream), "finish", &key);
  *done = 1;
  return MB_OK;
}

#else

const char *mbi_onednn_version(void) { return NULL; }
mb_status mbi_onednn_f32(int *done, const mbi_gemm *g) {
  (void)g;
  *done = 0;
  return MB_OK;
}
#endif
