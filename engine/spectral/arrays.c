// SPDX-License-Identifier: MIT
//
// arrays.c: what a plan knows of its matrices, on the host and on the device: where they are; what a probe finds, singular
// values, scales and flags, which is one block that reaches the host in one copy; and the gains of a change. Members stand by
// groups, and a group has its part of each.
//
// Everything of the device is made by the first probe and stays. Addresses are sent when they have changed, which they do not
// from step to step; scales and flags begin as a copy of what the device keeps for that.
#include "spectral/spectral.h"

#include <string.h>

_Static_assert(sizeof(void *) == sizeof(double) && sizeof(int64_t) == sizeof(double), "arrays of one size of number");

// ----- on the host ------------------------------------------------------------------------------------------

mb_status mbi_spectral_arrays_new(mb_spectral *p) {
  const char *who = "mb_spectral_new";
  void *memory;
  int64_t first = 0;
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    g->first = first, g->first_sigma = p->n_sigma, g->first_gain = p->n_gain;
    first += g->count;
    p->n_sigma += g->count * g->k;
    p->n_gain += g->count * (g->k > 2 ? g->k : 2);
  }
  MB_TRY(mbi_calloc(&p->table, who, (size_t)(3 * p->count), sizeof(double)));
  MB_TRY(mbi_calloc(&memory, who, (size_t)(p->n_sigma + 2 * p->count), sizeof(double)));
  p->found = memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)p->n_gain, sizeof(double)));
  p->gains = memory;
  void **data = p->table;
  int64_t *size = (int64_t *)(void *)(data + p->count), *index = size + p->count;
  double *scale = p->found + p->n_sigma;
  int64_t *flags = (int64_t *)(void *)(scale + p->count);
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    g->data = data + g->first, g->index = index + g->first;
    g->scale = scale + g->first, g->flags = flags + g->first;
    g->sigma = p->found + g->first_sigma, g->gain = p->gains + g->first_gain;
  }
  return MB_OK;
}

void mbi_spectral_arrays_free(mb_spectral *p) {
  mbi_free(p->table), mbi_free(p->found), mbi_free(p->gains);
  mb_tensor_release(p->on_table), mb_tensor_release(p->on_found);
  mb_tensor_release(p->on_gains), mb_tensor_release(p->initial);
}

void mbi_spectral_point(mb_spectral *p, mbi_spectral_group *g, int64_t i, void *data) {
  if (g->data[i] != data) p->is_moved = 1;
  g->data[i] = data;
}

int64_t mbi_spectral_numbers(const mb_spectral *p) { return p->n_sigma + 5 * p->count + 2; }

// ----- on the device ----------------------------------------------------------------------------------------

static mb_status make(mb_tensor **t, const mb_spectral *p, int64_t numbers) {
  mbi_shape shape = {.ndim = 1, .size = {numbers}};
  return *t ? MB_OK : mbi_tensor_new(t, p->device, MB_F64, &shape);
}

static mb_status make_initial(mb_spectral *p) {
  void *memory;
  if (p->initial) return MB_OK;
  MB_TRY(mbi_calloc(&memory, "mb_spectral_probe", (size_t)(2 * p->count), sizeof(double)));
  double *scale = memory;
  int64_t *flags = (int64_t *)(void *)(scale + p->count);
  for (int64_t i = 0; i < p->count; i++) scale[i] = 1, flags[i] = MBI_FINITE;
  mb_status status = make(&p->initial, p, 2 * p->count);
  if (status == MB_OK) status = mbi_memory_of(p->initial)->copy_in(mbi_data(p->initial), memory, (size_t)(2 * p->count) * sizeof(double));
  mbi_free(memory);
  if (status == MB_OK) return MB_OK;
  mb_tensor_release(p->initial);
  p->initial = NULL;
  return status;
}

static void point_groups(mb_spectral *p) {
  void **data = mbi_data(p->on_table);
  int64_t *size = (int64_t *)(void *)(data + p->count), *index = size + p->count;
  double *sigma = mbi_data(p->on_found), *scale = sigma + p->n_sigma, *gain = mbi_data(p->on_gains);
  int64_t *flags = (int64_t *)(void *)(scale + p->count);
  for (int64_t at = 0; at < p->group_count; at++) {
    mbi_spectral_group *g = &p->groups[at];
    g->on = (mbi_spectral_arrays){
      .data = data + g->first, .size = size + g->first, .index = index + g->first, .flags = flags + g->first,
      .scale = scale + g->first, .sigma = sigma + g->first_sigma, .gain = gain + g->first_gain,
    };
  }
}

static mb_status send_table(mb_spectral *p) {
  if (!p->is_moved) return MB_OK;
  MB_TRY(mbi_memory_of(p->on_table)->copy_in(mbi_data(p->on_table), p->table, (size_t)(3 * p->count) * sizeof(double)));
  p->is_moved = 0;
  return MB_OK;
}

mb_status mbi_spectral_ready(mb_spectral *p) {
  if (!p->on_table) p->is_moved = 1;
  MB_TRY(make(&p->on_table, p, 3 * p->count));
  MB_TRY(make(&p->on_found, p, mbi_spectral_numbers(p)));
  MB_TRY(make(&p->on_gains, p, p->n_gain));
  point_groups(p);
  return send_table(p);
}

mb_status mbi_spectral_begin(mb_spectral *p) {
  MB_TRY(mbi_spectral_ready(p));
  MB_TRY(make_initial(p));
  mbi_view from = {.data = mbi_data(p->initial), .ndim = 1, .size = {2 * p->count}, .stride = {1}}, to = from;
  to.data = (double *)mbi_data(p->on_found) + p->n_sigma;
  return mbi_memory_of(p->on_found)->copy_view(&to, &from, sizeof(double));
}

mb_status mbi_spectral_send(mb_spectral *p) {
  const mbi_device *device = mbi_memory_of(p->on_found);
  MB_TRY(send_table(p));
  MB_TRY(device->copy_in((double *)mbi_data(p->on_found) + p->n_sigma, p->found + p->n_sigma, (size_t)p->count * sizeof(double)));
  return device->copy_in(mbi_data(p->on_gains), p->gains, (size_t)p->n_gain * sizeof(double));
}

mb_status mbi_spectral_fetch(mb_spectral *p) {
  return mbi_memory_of(p->on_found)->copy_out(p->found, mbi_data(p->on_found), (size_t)(p->n_sigma + 2 * p->count) * sizeof(double));
}
