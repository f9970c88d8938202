// SPDX-License-Identifier: MIT
//
// attention_cached.c: causal attention of new positions over keys and values that are kept, for generating text: a new
// token costs one query over the positions before it, not the whole sequence again. The cache (2, B, H, N, D) holds keys,
// then values, each head's positions next to each other, so that a query reads them from end to end.
//
// The call changes the cache in place and is not recorded. Tests: tests/c/test_attention_cached.c.
#include <math.h>

#include "ops/ops.h"

// Sizes of a call, once they fit.
static mb_status check_sizes(mbi_attention *s, const mb_tensor *qkv, const mb_tensor *cache, int64_t first) {
  const char *who = "mb_attention_cached";
  char tq[MBI_SHAPE_TEXT], tc[MBI_SHAPE_TEXT];
  mbi_shape_text(tq, qkv->shape.ndim, qkv->shape.size), mbi_shape_text(tc, cache->shape.ndim, cache->shape.size);
  const int64_t *c = cache->shape.size, *x = qkv->shape.size;
  if (qkv->shape.ndim != 3 || cache->shape.ndim != 5 || c[0] != 2 || c[1] != x[0] || x[2] != 3 * c[2] * c[4])
    MB_FAIL(MB_ERR_SHAPE, "%s: qkv is %s, cache is %s; (B, T, 3 H D) and (2, B, H, N, D) were expected", who, tq, tc);
  if (!mbi_is_contiguous(cache)) MB_FAIL(MB_ERR_ARG, "%s: cache %s is not contiguous", who, tc);
  if (first < 0 || first > c[3] - x[1])
    MB_FAIL(MB_ERR_ARG, "%s: positions %lld to %lld were given, the cache %s has room for %lld", who, (long long)first,
            (long long)(first + x[1] - 1), tc, (long long)c[3]);
  *s = (mbi_attention){x[0], x[1], c[2], c[4], s->scale};
  return MB_OK;
}

static mb_status check(mbi_attention *s, mb_tensor *qkv, mb_tensor *cache, int64_t first) {
  const char *who = "mb_attention_cached";
  MB_TRY(mbi_check_float(qkv, who, "qkv"));
  MB_TRY(mbi_check_float(cache, who, "cache"));
  MB_TRY(mbi_check_same(qkv, cache, who));
  MB_TRY(check_sizes(s, qkv, cache, first));
  if (!isfinite(s->scale)) MB_FAIL(MB_ERR_ARG, "%s: scale is %g, a finite number was expected", who, s->scale);
  if (s->scale == 0) s->scale = 1 / sqrt((double)s->width);
  if (qkv->storage == cache->storage) MB_FAIL(MB_ERR_ARG, "%s: qkv lies in the cache's own memory", who);
  if (mbi_will_record((mb_tensor *[]){qkv, cache}, 2))
    MB_FAIL(MB_ERR_STATE, "%s: a gradient is wanted, but nothing is recorded here; call it within mb_grad_mode(0)", who);
  return mbi_check_writable(cache, who);
}

static void *at(void *data, const mb_tensor *like, int64_t offset) { return (char *)data + offset * (int64_t)mbi_dtype_size(like->dtype); }

// Keys and values of the new positions into the cache: both are (2, B, H, T, D), seen where they lie.
static mb_status keep(const mbi_attention *s, mb_tensor *qkv, mb_tensor *cache, int64_t first) {
  int64_t c = s->heads * s->width, room = cache->shape.size[3], row = room * s->width;
  mbi_view from = {at(mbi_data(qkv), qkv, c), 5, {2, s->batch, s->heads, s->time, s->width}, {c, s->time * 3 * c, s->width, 3 * c, 1}};
  mbi_view to = {at(mbi_data(cache), cache, first * s->width), 5, {2, s->batch, s->heads, s->time, s->width},
                 {s->batch * s->heads * row, s->heads * row, row, s->width, 1}};
  return mbi_memory_of(qkv)->copy_view(&to, &from, mbi_dtype_size(qkv->dtype));
}

mb_status mb_attention_cached(mb_tensor **out, mb_tensor *qkv, mb_tensor *cache, int64_t first, double scale) {
  *out = NULL;
  mbi_attention s = {.scale = scale};
  MB_TRY(check(&s, qkv, cache, first));
  int64_t c = s.heads * s.width, row = cache->shape.size[3] * s.width;
  mbi_shape shape = {.ndim = 3, .size = {s.batch, s.time, c}};
  mb_tensor *result, *dense = NULL;
  MB_TRY(mbi_tensor_new(&result, qkv->storage->device, qkv->dtype, &shape));
  mb_status status = mbi_dense(&dense, qkv);
  if (status == MB_OK) status = keep(&s, dense, cache, first);
  if (status == MB_OK) {
    mbi_heads to = {mbi_data(result), s.time * c, c, s.width}, q = {mbi_data(dense), s.time * 3 * c, 3 * c, s.width},
              k = {mbi_data(cache), s.heads * row, s.width, row}, v = k;
    v.data = at(k.data, cache, s.batch * s.heads * row);
    const mbi_kernels *kernels = mbi_kernels_of(qkv);
    // From the beginning on it is the attention that training uses, which shares keys among queries.
    status = first == 0 && s.time > 1 ? kernels->attention(&s, &to, NULL, &q, &k, &v) : kernels->attention_cached(&s, &to, &q, &k, &v, first);
  }
  mbi_touch(cache);
  mb_tensor_release(dense);
  if (status == MB_OK) *out = result;
  else mb_tensor_release(result);
  return status;
}
