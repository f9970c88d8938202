// SPDX-License-Identifier: MIT
//
// sigma.c: the largest singular value of each of many matrices, without the others: power iteration that remembers
// its vectors, which is Lanczos' method (Golub and Van Loan, "Matrix Computations", chapter 10) on G^T G.
//
//   T = G^T G v_j (one read of G, sketch_pass with q = 1);  alpha_j = v_j . T
//   T <- T - sum over i <= j of (v_i . T) v_i, twice;  beta_j = |T|;  v_{j+1} = T / beta_j
// sigma_1^2 is the largest eigenvalue of the tridiagonal (alpha, beta), found from below. Every BLOCK steps, alpha and beta of
// all matrices go to the host, which stops after FEWEST steps and when for QUIET blocks none of the values has grown by more than ENOUGH: a
// start that lies badly seems to have converged to sigma_2 for a while.
//
// Measured against float64 decompositions, in float32: Cauchy, geometric and random Gaussian spectra (768 x 3072, 768 x 768, 1024 x
// 1024) are good to 1e-7, and would be after 24 to 50 steps. Where hundreds of values crowd within 1 % of the largest, one of
// ten matrices is off by more than 1e-6, and the worst of 40 by 2e-6.
#include "spectral/iterate.h"
#include "spectral/matrix.h"

#include <math.h>

enum { BLOCK = 8, QUIET = 2, FEWEST = 48, MOST = 128 };
static const double ENOUGH = 5e-7; // of sigma^2

// The start is the same for every matrix and every call.
static const uint64_t START_SEED = 0x5eed, START_STREAM = 0x516a;

// ----- the host's part --------------------------------------------------------------------------------------

// The largest eigenvalue of the symmetric tridiagonal with diagonal alpha (k) and beta (k - 1) beside it, by bisection: x lies
// above all eigenvalues if every pivot of T - x is negative (Sturm). NaN if anything is not finite.
static double largest_eigenvalue(const double *alpha, const double *beta, int k) {
  double low = 0, high = 0;
  for (int i = 0; i < k; i++) {
    double reach = fabs(alpha[i]) + (i > 0 ? beta[i - 1] : 0) + (i < k - 1 ? beta[i] : 0);
    if (!isfinite(reach)) return (double)NAN;
    low = alpha[i] > low ? alpha[i] : low;
    high = reach > high ? reach : high;
  }
  while (high - low > 1e-15 * high) {
    double x = low + (high - low) / 2, pivot = alpha[0] - x;
    if (x <= low || x >= high) break;
    int i = 1;
    for (; i < k && pivot < 0; i++) pivot = alpha[i] - x - beta[i - 1] * beta[i - 1] / pivot;
    if (pivot < 0) high = x;
    else low = x;
  }
  return high;
}

// Steps until beta is rounding noise beside the largest alpha: the vectors up to there hold all that the start leads to, and
// those behind are noise that need not even be orthogonal.
static int useful_steps(const double *alpha, const double *beta, int k, double noise) {
  double largest = 0;
  for (int i = 0; i < k; i++) {
    largest = alpha[i] > largest ? alpha[i] : largest;
    if (beta[i] <= noise * largest) return i + 1; // false for NaN
  }
  return k;
}

// ----- the device's part --------------------------------------------------------------------------------------

typedef struct lanczos {
  const mbi_sketch *s;
  mb_device device;
  mb_dtype dtype;
  int64_t most;     // steps
  mb_tensor *v;     // (most + 1, count, n)
  mb_tensor *h;     // (count, most) v_i . T
  mb_tensor *alpha; // (count, most)
  mb_tensor *sides; // (2, count, most) in float64: alpha and beta
} lanczos;

static mb_status make(mb_tensor **t, const lanczos *z, mb_dtype dtype, int64_t a, int64_t b, int64_t c) {
  mbi_shape shape = {.ndim = 3, .size = {a, b, c}};
  return mbi_tensor_new(t, z->device, dtype, &shape);
}

// T <- T - V^T (V T) over the first j + 1 vectors; h holds V T.
static mb_status take_out(const lanczos *z, int64_t j) {
  const mbi_kernels *k = mbi_device_of(z->device)->kernels[z->dtype];
  int64_t count = z->s->count, n = z->s->n;
  mbi_gemm dots = {.transpose_b = 1, .m = 1, .n = j + 1, .k = n, .alpha = 1, .a = z->s->t, .b = mbi_data(z->v), .c = mbi_data(z->h), .lda = n,
                   .ldb = count * n, .ldc = z->most, .batch = count, .stride_a = n, .stride_b = n, .stride_c = z->most};
  mbi_gemm rest = {.m = 1, .n = n, .k = j + 1, .alpha = -1, .beta = 1, .a = mbi_data(z->h), .b = mbi_data(z->v), .c = z->s->t,
                   .lda = z->most, .ldb = count * n, .ldc = n, .batch = count, .stride_a = z->most, .stride_b = n, .stride_c = n};
  MB_TRY(k->gemm(&dots));
  return k->gemm(&rest);
}

static mb_status step(const lanczos *z, int64_t j) {
  const mbi_device *memory = mbi_device_of(z->device);
  const mbi_kernels *k = memory->kernels[z->dtype];
  int64_t count = z->s->count, n = z->s->n;
  size_t element = mbi_dtype_size(z->dtype), row = (size_t)(count * n) * element;
  mbi_sketch s = *z->s;
  s.x = (char *)mbi_data(z->v) + (size_t)j * row;
  MB_TRY(k->sketch_pass(&s, 1, MBI_FORMS_Y | MBI_FORMS_T));
  MB_TRY(take_out(z, j));
  mbi_view to = {.data = (char *)mbi_data(z->alpha) + (size_t)j * element, .ndim = 1, .size = {count}, .stride = {z->most}}, from = to;
  from.data = (char *)mbi_data(z->h) + (size_t)j * element;
  MB_TRY(memory->copy_view(&to, &from, element));
  MB_TRY(take_out(z, j));
  return k->normalize((char *)s.x + row, z->dtype, (double *)mbi_data(z->sides) + count * z->most + j, z->most, s.t, count, n, 1, 0);
}

static mb_status start(const lanczos *z) {
  const mbi_device *memory = mbi_device_of(z->device);
  const mbi_kernels *k = memory->kernels[z->dtype];
  int64_t count = z->s->count, n = z->s->n;
  MB_TRY(memory->zero(mbi_data(z->alpha), (size_t)(count * z->most) * mbi_dtype_size(z->dtype)));
  MB_TRY(memory->zero(mbi_data(z->sides), (size_t)(2 * count * z->most) * sizeof(double)));
  MB_TRY(k->random_normal(z->s->t, n, 0, 1, START_SEED, 0, START_STREAM));
  mbi_view one = {.data = z->s->t, .ndim = 2, .size = {count, n}, .stride = {0, 1}}, all = {.data = mbi_data(z->v), .ndim = 2, .size = {count, n}, .stride = {n, 1}};
  MB_TRY(memory->copy_view(&all, &one, mbi_dtype_size(z->dtype)));
  return k->normalize(all.data, z->dtype, NULL, 0, all.data, count, n, 1, 0);
}

// sides: room for (2, count, most) on the host.
static mb_status iterate(double *sigma, const lanczos *z, double *sides) {
  const mbi_device *memory = mbi_device_of(z->device);
  int64_t count = z->s->count, numbers = count * z->most;
  MB_TRY(start(z));
  for (int64_t i = 0; i < count; i++) sigma[i] = 0;
  double noise = z->dtype == MB_F32 ? 1e-6 : 1e-12;
  int quiet = 0;
  for (int64_t done = 0; done < z->most && (quiet < QUIET || done < FEWEST);) {
    int64_t until = done + BLOCK < z->most ? done + BLOCK : z->most;
    for (; done < until; done++) MB_TRY(step(z, done));
    MB_TRY(memory->convert(mbi_data(z->sides), MB_F64, mbi_data(z->alpha), z->dtype, numbers));
    MB_TRY(memory->copy_out(sides, mbi_data(z->sides), (size_t)(2 * numbers) * sizeof(double)));
    quiet++;
    for (int64_t i = 0; i < count; i++) {
      const double *alpha = sides + i * z->most, *beta = sides + numbers + i * z->most;
      double value = largest_eigenvalue(alpha, beta, useful_steps(alpha, beta, (int)done, noise));
      if (value - sigma[i] > ENOUGH * value) quiet = 0;
      sigma[i] = value;
    }
  }
  for (int64_t i = 0; i < count; i++) sigma[i] = sqrt(sigma[i]);
  return MB_OK;
}

mb_status mbi_sigma_max(double *sigma, mb_device device, mb_dtype dtype, int64_t count, int64_t m, int64_t n, void *const *g,
                        const double *scale) {
  int64_t least = m < n ? m : n;
  mbi_sketch s = {.count = count, .m = m, .n = n, .q = 1};
  lanczos z = {.s = &s, .device = device, .dtype = dtype, .most = least + BLOCK < MOST ? least + BLOCK : MOST};
  mb_tensor *y = NULL, *t = NULL, *table = NULL;
  void *sides = NULL;
  mb_status status = mbi_calloc(&sides, "mb_sigma_max", (size_t)(2 * count * z.most), sizeof(double));
  if (status == MB_OK) status = make(&z.v, &z, dtype, z.most + 1, count, n);
  if (status == MB_OK) status = make(&y, &z, dtype, count, 1, m);
  if (status == MB_OK) status = make(&t, &z, dtype, count, 1, n);
  if (status == MB_OK) status = make(&z.h, &z, dtype, 1, count, z.most);
  if (status == MB_OK) status = make(&z.alpha, &z, dtype, 1, count, z.most);
  if (status == MB_OK) status = make(&z.sides, &z, MB_F64, 2, count, z.most);
  if (status == MB_OK) status = make(&table, &z, MB_F64, 2, 1, count);
  if (status == MB_OK) status = mbi_memory_of(table)->copy_in(mbi_data(table), g, (size_t)count * sizeof *g);
  if (status == MB_OK) {
    s.y = mbi_data(y), s.t = mbi_data(t), s.g = mbi_data(table);
    s.scale = (double *)mbi_data(table) + count;
    status = mbi_memory_of(table)->copy_in((double *)mbi_data(table) + count, scale, (size_t)count * sizeof *scale);
  }
  if (status == MB_OK) {
    status = iterate(sigma, &z, sides);
  }
  mb_tensor_release(y), mb_tensor_release(t), mb_tensor_release(table);
  mb_tensor_release(z.v), mb_tensor_release(z.h), mb_tensor_release(z.alpha), mb_tensor_release(z.sides);
  mbi_free(sides);
  return status;
}

// ----- public -----------------------------------------------------------------------------------------------

// sigma (count) of the matrices in `copy`, which is brought to unit norm first: then nothing overflows.
static mb_status of_copy(double *sigma, mb_tensor *copy, const mbi_matrices *s, void *list) {
  const mbi_device *memory = mbi_memory_of(copy);
  size_t bytes = (size_t)(s->m * s->n) * mbi_dtype_size(copy->dtype);
  void **g = list;
  double *scale = (double *)(void *)(g + s->count), *host = scale + s->count;
  mb_tensor *norms;
  mbi_shape shape = {.ndim = 1, .size = {s->count}};
  MB_TRY(mbi_tensor_new(&norms, copy->storage->device, MB_F64, &shape));
  for (int64_t i = 0; i < s->count; i++) {
    g[i] = (char *)mbi_data(copy) + (size_t)i * bytes;
    scale[i] = 1;
  }
  mb_status status = mbi_kernels_of(copy)->normalize(mbi_data(copy), copy->dtype, mbi_data(norms), 1, mbi_data(copy), s->count, s->m * s->n, 1, 0);
  if (status == MB_OK) status = memory->copy_out(host, mbi_data(norms), (size_t)s->count * sizeof(double));
  if (status == MB_OK) status = mbi_sigma_max(sigma, copy->storage->device, copy->dtype, s->count, s->m, s->n, g, scale);
  for (int64_t i = 0; i < s->count && status == MB_OK; i++) sigma[i] *= host[i];
  mb_tensor_release(norms);
  return status;
}

mb_status mb_sigma_max(mb_tensor **out, mb_tensor *a) {
  mb_tensor *copy, *result = NULL, *wide = NULL;
  mbi_matrices s;
  void *list = NULL;
  *out = NULL;
  MB_TRY(mbi_matrices_copy(&copy, &s, a, "mb_sigma_max"));
  mbi_shape shape = {.ndim = a->shape.ndim - 2, .size = {s.count}};
  mb_status status = mbi_calloc(&list, "mb_sigma_max", (size_t)s.count, sizeof(void *) + 3 * sizeof(double));
  double *sigma = list ? (double *)(void *)((void **)list + s.count) + 2 * s.count : NULL;
  if (status == MB_OK) status = of_copy(sigma, copy, &s, list);
  if (status == MB_OK) status = mbi_tensor_new(&wide, a->storage->device, MB_F64, &shape);
  if (status == MB_OK) status = mbi_memory_of(a)->copy_in(mbi_data(wide), sigma, (size_t)s.count * sizeof(double));
  if (status == MB_OK) status = mbi_tensor_new(&result, a->storage->device, a->dtype, &shape);
  if (status == MB_OK) status = mbi_memory_of(a)->convert(mbi_data(result), a->dtype, mbi_data(wide), MB_F64, s.count);
  mb_tensor_release(copy), mb_tensor_release(wide);
  mbi_free(list);
  if (status != MB_OK) mb_tensor_release(result);
  else *out = result;
  return status;
}
