// SPDX-License-Identifier: MIT
//
// lowrank.c: the largest singular values and vectors of a matrix or a batch. The rounds are those of a plan's probe
// (probe.c); the end is the textbook's (Halko, Martinsson, Tropp 2011, algorithm 5.1), which reads G once more than a
// probe does and is good to the rounding of the dtype, where a probe works with squares:
//   Q = orthonormal basis of Y = X G^T,  B = Q^T G = U_B diag(s) V^T,  U = Q U_B
// Q is completed by anything orthonormal where G has fewer directions than asked for.
#include "spectral/matrix.h"
#include "spectral/spectral.h"

typedef struct triple {
  mb_tensor *u, *s, *v;
} triple;

static void drop(triple *t) { mb_tensor_release(t->u), mb_tensor_release(t->s), mb_tensor_release(t->v); }

// A plan over the matrices of a contiguous tensor.
static mb_status plan_over(mb_spectral **plan, const mb_tensor *dense, const mbi_matrices *s, const mb_spectral_options *options) {
  mbi_shape shape = {.ndim = 2, .size = {s->m, s->n}};
  int64_t stride[2] = {s->n, 1}, made = 0;
  void *memory;
  *plan = NULL;
  MB_TRY(mbi_calloc(&memory, "mb_svd_lowrank", (size_t)s->count, sizeof(mb_tensor *)));
  mb_tensor **views = memory;
  mb_status status = MB_OK;
  while (made < s->count && status == MB_OK) {
    status = mbi_tensor_view(&views[made], dense, &shape, stride, made * s->m * s->n);
    if (status == MB_OK) made++;
  }
  if (status == MB_OK) status = mb_spectral_new(plan, views, s->count, options);
  for (int64_t i = 0; i < made; i++) mb_tensor_release(views[i]);
  mbi_free(memory);
  return status;
}

// *t = its first r places along the last dimension, in memory of their own.
static mb_status cut(mb_tensor **t, int64_t r) {
  mb_tensor *part, *dense;
  MB_TRY(mb_slice(&part, *t, -1, 0, r, 1));
  mb_status status = mbi_dense(&dense, part);
  mb_tensor_release(part);
  MB_TRY(status);
  mb_tensor_release(*t);
  *t = dense;
  return MB_OK;
}

// q (..., m, q) = an orthonormal basis of what the rows of y (count, q, m) span, and y its columns in rows.
static mb_status orthonormalise(mb_tensor **q, const mb_tensor *a, const mbi_spectral_group *g) {
  mb_tensor *columns = NULL, *factor = NULL;
  mb_status status = mbi_matrices_new(q, a, a->dtype, g->m, g->k);
  if (status == MB_OK) status = mbi_matrices_new(&columns, a, a->dtype, g->m, g->k);
  if (status == MB_OK) status = mbi_matrices_new(&factor, a, a->dtype, g->k, g->k);
  if (status == MB_OK) {
    const mbi_device *device = mbi_memory_of(a);
    mbi_view rows = {.data = mbi_data(g->y), .ndim = 3, .size = {g->count, g->m, g->k}, .stride = {g->k * g->m, 1, g->m}};
    mbi_view to = rows, from = rows;
    to.data = mbi_data(columns), from.data = mbi_data(*q);
    to.stride[0] = from.stride[0] = g->m * g->k, to.stride[1] = from.stride[1] = g->k, to.stride[2] = from.stride[2] = 1;
    status = device->copy_view(&to, &rows, mbi_dtype_size(a->dtype));
    if (status == MB_OK) status = mbi_kernels_of(a)->qr(from.data, mbi_data(factor), to.data, g->m, g->k, g->count);
    if (status == MB_OK) status = device->copy_view(&rows, &from, mbi_dtype_size(a->dtype));
  }
  mb_tensor_release(columns), mb_tensor_release(factor);
  return status;
}

// The values of scale[i] G[i] become those of G[i].
static mb_status unscale(mb_tensor *values, const mbi_spectral_group *g) {
  for (int64_t i = 0; i < g->count; i++) {
    mbi_view row = {.data = (char *)mbi_data(values) + (size_t)(i * g->k) * mbi_dtype_size(g->dtype), .ndim = 1, .size = {g->k}, .stride = {1}};
    if (g->scale[i] != 1) MB_TRY(mbi_spectral_kernels(g)->unary(MBI_AFFINE, &row, &row, 1 / g->scale[i], 0));
  }
  return MB_OK;
}

// u (..., m, r) = q times the first r columns of u_b (..., q, q).
static mb_status lift(mb_tensor **u, const mb_tensor *q, const mb_tensor *u_b, const mbi_spectral_group *g) {
  MB_TRY(mbi_matrices_new(u, q, q->dtype, g->m, g->kept));
  mbi_gemm gemm = {
    .m = g->m, .n = g->kept, .k = g->k, .alpha = 1, .a = mbi_data(q), .b = mbi_data(u_b), .c = mbi_data(*u), .lda = g->k, .ldb = g->k,
    .ldc = g->kept, .batch = g->count, .stride_a = g->m * g->k, .stride_b = g->k * g->k, .stride_c = g->m * g->kept,
  };
  return mbi_kernels_of(q)->gemm(&gemm);
}

// From a basis of the span, in x or y: everything else.
static mb_status finish(triple *out, const mb_tensor *a, const mb_spectral *plan) {
  const mbi_spectral_group *g = &plan->groups[0];
  const mbi_kernels *k = mbi_spectral_kernels(g);
  mbi_sketch s = mbi_spectral_sketch_of(g);
  mb_tensor *q = NULL, *u_b = NULL;
  mb_status status = plan->options.power_iters > 0 ? k->sketch_pass(&s, 1, MBI_FORMS_Y) : MB_OK;
  if (status == MB_OK) status = orthonormalise(&q, a, g);
  if (status == MB_OK) status = k->sketch_pass(&s, 1, MBI_FORMS_T);
  if (status == MB_OK) status = mbi_matrices_new(&u_b, a, a->dtype, g->k, g->k);
  if (status == MB_OK) status = mbi_matrices_new(&out->s, a, a->dtype, g->k, 0);
  if (status == MB_OK) status = mbi_matrices_new(&out->v, a, a->dtype, g->n, g->k);
  if (status == MB_OK) status = k->svd(mbi_data(u_b), mbi_data(out->s), mbi_data(out->v), mbi_data(g->t), g->k, g->n, g->count);
  if (status == MB_OK) status = unscale(out->s, g);
  if (status == MB_OK) status = lift(&out->u, q, u_b, g);
  if (status == MB_OK) status = cut(&out->s, g->kept);
  if (status == MB_OK) status = cut(&out->v, g->kept);
  mb_tensor_release(q), mb_tensor_release(u_b);
  return status;
}

static mb_status from_sketch(triple *out, const mb_tensor *a, mb_spectral *plan, mbi_rng_key key) {
  int finite = 1;
  const mbi_spectral_group *g = &plan->groups[0];
  MB_TRY(mbi_spectral_refresh(plan));
  MB_TRY(mbi_spectral_subspace(plan, g->dtype, key));
  MB_TRY(mbi_spectral_fetch(plan)); // the scales
  for (int64_t i = 0; i < g->count; i++) finite = finite && (g->flags[i] & MBI_FINITE);
  if (!finite) MB_FAIL(MB_ERR_NUMERIC, "mb_svd_lowrank: a finite matrix gave a sketch that is not finite");
  return finish(out, a, plan);
}

static mb_status from_all(triple *out, mb_tensor *dense, int64_t r) {
  mb_status status = mb_svd(&out->u, &out->s, &out->v, dense);
  if (status == MB_OK) status = cut(&out->u, r);
  if (status == MB_OK) status = cut(&out->s, r);
  if (status == MB_OK) status = cut(&out->v, r);
  return status;
}

static mb_status check_options(int64_t rank, int64_t oversample, int64_t power_iters) {
  if (rank < 1) MB_FAIL(MB_ERR_ARG, "mb_svd_lowrank: rank is %lld, at least 1 was expected", (long long)rank);
  if (oversample < 0) MB_FAIL(MB_ERR_ARG, "mb_svd_lowrank: oversample is %lld, at least 0 was expected", (long long)oversample);
  if (power_iters < 0) MB_FAIL(MB_ERR_ARG, "mb_svd_lowrank: power_iters is %lld, at least 0 was expected", (long long)power_iters);
  return MB_OK;
}

mb_status mb_svd_lowrank(mb_tensor **u, mb_tensor **s, mb_tensor **v, mb_tensor *a, int64_t rank, int64_t oversample,
                         int64_t power_iters) {
  mb_spectral_options options = {MB_SPECTRAL_RANDOMIZED, rank, oversample, power_iters, 0, 0};
  mbi_matrices size;
  mb_tensor *dense;
  mb_spectral *plan = NULL;
  triple found = {0};
  *u = *s = *v = NULL;
  MB_TRY(mbi_matrices_of(&size, a, "mb_svd_lowrank"));
  MB_TRY(check_options(rank, oversample, power_iters));
  MB_TRY(mbi_dense(&dense, a));
  mb_status status = mbi_matrices_finite(dense, "mb_svd_lowrank");
  if (status == MB_OK) status = plan_over(&plan, dense, &size, &options);
  mbi_rng_key key = mbi_rng_next(); // whether a sketch needs it or not
  if (status == MB_OK)
    status = plan->groups[0].kind == MBI_SPECTRAL_SKETCH ? from_sketch(&found, dense, plan, key)
                                                         : from_all(&found, dense, rank < size.k ? rank : size.k);
  mb_spectral_release(plan);
  mb_tensor_release(dense);
  if (status != MB_OK) {
    mbi_rng_give_back(key);
    drop(&found);
    return status;
  }
  *u = found.u, *s = found.s, *v = found.v;
  return MB_OK;
}
