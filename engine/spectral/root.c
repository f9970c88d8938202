// SPDX-License-Identifier: MIT
//
// root.c: inverse square roots of symmetric positive definite matrices by products alone. The coupled Newton-Schulz
// iteration (Higham, "Functions of Matrices", 2008, section 6.3, with quintic polynomials):
//   Y_0 = A, Z_0 = I;  X = Z Y;  B = a I + b X + c X X;  Y <- Y B, Z <- Z B;  Y -> A^(1/2), Z -> A^(-1/2)
// An eigenvalue x^2 of X goes to (x (a + b x^2 + c x^4))^2: the polynomials of msign, applied to square roots. All of these
// are polynomials of A, so they commute; but the order of the factors is what keeps rounding from growing (Higham, theorem
// 6.12), and so does not making the products symmetric: with either changed, a condition of 1e6 ends in 1e-2 instead of 1e-13.
#include "spectral/iterate.h"
#include "spectral/matrix.h"

#include <math.h>

static mb_status multiply(const mbi_iteration *it, void *c, const void *a, const void *b, double alpha, double beta) {
  int64_t s = it->n;
  mbi_gemm g = {.m = s, .n = s, .k = s, .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c, .lda = s, .ldb = s, .ldc = s,
                .batch = it->count, .stride_a = s * s, .stride_b = s * s, .stride_c = s * s};
  return mbi_device_of(it->device)->kernels[it->dtype]->gemm(&g);
}

static void swap(void **a, void **b) {
  void *c = *a;
  *a = *b;
  *b = c;
}

mb_status mbi_inverse_sqrt(mbi_iteration *it, void **z, const mbi_quintic *steps, int n_steps) {
  const mbi_device *memory = mbi_device_of(it->device);
  int64_t s = it->n, numbers = it->count * s * s;
  for (int i = 0; i < n_steps; i++) {
    int first = i == 0, last = i == n_steps - 1;
    const void *x = first ? it->x : it->a; // Z Y, and Z = I at first
    if (!first) MB_TRY(multiply(it, it->a, *z, it->x, 1, 0));
    MB_TRY(memory->convert(it->b, it->dtype, x, it->dtype, numbers));
    MB_TRY(multiply(it, it->b, x, x, steps[i].c, steps[i].b));
    MB_TRY(mbi_add_to_diagonal(it, it->b, it->count, s, steps[i].a));
    if (!last) {
      MB_TRY(multiply(it, it->y, it->x, it->b, 1, 0));
      swap(&it->x, &it->y);
    }
    if (first) {
      swap(z, &it->b);
      continue;
    }
    MB_TRY(multiply(it, it->y, it->b, *z, 1, 0));
    swap(z, &it->y);
  }
  return MB_OK;
}

// ----- public -----------------------------------------------------------------------------------------------

// Measured: n steps take 2^(7 - 2 n) and more to 1 within 1e-15, n >= 4.
static int steps_for(mbi_quintic *steps, int n) {
  return mbi_polar_express(steps, n, n > 4 ? ldexp(1, 7 - 2 * n) : 0.5, 1e-15, 0.1, MBI_SLACK);
}

// How much of a matrix |a - a^T|_F may be: a product's rounding, and no more.
static double asymmetry(mb_dtype dtype) { return dtype == MB_F32 ? 1e-4 : 1e-10; }

// Refuses what is not symmetric. host: room for (2, count).
static mb_status check_symmetry(const mbi_iteration *it, mb_tensor *norms, void *a, double *host) {
  const mbi_device *memory = mbi_device_of(it->device);
  const mbi_kernels *k = memory->kernels[it->dtype];
  int64_t s = it->n;
  mbi_view turned = {.data = a, .ndim = 3, .size = {it->count, s, s}, .stride = {s * s, 1, s}}, difference = turned;
  difference.data = it->y, difference.stride[1] = s, difference.stride[2] = 1;
  MB_TRY(k->normalize(it->y, it->dtype, mbi_data(norms), 1, a, it->count, s * s, 1, 0));
  MB_TRY(memory->copy_out(host, mbi_data(norms), (size_t)it->count * sizeof(double)));
  MB_TRY(memory->convert(it->y, it->dtype, a, it->dtype, it->count * s * s));
  MB_TRY(k->axpby(&difference, &turned, -1, 1));
  MB_TRY(k->normalize(it->y, it->dtype, mbi_data(norms), 1, it->y, it->count, s * s, 1, 0));
  MB_TRY(memory->copy_out(host + it->count, mbi_data(norms), (size_t)it->count * sizeof(double)));
  for (int64_t i = 0; i < it->count; i++)
    if (!(host[it->count + i] <= asymmetry(it->dtype) * host[i]))
      MB_FAIL(MB_ERR_ARG, "mb_inverse_sqrt: matrix %lld is not symmetric: |a - a^T| is %g, at most %g of |a| = %g was expected", (long long)i,
              host[it->count + i], asymmetry(it->dtype), host[i]);
  return MB_OK;
}

// Refuses x (count, s, s) that are not positive definite, which no number of steps would tell for sure: a small negative
// eigenvalue grows as slowly as a small positive one. In float64, where a float32 matrix is what it is.
static mb_status check_definite(const mbi_iteration *it) {
  int64_t s = it->n, member, minor;
  mbi_shape shape = {.ndim = 3, .size = {it->count, s, s}};
  mb_tensor *factor;
  MB_TRY(mbi_tensor_new(&factor, it->device, MB_F64, &shape));
  mb_status status = mbi_memory_of(factor)->convert(mbi_data(factor), MB_F64, it->x, it->dtype, it->count * s * s);
  if (status == MB_OK) status = mbi_kernels_of(factor)->cholesky(&member, &minor, mbi_data(factor), s, it->count);
  mb_tensor_release(factor);
  if (status == MB_OK && member >= 0)
    status = mbi_fail(MB_ERR_NUMERIC, "mb_inverse_sqrt: matrix %lld is not positive definite: its leading minor of order %lld is not positive",
                      (long long)member, (long long)minor);
  return status;
}

// it->x = (a + a^T) / 2 / |.|_F of a (count, s, s), whose memory is used up; norms (count) in float64.
static mb_status unit(mbi_iteration *it, void *a, double *norms) {
  const mbi_device *memory = mbi_device_of(it->device);
  const mbi_kernels *k = memory->kernels[it->dtype];
  int64_t s = it->n;
  mbi_view turned = {.data = a, .ndim = 3, .size = {it->count, s, s}, .stride = {s * s, 1, s}}, sum = turned;
  sum.data = it->x, sum.stride[1] = s, sum.stride[2] = 1;
  MB_TRY(memory->convert(it->x, it->dtype, a, it->dtype, it->count * s * s));
  MB_TRY(k->axpby(&sum, &turned, 0.5, 0.5));
  MB_TRY(check_definite(it));
  return k->normalize(it->x, it->dtype, norms, 1, it->x, it->count, s * s, 1, 0);
}

// out = z / sqrt(norm), matrix by matrix; `root` is room for (count).
static mb_status scale_back(const mbi_iteration *it, void *out, void *z, const double *norms, void *root) {
  const mbi_device *memory = mbi_device_of(it->device);
  int64_t s = it->n;
  mbi_view result = {.data = out, .ndim = 2, .size = {it->count, s * s}, .stride = {s * s, 1}}, from = result, by = result;
  mbi_view roots = {.data = root, .ndim = 1, .size = {it->count}, .stride = {1}};
  from.data = z, by.data = root, by.stride[0] = 1, by.stride[1] = 0;
  MB_TRY(memory->convert(root, it->dtype, norms, MB_F64, it->count));
  MB_TRY(memory->kernels[it->dtype]->unary(MBI_SQRT, &roots, &roots, 0, 0));
  return memory->kernels[it->dtype]->binary(MBI_DIV, &result, &from, &by);
}

mb_status mb_inverse_sqrt(mb_tensor **out, mb_tensor *a, int64_t steps) {
  *out = NULL;
  if (steps < 0 || steps > MBI_MOST_STEPS)
    MB_FAIL(MB_ERR_ARG, "mb_inverse_sqrt: steps is %lld, 1 to %d, or 0 for 12, were expected", (long long)steps, MBI_MOST_STEPS);
  mbi_matrices s;
  mbi_iteration it;
  mbi_quintic polynomials[MBI_MOST_STEPS];
  mb_tensor *result, *norms = NULL, *room = NULL;
  int64_t bad = -1;
  MB_TRY(mbi_matrices_copy_square(&result, &s, a, "mb_inverse_sqrt"));
  mbi_shape one = {.ndim = 1, .size = {s.count}};
  mb_status status = mbi_iteration_new(&it, a->storage->device, a->dtype, s.count, s.n, s.n);
  if (status == MB_OK) status = mbi_tensor_like(&room, result);
  if (status == MB_OK) status = mbi_tensor_new(&norms, a->storage->device, MB_F64, &one);
  if (status == MB_OK) {
    void *z = mbi_data(room);
    void *host = NULL;
    status = mbi_calloc(&host, "mb_inverse_sqrt", (size_t)(2 * s.count), sizeof(double));
    if (status == MB_OK) status = check_symmetry(&it, norms, mbi_data(result), host);
    mbi_free(host);
    if (status == MB_OK) status = unit(&it, mbi_data(result), mbi_data(norms));
    if (status == MB_OK) status = mbi_inverse_sqrt(&it, &z, polynomials, steps_for(polynomials, steps == 0 ? 12 : (int)steps));
    if (status == MB_OK) status = scale_back(&it, mbi_data(result), z, mbi_data(norms), it.a);
  }
  if (status == MB_OK) status = mbi_kernels_of(result)->find_nonfinite(&bad, mbi_data(result), mbi_numel(result));
  if (status == MB_OK && bad >= 0)
    status = mbi_fail(MB_ERR_NUMERIC, "mb_inverse_sqrt: the root of matrix %lld leaves the range of %s", (long long)(bad / (s.n * s.n)),
                      mbi_dtype_name(a->dtype));
  mbi_iteration_release(&it);
  mb_tensor_release(room), mb_tensor_release(norms);
  if (status != MB_OK) mb_tensor_release(result);
  else *out = result;
  return status;
}
