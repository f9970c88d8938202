// SPDX-License-Identifier: MIT
//
// attention_cached.c: one query at a time over kept keys and values, o = softmax(scale q k^T) v, for generation. A key and
// a value are read once and used for two operations a number, so the kernel goes at the speed of memory; four
// keys are taken together to spare it sums across lanes. A thread owns a (batch, head, query); sums run in order, so
// that results do not depend on the number of threads.
#include "backend/cpu/cpu.h"
#include "backend/cpu/vmath.h"

// scores[key] = factor q . k[key]; the largest.
static real scores_of(real *restrict scores, const real *restrict q, const real *k, int64_t step, int64_t keys, int64_t width, real factor) {
  real most = -(real)INFINITY;
  int64_t key = 0;
  for (; key + 4 <= keys; key += 4) {
    const real *a = k + key * step, *b = a + step, *c = b + step, *d = c + step;
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t i = 0; i < width; i++) s0 += q[i] * a[i], s1 += q[i] * b[i], s2 += q[i] * c[i], s3 += q[i] * d[i];
    scores[key] = factor * s0, scores[key + 1] = factor * s1, scores[key + 2] = factor * s2, scores[key + 3] = factor * s3;
  }
  for (; key < keys; key++) {
    const real *a = k + key * step;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += q[i] * a[i];
    scores[key] = factor * sum;
  }
  for (key = 0; key < keys; key++) most = scores[key] > most ? scores[key] : most;
  return most;
}

// to[i] = sum over keys of weights[key] v[key][i], times `factor`.
static void values_of(real *restrict to, const real *restrict weights, const real *v, int64_t step, int64_t keys, int64_t width, real factor) {
  for (int64_t i = 0; i < width; i++) to[i] = 0;
  int64_t key = 0;
  for (; key + 4 <= keys; key += 4) {
    const real *a = v + key * step, *b = a + step, *c = b + step, *d = c + step, *w = weights + key;
#pragma omp simd
    for (int64_t i = 0; i < width; i++) to[i] += (w[0] * a[i] + w[1] * b[i]) + (w[2] * c[i] + w[3] * d[i]);
  }
  for (; key < keys; key++)
#pragma omp simd
    for (int64_t i = 0; i < width; i++) to[i] += weights[key] * v[key * step + i];
  for (int64_t i = 0; i < width; i++) to[i] *= factor;
}

mb_status MBK(attention_cached)(const mbi_attention *s, const mbi_heads *out, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v,
                                int64_t first) {
  int64_t queries = s->batch * s->heads * s->time, most_keys = first + s->time, room = (most_keys + 15) / 16 * 16;
  int threads = omp_get_max_threads() < queries ? omp_get_max_threads() : (int)queries;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(threads * room) * sizeof(real)));
#pragma omp parallel for schedule(static) num_threads(threads) if (queries * most_keys * s->width >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < queries; i++) {
    int64_t t = i % s->time, head = i / s->time % s->heads, batch = i / s->time / s->heads, keys = first + t + 1;
    real *scores = (real *)memory + omp_get_thread_num() * room, sum = 0;
    const real *query = (const real *)q->data + batch * q->batch + t * q->time + head * q->head;
    const real *key_rows = (const real *)k->data + batch * k->batch + head * k->head;
    const real *value_rows = (const real *)v->data + batch * v->batch + head * v->head;
    real most = scores_of(scores, query, key_rows, k->time, keys, s->width, (real)s->scale);
    for (int64_t key = 0; key < keys; key++) scores[key] = mbk_exp_soft(scores[key] - most);
#pragma omp simd reduction(+ : sum)
    for (int64_t key = 0; key < keys; key++) sum += scores[key];
    values_of((real *)out->data + batch * out->batch + t * out->time + head * out->head, scores, value_rows, v->time, keys, s->width, 1 / sum);
  }
  return MB_OK;
}
