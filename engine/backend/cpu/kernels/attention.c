// SPDX-License-Identifier: MIT
//
// attention.c: causal attention, o = softmax(scale q k^T) v with keys up to the query's own position.
//
// One thread owns one (batch, head) and walks it in blocks of BLOCK queries, which are the lanes of all
// vectors: scores lie transposed, one row of BLOCK numbers a key, so that the softmax over keys is vector
// code without a sum across lanes, and every product below has its operands next to each other:
//   forward    S^T = K Q^T          O = P V
//   backward   S^T = K Q^T          dP^T = V dO^T         P = exp(S - lse), dS = P (dP - delta), delta = sum_d dO O
//              dV += P^T dO         dK += dS^T Q          dQ += dS K
// Forward keeps the scores of one block, BLOCK x T; backward takes the keys in chunks that stay in the
// first-level cache. Tiles of keys beyond the block's last query are not computed. The scale is folded into Q.
// Sums over keys run in order, so that results do not depend on the number of threads.
#include <string.h>

#include "backend/cpu/tile.h"
#include "backend/cpu/vmath.h"

enum { BLOCK = MBK_PANEL, CHUNK = 64 };

// What one thread works in; all parts start on a cache line.
typedef struct workspace {
  real *key_rows, *value_rows;     // tiles of rows, (T, D)
  real *key_panels, *value_panels; // (T, D)
  real *query_columns, *dout_columns; // transposed, (D, BLOCK)
  real *query_panels, *dout_panels;   // (BLOCK, D)
  real *scores, *dscores;          // one row of BLOCK a key
  real *result;                    // (BLOCK, padded D)
  real *dkeys, *dvalues;           // (padded T, padded D)
} workspace;

static real *take(real **next, int64_t count) {
  real *part = *next;
  *next += mbk_round_up(count, 64 / (int64_t)sizeof(real));
  return part;
}

// Lays out a workspace from `memory`, and returns the number of elements it takes.
static int64_t lay_out(workspace *w, real *memory, const mbi_attention *s, int backward) {
  int64_t time = mbk_round_up(s->time, MBK_ROWS), width = mbk_round_up(s->width, MBK_LANES);
  real *next = memory;
  w->key_rows = take(&next, time * s->width);
  w->query_columns = take(&next, s->width * BLOCK);
  w->result = take(&next, BLOCK * width);
  if (!backward) {
    w->value_panels = take(&next, time * width);
    w->scores = take(&next, time * BLOCK);
  } else {
    w->value_rows = take(&next, time * s->width);
    w->key_panels = take(&next, time * width);
    w->dout_columns = take(&next, s->width * BLOCK);
    w->query_panels = take(&next, BLOCK * width);
    w->dout_panels = take(&next, BLOCK * width);
    w->scores = take(&next, CHUNK * BLOCK);
    w->dscores = take(&next, CHUNK * BLOCK);
    w->dkeys = take(&next, time * width);
    w->dvalues = take(&next, time * width);
  }
  return next - memory;
}

static const real *head_of(const mbi_heads *x, int64_t batch, int64_t head) {
  return (const real *)x->data + batch * x->batch + head * x->head;
}
static real *head_to(const mbi_heads *x, int64_t batch, int64_t head) { return (real *)x->data + batch * x->batch + head * x->head; }

// ----- products -----------------------------------------------------------------------------------------

// out[key][query] = sum_d rows[key][d] columns[d][query] for `keys` keys, rounded up to whole tiles.
static void keys_by_queries(real *out, const real *rows, const real *columns, int64_t keys, int64_t width) {
  for (int64_t key = 0; key < keys; key += MBK_ROWS)
    mbk_tile_of(2, width, rows + key * width, 1, MBK_ROWS, columns, BLOCK, out + key * BLOCK, BLOCK, 0);
}

// out[query][d] (+)= sum_key weights[key][query] panels[key][d] over keys [first, first + keys); weights starts
// at key `first`, which lies `ahead` queries before the block. A query's tile ends at its last key.
static void queries_by_width(real *out, const real *weights, const real *panels, int64_t first, int64_t keys, int64_t ahead, int64_t time,
                             int64_t queries, int64_t width, int accumulate) {
  int64_t row = mbk_round_up(width, MBK_LANES);
  for (int64_t strip = 0; strip * MBK_PANEL < width; strip++) {
    int vectors = mbk_strip_vectors(strip, width);
    const real *panel = mbk_strip(panels, strip, time) + first * vectors * MBK_LANES;
    for (int64_t query = 0; query < queries; query += MBK_ROWS) {
      int64_t k = ahead + query + MBK_ROWS < keys ? ahead + query + MBK_ROWS : keys;
      real *c = out + query * row + strip * MBK_PANEL;
      if (k <= 0) continue;
      if (vectors == 2) mbk_tile_of(2, k, weights + query, 1, BLOCK, panel, MBK_PANEL, c, row, accumulate);
      else mbk_tile_of(1, k, weights + query, 1, BLOCK, panel, MBK_LANES, c, row, accumulate);
    }
  }
}

// out[key][d] += sum_query weights[key][query] panels[query][d]; keys that lie within the block start at
// their own query.
static void keys_by_width(real *out, const real *weights, const real *panels, int64_t keys, int64_t ahead, int64_t width) {
  int64_t row = mbk_round_up(width, MBK_LANES);
  for (int64_t strip = 0; strip * MBK_PANEL < width; strip++) {
    int vectors = mbk_strip_vectors(strip, width);
    for (int64_t key = 0; key < keys; key += MBK_ROWS) {
      int64_t start = key > ahead ? key - ahead : 0;
      const real *panel = mbk_strip(panels, strip, BLOCK) + start * vectors * MBK_LANES, *a = weights + key * BLOCK + start;
      real *c = out + key * row + strip * MBK_PANEL;
      if (vectors == 2) mbk_tile_of(2, BLOCK - start, a, BLOCK, 1, panel, MBK_PANEL, c, row, 1);
      else mbk_tile_of(1, BLOCK - start, a, BLOCK, 1, panel, MBK_LANES, c, row, 1);
    }
  }
}

// ----- forward ------------------------------------------------------------------------------------------

// Scores (keys, BLOCK) become weights exp(score - most), 0 where the key comes after the query; sum and most
// are kept for each query. `ahead`: keys before the block's first query.
static void soften(real *scores, int64_t keys, int64_t ahead, real *most, real *sum) {
  for (int64_t key = ahead; key < keys; key++)
    for (int64_t query = 0; query < key - ahead; query++) scores[key * BLOCK + query] = -(real)INFINITY;
  for (int64_t query = 0; query < BLOCK; query++) most[query] = -(real)INFINITY, sum[query] = 0;
  for (int64_t key = 0; key < keys; key++)
    for (int64_t query = 0; query < BLOCK; query++) {
      real score = scores[key * BLOCK + query];
      most[query] = score > most[query] ? score : most[query];
    }
  for (int64_t key = 0; key < keys; key++)
    for (int64_t query = 0; query < BLOCK; query++) {
      real weight = mbk_exp_soft(scores[key * BLOCK + query] - most[query]);
      scores[key * BLOCK + query] = weight;
      sum[query] += weight;
    }
}

static void forward_head(const mbi_attention *s, const workspace *w, const mbi_heads *out, real *lse, const mbi_heads *q,
                         const mbi_heads *k, const mbi_heads *v, int64_t batch, int64_t head) {
  const real *queries = head_of(q, batch, head);
  real *to = head_to(out, batch, head), most[BLOCK], sum[BLOCK];
  int64_t row = mbk_round_up(s->width, MBK_LANES);
  mbk_pack_rows(w->key_rows, head_of(k, batch, head), k->time, s->time, s->width);
  mbk_pack_panels(w->value_panels, head_of(v, batch, head), v->time, s->time, s->time, s->width, 1);
  for (int64_t first = 0; first < s->time; first += BLOCK) {
    int64_t n = s->time - first < BLOCK ? s->time - first : BLOCK, keys = first + n;
    mbk_pack_transposed(w->query_columns, queries + first * q->time, q->time, n, s->width, (real)s->scale);
    keys_by_queries(w->scores, w->key_rows, w->query_columns, keys, s->width);
    soften(w->scores, keys, first, most, sum);
    queries_by_width(w->result, w->scores, w->value_panels, 0, keys, first, s->time, n, s->width, 0);
    for (int64_t i = 0; i < n; i++) {
      real inverse = 1 / sum[i];
      for (int64_t d = 0; d < s->width; d++) to[(first + i) * out->time + d] = w->result[i * row + d] * inverse;
      if (lse) lse[first + i] = most[i] + mbk_log(sum[i]);
    }
  }
}

mb_status MBK(attention)(const mbi_attention *s, const mbi_heads *out, void *lse, const mbi_heads *q, const mbi_heads *k,
                         const mbi_heads *v) {
  workspace w;
  int64_t each = lay_out(&w, NULL, s, 0), heads = s->batch * s->heads;
  int threads = omp_get_max_threads() < heads ? omp_get_max_threads() : (int)heads;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(threads * each) * sizeof(real)));
#pragma omp parallel for schedule(static) private(w) num_threads(threads) if (heads * s->time * s->time * s->width >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < heads; i++) {
    lay_out(&w, (real *)memory + omp_get_thread_num() * each, s, 0);
    forward_head(s, &w, out, lse ? (real *)lse + i * s->time : NULL, q, k, v, i / s->heads, i % s->heads);
  }
  return MB_OK;
}

// ----- backward -----------------------------------------------------------------------------------------

// scores become weights exp(score - lse), dscores become weights (dscores - delta); both 0 where the key comes
// after the query.
static void soften_again(real *restrict scores, real *restrict dscores, int64_t keys, int64_t ahead, const real *lse, const real *delta) {
  for (int64_t key = ahead > 0 ? ahead : 0; key < keys; key++)
    for (int64_t query = 0; query < BLOCK && query < key - ahead; query++) scores[key * BLOCK + query] = -(real)INFINITY;
  for (int64_t key = 0; key < keys; key++)
    for (int64_t query = 0; query < BLOCK; query++) {
      real weight = mbk_exp_soft(scores[key * BLOCK + query] - lse[query]);
      scores[key * BLOCK + query] = weight;
      dscores[key * BLOCK + query] = weight * (dscores[key * BLOCK + query] - delta[query]);
    }
}

static void copy_out(const mbi_heads *to, int64_t batch, int64_t head, const real *from, int64_t first, int64_t rows, int64_t width,
                     real factor) {
  if (!to->data) return;
  int64_t row = mbk_round_up(width, MBK_LANES);
  real *x = head_to(to, batch, head);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t d = 0; d < width; d++) x[(first + i) * to->time + d] = factor * from[i * row + d];
}

static void backward_head(const mbi_attention *s, const workspace *w, const mbi_attention_gradients *g, const void *all_lse,
                          const mbi_heads *q, const mbi_heads *k, const mbi_heads *v, int64_t batch, int64_t head) {
  const real *queries = head_of(q, batch, head), *douts = head_of(&g->dout, batch, head), *outs = head_of(&g->out, batch, head);
  const real *from_lse = (const real *)all_lse + (batch * s->heads + head) * s->time;
  int64_t row = mbk_round_up(s->width, MBK_LANES), padded = mbk_round_up(s->time, MBK_ROWS);
  mbk_pack_rows(w->key_rows, head_of(k, batch, head), k->time, s->time, s->width);
  mbk_pack_rows(w->value_rows, head_of(v, batch, head), v->time, s->time, s->width);
  mbk_pack_panels(w->key_panels, head_of(k, batch, head), k->time, s->time, s->time, s->width, 1);
  memset(w->dkeys, 0, (size_t)(padded * row) * sizeof(real));
  memset(w->dvalues, 0, (size_t)(padded * row) * sizeof(real));
  for (int64_t first = 0; first < s->time; first += BLOCK) {
    int64_t n = s->time - first < BLOCK ? s->time - first : BLOCK, keys = first + n;
    const real *query = queries + first * q->time, *dout = douts + first * g->dout.time, *out = outs + first * g->out.time;
    real lse[BLOCK] = {0}, delta[BLOCK] = {0};
    for (int64_t i = 0; i < n; i++) {
      lse[i] = from_lse[first + i];
      real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t d = 0; d < s->width; d++) sum += dout[i * g->dout.time + d] * out[i * g->out.time + d];
      delta[i] = sum;
    }
    mbk_pack_transposed(w->query_columns, query, q->time, n, s->width, (real)s->scale);
    mbk_pack_transposed(w->dout_columns, dout, g->dout.time, n, s->width, 1);
    mbk_pack_panels(w->query_panels, query, q->time, n, BLOCK, s->width, (real)s->scale);
    mbk_pack_panels(w->dout_panels, dout, g->dout.time, n, BLOCK, s->width, 1);
    memset(w->result, 0, (size_t)(BLOCK * row) * sizeof(real));
    for (int64_t key = 0; key < keys; key += CHUNK) {
      int64_t count = keys - key < CHUNK ? keys - key : CHUNK, ahead = first - key;
      keys_by_queries(w->scores, w->key_rows + key * s->width, w->query_columns, count, s->width);
      keys_by_queries(w->dscores, w->value_rows + key * s->width, w->dout_columns, count, s->width);
      soften_again(w->scores, w->dscores, mbk_round_up(count, MBK_ROWS), ahead, lse, delta);
      keys_by_width(w->dvalues + key * row, w->scores, w->dout_panels, count, ahead, s->width);
      keys_by_width(w->dkeys + key * row, w->dscores, w->query_panels, count, ahead, s->width);
      queries_by_width(w->result, w->dscores, w->key_panels, key, count, ahead, s->time, n, s->width, 1);
    }
    copy_out(&g->dq, batch, head, w->result, first, n, s->width, (real)s->scale);
  }
  copy_out(&g->dk, batch, head, w->dkeys, 0, s->time, s->width, 1);
  copy_out(&g->dv, batch, head, w->dvalues, 0, s->time, s->width, 1);
}

mb_status MBK(attention_backward)(const mbi_attention *s, const mbi_attention_gradients *g, const void *lse, const mbi_heads *q,
                                  const mbi_heads *k, const mbi_heads *v) {
  workspace w;
  int64_t each = lay_out(&w, NULL, s, 1), heads = s->batch * s->heads;
  int threads = omp_get_max_threads() < heads ? omp_get_max_threads() : (int)heads;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(threads * each) * sizeof(real)));
#pragma omp parallel for schedule(static) private(w) num_threads(threads) if (heads * s->time * s->time * s->width >= MBK_PARALLEL_FROM)
  for (int64_t i = 0; i < heads; i++) {
    lay_out(&w, (real *)memory + omp_get_thread_num() * each, s, 1);
    backward_head(s, &w, g, lse, q, k, v, i / s->heads, i % s->heads);
  }
  return MB_OK;
}
