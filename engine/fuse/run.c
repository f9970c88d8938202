// SPDX-License-Identifier: MIT
//
// run.c: one run of a fused program. The first run compiles; later ones check their arguments, compute the
// uniform values, and make one call of the backend. Nothing is allocated after the first run, unless the
// ranges become more.
#include <stdio.h>

#include "core/tensor.h"
#include "fuse/fuse.h"

static const char who[] = "mb_program_run";
enum { RANGES = 6 }; // scratch slot

// ----- checks -------------------------------------------------------------------------------------

static int is_written(const mb_program *program, int slot) {
  for (int i = 0; i < program->n_stores; i++)
    if (program->stores[i].slot == slot) return 1;
  return 0;
}

static mb_status check_array(const mb_program *program, const mb_tensor *const *arrays, int i) {
  char name[32];
  snprintf(name, sizeof name, "array %d", i);
  const mb_tensor *t = arrays[i], *first = arrays[0];
  MB_TRY(mbi_check_wide(t, who, name));
  if (!mbi_is_contiguous(t)) MB_FAIL(MB_ERR_SHAPE, "%s: %s is not contiguous", who, name);
  if (t->dtype != first->dtype)
    MB_FAIL(MB_ERR_DTYPE, "%s: dtypes differ, array 0 is %s, %s is %s", who, mbi_dtype_name(first->dtype), name, mbi_dtype_name(t->dtype));
  if (mbi_numel(t) != mbi_numel(first))
    MB_FAIL(MB_ERR_SHAPE, "%s: lengths differ, array 0 has %lld elements, %s has %lld", who, (long long)mbi_numel(first), name,
            (long long)mbi_numel(t));
  if (t->storage->device != first->storage->device) MB_FAIL(MB_ERR_DEVICE, "%s: array 0 and %s are on different devices", who, name);
  if (is_written(program, i) && t->node)
    MB_FAIL(MB_ERR_STATE, "%s: %s is written, but has history; store into a detached clone", who, name);
  return MB_OK;
}

// Elements are loaded and stored tile by tile: an array that is written must share no memory with another.
static mb_status check_overlap(const mb_program *program, const mb_tensor *const *arrays) {
  for (int i = 0; i < program->n_arrays; i++)
    for (int j = 0; j < i; j++) {
      if (arrays[i]->storage != arrays[j]->storage || (!is_written(program, i) && !is_written(program, j))) continue;
      int64_t distance = arrays[i]->offset - arrays[j]->offset, length = mbi_numel(arrays[0]);
      if (distance < length && -distance < length)
        MB_FAIL(MB_ERR_ARG, "%s: arrays %d and %d share memory and array %d is written; use one slot for both", who, j, i,
                is_written(program, i) ? i : j);
    }
  return MB_OK;
}

static mb_status check(const mb_program *program, const mb_tensor *const *arrays, int n_arrays, int n_scalars) {
  if (program->n_stores == 0) MB_FAIL(MB_ERR_STATE, "%s: the program stores nothing", who);
  if (n_arrays < program->n_arrays)
    MB_FAIL(MB_ERR_ARG, "%s: %d arrays were given, the program uses %d", who, n_arrays, program->n_arrays);
  if (n_scalars < program->n_scalars)
    MB_FAIL(MB_ERR_ARG, "%s: %d scalars were given, the program uses %d", who, n_scalars, program->n_scalars);
  for (int i = 0; i < program->n_arrays; i++) MB_TRY(check_array(program, arrays, i));
  return check_overlap(program, arrays);
}

// ----- ranges -------------------------------------------------------------------------------------

// Sorts the ranges into scratch memory and joins neighbours. They come sorted, or nearly so, as a rule:
// insertion is linear then.
static mb_status sort_ranges(mbi_fuse_run *run, const int64_t *begin, const int64_t *end, int64_t count, int64_t length) {
  if (count < 1) MB_FAIL(MB_ERR_ARG, "%s: %lld ranges, at least one was expected", who, (long long)count);
  void *memory;
  MB_TRY(mbi_scratch(&memory, RANGES, 2 * (size_t)count * sizeof(int64_t)));
  int64_t *first = memory, *last = first + count;
  for (int64_t i = 0; i < count; i++) {
    if (begin[i] < 0 || begin[i] >= end[i] || end[i] > length)
      MB_FAIL(MB_ERR_ARG, "%s: range %lld is [%lld, %lld), a non-empty part of [0, %lld) was expected", who, (long long)i,
              (long long)begin[i], (long long)end[i], (long long)length);
    int64_t at = i;
    for (; at > 0 && first[at - 1] > begin[i]; at--) first[at] = first[at - 1], last[at] = last[at - 1];
    first[at] = begin[i], last[at] = end[i];
  }
  int64_t joined = 0;
  for (int64_t i = 1; i < count; i++) {
    if (first[i] < last[joined])
      MB_FAIL(MB_ERR_ARG, "%s: ranges [%lld, %lld) and [%lld, %lld) overlap", who, (long long)first[joined], (long long)last[joined],
              (long long)first[i], (long long)last[i]);
    if (first[i] > last[joined]) joined++, first[joined] = first[i];
    last[joined] = last[i];
  }
  run->begin = first, run->end = last, run->n_ranges = joined + 1;
  return MB_OK;
}

// ----- the run ------------------------------------------------------------------------------------

static void compute_uniforms(const mb_program *program, const double *scalars) {
  double *number = program->numbers;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *node = &program->values[v];
    if (!node->is_uniform) continue;
    if (node->kind == MBI_VALUE_SCALAR) number[v] = scalars[node->slot];
    else if (node->kind == MBI_VALUE_CONSTANT) number[v] = node->number;
    else {
      double argument[3] = {0};
      for (int i = 0; i < mbi_fuse_arity(node->op); i++) argument[i] = number[node->argument[i]];
      number[v] = mbi_fuse_evaluate(node->op, argument[0], argument[1], argument[2]);
    }
  }
  for (int i = 0; i < program->n_uniforms; i++) number[program->n_values + i] = number[program->uniforms[i]];
}

mb_status mb_program_run(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars,
                         const int64_t *begin, const int64_t *end, int64_t n_ranges) {
  MB_TRY(check(program, (const mb_tensor *const *)arrays, n_arrays, n_scalars));
  MB_TRY(mbi_fuse_compile(program));
  mbi_fuse_run run = {.steps = program->steps, .n_steps = program->n_steps, .n_arrays = program->n_arrays,
                      .n_uniforms = program->n_uniforms, .n_temps = program->n_temps, .arrays = program->addresses,
                      .uniforms = program->numbers + program->n_values};
  MB_TRY(sort_ranges(&run, begin, end, n_ranges, mbi_numel(arrays[0])));
  compute_uniforms(program, scalars);
  for (int i = 0; i < program->n_arrays; i++) program->addresses[i] = mbi_data(arrays[i]);
  MB_TRY(mbi_kernels_of(arrays[0])->fuse(&run));
  for (int i = 0; i < program->n_stores; i++) mbi_touch(arrays[program->stores[i].slot]);
  return MB_OK;
}
