// SPDX-License-Identifier: MIT
//
// plan.c: mb_spectral_new and its end. Matrices of equal shape, or with NORM of one size, of one dtype and device form a group,
// whatever their order; buffers of a group are made by the first probe and kept from step to step.
#include "spectral/spectral.h"

#include <stdio.h>

static mb_status check_options(const mb_spectral_options *o) {
  if (!o) MB_FAIL(MB_ERR_ARG, "mb_spectral_new: options is NULL");
  if ((int)o->method < MB_SPECTRAL_EXACT || o->method > MB_SPECTRAL_NORM)
    MB_FAIL(MB_ERR_ARG, "mb_spectral_new: unknown method %d", (int)o->method);
  if (o->method != MB_SPECTRAL_RANDOMIZED) return MB_OK;
  if (o->rank < 1) MB_FAIL(MB_ERR_ARG, "mb_spectral_new: rank is %lld, at least 1 was expected", (long long)o->rank);
  if (o->oversample < 0) MB_FAIL(MB_ERR_ARG, "mb_spectral_new: oversample is %lld, at least 0 was expected", (long long)o->oversample);
  if (o->power_iters < 0) MB_FAIL(MB_ERR_ARG, "mb_spectral_new: power_iters is %lld, at least 0 was expected", (long long)o->power_iters);
  return MB_OK;
}

static mb_status check_matrix(mb_tensor *t, int64_t i) {
  enum { MOST = 1 << 24 };
  char who[48], text[MBI_SHAPE_TEXT];
  snprintf(who, sizeof who, "mb_spectral_new: matrix %lld", (long long)i);
  MB_TRY(mbi_check_wide(t, who, "it"));
  int64_t m = t->shape.ndim > 0 ? t->shape.size[0] : 1, n = mbi_numel(t) / m;
  if (!mbi_is_contiguous(t))
    MB_FAIL(MB_ERR_ARG, "%s of shape %s is not contiguous", who, mbi_shape_text(text, t->shape.ndim, t->shape.size));
  if (m > 1 && n > 1 && (m > MOST || n > MOST))
    MB_FAIL(MB_ERR_SHAPE, "%s of shape %s has a side above %d", who, mbi_shape_text(text, t->shape.ndim, t->shape.size), MOST);
  return MB_OK;
}

// What kind of group a matrix (m, n) belongs to, with its k and kept.
static mbi_spectral_group kind_of(const mb_spectral_options *o, const mb_tensor *t) {
  mbi_spectral_group g = {.dtype = t->dtype, .source = t->dtype, .device = t->storage->device};
  int64_t m = t->shape.ndim > 0 ? t->shape.size[0] : 1, n = mbi_numel(t) / m, least = m < n ? m : n;
  g.kind = MBI_SPECTRAL_VECTOR;
  g.k = g.kept = 1;
  if (o->method == MB_SPECTRAL_NORM) g.m = 1, g.n = m * n;
  if (least == 1 || o->method == MB_SPECTRAL_NORM) return g;
  if (o->compute_f64) g.dtype = MB_F64;
  if (o->method == MB_SPECTRAL_POLAR || o->method == MB_SPECTRAL_SOFT) {
    g.kind = MBI_SPECTRAL_WHOLE;
    g.m = m, g.n = n;
    return g;
  }
  g.kind = MBI_SPECTRAL_EXACT;
  g.m = m, g.n = n, g.k = g.kept = least;
  if (o->method != MB_SPECTRAL_RANDOMIZED) return g;
  if (o->rank < least) g.kept = o->rank;
  // Not rank + oversample: the sum may overflow.
  if (o->oversample < (least + 1) / 2 - g.kept) {
    g.kind = MBI_SPECTRAL_SKETCH;
    g.k = g.kept + o->oversample;
  }
  return g;
}

static int same_group(const mbi_spectral_group *a, const mbi_spectral_group *b) {
  return a->kind == b->kind && a->dtype == b->dtype && a->source == b->source && a->device == b->device && a->m == b->m && a->n == b->n;
}

static mb_status make_groups(mb_spectral *p) {
  const char *who = "mb_spectral_new";
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)p->count, sizeof *p->groups));
  p->groups = memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)p->count, sizeof *p->kept));
  p->kept = memory;
  for (int64_t i = 0; i < p->count; i++) {
    mbi_spectral_group kind = kind_of(&p->options, p->matrices[i]);
    int64_t at = 0;
    while (at < p->group_count && !same_group(&p->groups[at], &kind)) at++;
    if (at == p->group_count) p->groups[p->group_count++] = kind;
    p->groups[at].count++;
    p->kept[i] = kind.kept;
    if (kind.kept > p->width) p->width = kind.kept;
  }
  MB_TRY(mbi_calloc(&p->lists, who, (size_t)p->group_count, sizeof(mbi_sketch) + sizeof(mbi_arrays)));
  MB_TRY(mbi_spectral_arrays_new(p));
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    MB_TRY(mbi_calloc(&memory, who, (size_t)g->count, sizeof *g->lift));
    g->lift = memory;
    int64_t member = 0, *size = (int64_t *)p->table + p->count + g->first;
    for (int64_t i = 0; i < p->count; i++) {
      mbi_spectral_group kind = kind_of(&p->options, p->matrices[i]);
      if (!same_group(g, &kind)) continue;
      size[member] = mbi_numel(p->matrices[i]);
      g->most = size[member] > g->most ? size[member] : g->most;
      g->all += size[member];
      g->index[member++] = i;
    }
  }
  MB_TRY(mbi_calloc(&memory, who, (size_t)(p->count * p->width), sizeof *p->sigma));
  p->sigma = memory;
  return MB_OK;
}

static mb_status make_plan(mb_spectral *p, mb_tensor *const *matrices, int64_t count, const mb_spectral_options *options) {
  void *memory;
  p->options = *options;
  p->nonfinite = -1;
  MB_TRY(mbi_calloc(&memory, "mb_spectral_new", (size_t)count, sizeof *p->matrices));
  p->matrices = memory;
  for (; p->count < count; p->count++) {
    MB_TRY(check_matrix(matrices[p->count], p->count));
    p->device = matrices[0]->storage->device;
    if (matrices[p->count]->storage->device != p->device)
      MB_FAIL(MB_ERR_DEVICE, "mb_spectral_new: matrix %lld is on %s, matrix 0 on %s; a plan has one device", (long long)p->count,
              mbi_memory_of(matrices[p->count])->name, mbi_memory_of(matrices[0])->name);
    p->matrices[p->count] = matrices[p->count];
    mb_tensor_retain(matrices[p->count]);
  }
  return make_groups(p);
}

mb_status mb_spectral_new(mb_spectral **out, mb_tensor *const *matrices, int64_t count, const mb_spectral_options *options) {
  *out = NULL;
  MB_TRY(check_options(options));
  if (count < 1 || !matrices) MB_FAIL(MB_ERR_ARG, "mb_spectral_new: %lld matrices, at least 1 was expected", (long long)count);
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_spectral_new", 1, sizeof(mb_spectral)));
  mb_spectral *p = memory;
  mb_status status = make_plan(p, matrices, count, options);
  if (status != MB_OK) mb_spectral_release(p);
  else *out = p;
  return status;
}

void mb_spectral_release(mb_spectral *p) {
  if (!p) return;
  for (int64_t i = 0; i < p->group_count; i++) {
    mbi_spectral_group *g = &p->groups[i];
    mbi_free(g->lift);
    mb_tensor_release(g->omega), mb_tensor_release(g->x), mb_tensor_release(g->y), mb_tensor_release(g->t);
    mb_tensor_release(g->w), mb_tensor_release(g->sizes), mb_tensor_release(g->factor);
    mb_tensor_release(g->basis), mb_tensor_release(g->copies);
  }
  for (int64_t i = 0; i < p->count; i++) mb_tensor_release(p->matrices[i]);
  mbi_spectral_policy_free(p);
  mbi_spectral_arrays_free(p);
  mbi_free(p->matrices), mbi_free(p->groups), mbi_free(p->kept), mbi_free(p->sigma), mbi_free(p->lists);
  mbi_free(p);
}

int64_t mb_spectral_width(const mb_spectral *p) { return p ? p->width : 0; }
int64_t mb_spectral_nonfinite(const mb_spectral *p) { return p ? p->nonfinite : -1; }

// ----- what kernels are given ---------------------------------------------------------------------------

const mbi_kernels *mbi_spectral_kernels(const mbi_spectral_group *g) { return mbi_device_of(g->device)->kernels[g->dtype]; }

// NULL before the first probe.
static void *data_of(const mb_tensor *t) { return t ? mbi_data(t) : NULL; }

mbi_sketch mbi_spectral_sketch_of(const mbi_spectral_group *g) {
  return (mbi_sketch){
    .count = g->count, .m = g->m, .n = g->n, .q = g->k, .mask = {g->on.flags, 0}, .g = g->on.data, .scale = g->on.scale,
    .place = g->on.index, .omega = data_of(g->omega), .x = data_of(g->x), .y = data_of(g->y), .t = data_of(g->t),
    .w = data_of(g->w), .sigma = g->on.sigma, .sizes = data_of(g->sizes), .gain = g->on.gain,
    .basis = data_of(g->basis), .kept = g->kept,
  };
}

mbi_gram mbi_spectral_gram_of(const mbi_spectral_group *g) {
  return (mbi_gram){
    .count = g->count, .m = g->m, .n = g->n, .k = g->k, .mask = {g->on.flags, MBI_FINITE}, .g = g->on.data, .scale = g->on.scale,
    .sigma = g->on.sigma, .factor = mbi_data(g->factor),
  };
}

// Norms go to sigma in groups of vectors, scales are what others need.
mbi_arrays mbi_spectral_arrays_of(const mbi_spectral_group *g) {
  int is_vector = g->kind == MBI_SPECTRAL_VECTOR;
  return (mbi_arrays){
    .count = g->count, .most = g->most, .x = g->on.data, .size = g->on.size, .norm = is_vector ? g->on.sigma : NULL,
    .scale = is_vector ? NULL : g->on.scale, .flags = g->on.flags, .target = is_vector ? g->on.gain + g->count : NULL,
    .gain = g->on.gain, .all = g->all,
  };
}

mbi_sketch *mbi_spectral_sketches(const mb_spectral *p, mb_dtype dtype, int64_t wanted, int64_t *count) {
  mbi_sketch *list = p->lists;
  *count = 0;
  for (int64_t at = 0; at < p->group_count; at++) {
    if (p->groups[at].kind != MBI_SPECTRAL_SKETCH || p->groups[at].dtype != dtype) continue;
    list[*count] = mbi_spectral_sketch_of(&p->groups[at]);
    list[(*count)++].mask.wanted = wanted;
  }
  return list;
}

mbi_arrays *mbi_spectral_arrays_list(const mb_spectral *p, mbi_spectral_kind kind, mb_dtype dtype, int64_t *count) {
  mbi_arrays *list = (mbi_arrays *)(void *)((mbi_sketch *)p->lists + p->group_count);
  *count = 0;
  for (int64_t at = 0; at < p->group_count; at++)
    if (p->groups[at].kind == kind && p->groups[at].dtype == dtype) list[(*count)++] = mbi_spectral_arrays_of(&p->groups[at]);
  return list;
}
