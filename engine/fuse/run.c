// SPDX-License-Identifier: MIT
//
// run.c: one run of a fused program. The first run plans and compiles, one with other parts places them; later runs
// check their arguments, compute the numbers, and make one call of the backend for each pass. Nothing is allocated then.
#include <stdio.h>
#include <string.h>

#include "autograd/model.h"
#include "core/capture.h"
#include "fuse/fuse.h"

static const char who[] = "mb_program_run";
enum { PARTS = 6 }; // scratch slot

// ----- checks -------------------------------------------------------------------------------------

static int is_written(const mb_program *program, int slot) {
  for (int i = 0; i < program->n_stores; i++)
    if (program->stores[i].slot == slot) return 1;
  return 0;
}

static int is_of_elements(const mb_program *program, int slot) { return mbi_fuse_slot_extent(program, slot) == MB_FUSE_PER_ELEMENT; }

// The first array of elements, whose length and device the others must have.
static int first_of(const mb_program *program) {
  for (int i = 0; i < program->n_arrays; i++)
    if (is_of_elements(program, i)) return i;
  return -1;
}

static mb_status check_array(const mb_program *program, const mb_tensor *const *arrays, int i, int leader) {
  char name[32];
  snprintf(name, sizeof name, "array %d", i);
  const mb_tensor *t = arrays[i], *first = arrays[leader];
  MB_TRY(mbi_check_wide(t, who, name));
  if (!mbi_is_contiguous(t)) MB_FAIL(MB_ERR_SHAPE, "%s: %s is not contiguous", who, name);
  if (t->dtype != first->dtype)
    MB_FAIL(MB_ERR_DTYPE, "%s: dtypes differ, array %d is %s, %s is %s", who, leader, mbi_dtype_name(first->dtype), name,
            mbi_dtype_name(t->dtype));
  if (is_of_elements(program, i) && mbi_numel(t) != mbi_numel(first))
    MB_FAIL(MB_ERR_SHAPE, "%s: lengths differ, array %d has %lld elements, %s has %lld", who, leader, (long long)mbi_numel(first), name,
            (long long)mbi_numel(t));
  if (t->storage->device != first->storage->device)
    MB_FAIL(MB_ERR_DEVICE, "%s: array %d and %s are on different devices", who, leader, name);
  if (is_written(program, i) && t->node)
    MB_FAIL(MB_ERR_STATE, "%s: %s is written, but has history; store into a detached clone", who, name);
  return MB_OK;
}

// Elements are loaded and stored tile by tile: an array that is written must share no memory with another.
static mb_status check_overlap(const mb_program *program, const mb_tensor *const *arrays) {
  for (int i = 0; i < program->n_arrays; i++)
    for (int j = 0; j < i; j++) {
      if (arrays[i]->storage != arrays[j]->storage || (!is_written(program, i) && !is_written(program, j))) continue;
      int64_t distance = arrays[i]->offset - arrays[j]->offset;
      if (distance < mbi_numel(arrays[j]) && -distance < mbi_numel(arrays[i]))
        MB_FAIL(MB_ERR_ARG, "%s: arrays %d and %d share memory and array %d is written; use one slot for both", who, j, i,
                is_written(program, i) ? i : j);
    }
  return MB_OK;
}

static mb_status check(const mb_program *program, const mb_tensor *const *arrays, int n_arrays, int n_scalars) {
  int first = first_of(program);
  if (program->n_stores == 0) MB_FAIL(MB_ERR_STATE, "%s: the program stores nothing", who);
  if (n_arrays < program->n_arrays)
    MB_FAIL(MB_ERR_ARG, "%s: %d arrays were given, the program uses %d", who, n_arrays, program->n_arrays);
  if (n_scalars < program->n_scalars)
    MB_FAIL(MB_ERR_ARG, "%s: %d scalars were given, the program uses %d", who, n_scalars, program->n_scalars);
  if (first < 0) MB_FAIL(MB_ERR_ARG, "%s: the program has no array of elements", who);
  MB_TRY(check_array(program, arrays, first, first));
  for (int i = 0; i < program->n_arrays; i++) MB_TRY(check_array(program, arrays, i, first));
  return check_overlap(program, arrays);
}

// Arrays of one number a row, a column, a part.
static mb_status check_small_arrays(const mb_program *program, const mb_tensor *const *arrays) {
  static const char *const names[] = {"", "", "parts", "rows", "columns"};
  for (int i = 0; i < program->n_arrays; i++) {
    mb_fuse_extent extent = mbi_fuse_slot_extent(program, i);
    if (extent == MB_FUSE_PER_ELEMENT || mbi_numel(arrays[i]) == program->group_total[extent]) continue;
    MB_FAIL(MB_ERR_SHAPE, "%s: array %d has %lld elements, one for each of %lld %s was expected", who, i, (long long)mbi_numel(arrays[i]),
            (long long)program->group_total[extent], names[extent]);
  }
  return MB_OK;
}

// ----- the run ------------------------------------------------------------------------------------

// Row `set` of the program's numbers.
static void compute_set(const mb_program *program, int64_t set, const double *scalars) {
  double *number = program->numbers + set * program->n_values;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *node = &program->values[v];
    if (node->extent != MB_FUSE_NUMBER) continue;
    if (node->kind == MBI_VALUE_SCALAR) number[v] = scalars[node->slot];
    else if (node->kind == MBI_VALUE_CONSTANT) number[v] = node->number;
    else {
      double argument[3] = {0};
      for (int i = 0; i < mbi_fuse_arity(node->op); i++) argument[i] = number[node->argument[i]];
      number[v] = mbi_fuse_evaluate(node->op, argument[0], argument[1], argument[2]);
    }
  }
}

static void compute_numbers(const mb_program *program, const double *scalars, int n_scalars, int64_t n_sets) {
  for (int64_t set = 0; set < n_sets; set++) compute_set(program, set, scalars + set * n_scalars);
}

// Number i of row `set` of those that a pass takes.
static double number_of(const mb_program *program, const mbi_pass *pass, int64_t set, int i) {
  return program->numbers[set * program->n_values + pass->uniforms[i]];
}

static void *kept_address(const mb_program *program, int value) {
  size_t size = program->memory->dtype == MB_F64 ? sizeof(double) : sizeof(float);
  return (char *)mbi_data(program->memory) + (size_t)program->offsets[program->values[value].place] * size;
}

// What a pass takes in a graph: the key, then its uniform numbers in the arrays' dtype, set by set.
static int64_t cells_of(const mbi_pass *pass, int64_t n_sets) { return 3 + n_sets * pass->n_uniforms; }

static void write_cells(uint64_t *cells, const mb_program *program, const mbi_pass *pass, mb_dtype dtype, int64_t n_sets) {
  memcpy(cells, program->key, sizeof program->key);
  cells += 3;
  for (int64_t set = 0; set < n_sets; set++)
    for (int i = 0; i < pass->n_uniforms; i++, cells++) {
      double wide = number_of(program, pass, set, i);
      float narrow = (float)wide;
      if (dtype == MB_F64) memcpy(cells, &wide, sizeof wide);
      else memcpy(cells, &narrow, sizeof narrow);
    }
}

static int takes_part(const mbi_pass *pass, int phases) { return phases & (pass->is_store ? 2 : 1); }

// Cells of a run begin with what was asked for: the phases, the dtype and the sets.
enum { PHASES, DTYPE, SETS, HEAD };

static void write_all_cells(uint64_t *host, const mb_program *program) {
  const uint64_t *head = host;
  host += HEAD;
  for (int i = 0; i < program->n_passes; i++) {
    if (!takes_part(&program->passes[i], (int)head[PHASES])) continue;
    write_cells(host, program, &program->passes[i], (mb_dtype)head[DTYPE], (int64_t)head[SETS]);
    host += cells_of(&program->passes[i], (int64_t)head[SETS]);
  }
}

static mb_status reserve_cells(const uint64_t **device, const mb_program *program, int phases, mb_dtype dtype, int64_t n_sets) {
  uint64_t *host;
  int64_t count = HEAD;
  for (int i = 0; i < program->n_passes; i++) count += takes_part(&program->passes[i], phases) ? cells_of(&program->passes[i], n_sets) : 0;
  MB_TRY(mbi_capture_cells(&host, device, count));
  host[PHASES] = (uint64_t)phases, host[DTYPE] = (uint64_t)dtype, host[SETS] = (uint64_t)n_sets;
  write_all_cells(host, program);
  return mbi_capture_program(program, host, program->memory);
}

mb_status mb_graph_set_numbers(mb_graph *graph, int64_t site, const mb_program *program, const double *scalars, int n_scalars) {
  const char *name = "mb_graph_set_numbers";
  if (!graph || !program || !scalars) MB_FAIL(MB_ERR_ARG, "%s: %s is NULL", name, !graph ? "the graph" : !program ? "the program" : "scalars");
  uint64_t *host = mbi_capture_site(graph, site, program);
  if (!host) MB_FAIL(MB_ERR_ARG, "%s: run %lld of the graph is not of this program", name, (long long)site);
  if (n_scalars < program->n_scalars)
    MB_FAIL(MB_ERR_ARG, "%s: %d scalars were given, the program uses %d", name, n_scalars, program->n_scalars);
  if ((int64_t)host[SETS] > program->sets_room) MB_FAIL(MB_ERR_STATE, "%s: the program has been changed since the capture", name);
  compute_numbers(program, scalars, n_scalars, (int64_t)host[SETS]);
  write_all_cells(host, program);
  return MB_OK;
}

static mb_status run_pass(const mb_program *program, mbi_pass *pass, mb_tensor *const *arrays, const mbi_kernels *kernels,
                          const uint64_t *cells, const double *guard) {
  if (pass->n_parts == 0) return MB_OK; // nothing is stored
  mbi_fuse_run run = {.steps = pass->steps, .n_steps = pass->n_steps, .reductions = pass->reductions, .n_reductions = pass->n_reductions,
                      .n_arrays = pass->n_operands, .n_uniforms = pass->n_uniforms, .n_temps = pass->n_temps, .arrays = pass->addresses,
                      .spreads = pass->spreads, .uniforms = pass->numbers, .parts = pass->parts, .n_parts = pass->n_parts, .n_sets = program->n_sets,
                      .seed = program->key[0], .step = program->key[1], .stream = program->key[2], .cells = cells,
                      .guard = pass->is_store ? guard : NULL};
  for (int i = 0; i < pass->n_operands; i++) {
    const mbi_operand *operand = &pass->operands[i];
    pass->addresses[i] = operand->value < 0 ? mbi_data(arrays[operand->slot]) : kept_address(program, operand->value);
    run.has_rows |= pass->spreads[i] == MBI_SPREAD_ROWS || pass->spreads[i] == MBI_SPREAD_COLUMNS;
  }
  for (int i = 0; i < pass->n_reductions; i++) {
    pass->reductions[i].result = kept_address(program, pass->results[i]);
    run.has_rows |= pass->reductions[i].spread != MBI_SPREAD_PARTS;
  }
  double *number = pass->numbers;
  for (int64_t set = 0; set < program->n_sets; set++)
    for (int i = 0; i < pass->n_uniforms; i++) *number++ = number_of(program, pass, set, i);
  return kernels->fuse(&run);
}

mb_status mb_program_run_sets(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars,
                              int64_t n_sets, const mb_fuse_part *parts, int64_t n_parts, int phases, const mb_model *guard) {
  MB_TRY(check(program, (const mb_tensor *const *)arrays, n_arrays, n_scalars));
  if (phases < 1 || phases > 3) MB_FAIL(MB_ERR_ARG, "%s: phases is %d, 1 to 3 was expected", who, phases);
  if (n_sets < 1) MB_FAIL(MB_ERR_ARG, "%s: %lld sets of scalars, at least one was expected", who, (long long)n_sets);
  const mb_tensor *first = arrays[first_of(program)];
  MB_TRY(mbi_fuse_plan(program));
  MB_TRY(mbi_fuse_layout(program, first, parts, n_parts, n_sets));
  MB_TRY(check_small_arrays(program, (const mb_tensor *const *)arrays));
  compute_numbers(program, scalars, n_scalars, n_sets);
  if (!(phases & 1) && !program->is_reduced && !program->passes[0].is_store)
    MB_FAIL(MB_ERR_STATE, "%s: stores were asked for, but nothing has been reduced for these parts", who);
  const uint64_t *cells = NULL;
  if (mbi_capture_is_on(first->storage->device)) {
    MB_TRY(reserve_cells(&cells, program, phases, first->dtype, n_sets));
    cells += HEAD;
  }
  for (int i = 0; i < program->n_passes; i++) {
    if (!takes_part(&program->passes[i], phases)) continue;
    MB_TRY(run_pass(program, &program->passes[i], arrays, mbi_kernels_of(first), cells, mbi_model_refusal(guard)));
    if (cells) cells += cells_of(&program->passes[i], n_sets);
  }
  program->is_reduced = 1;
  if (phases & 2)
    for (int i = 0; i < program->n_stores; i++) mbi_touch(arrays[program->stores[i].slot]);
  return MB_OK;
}

mb_status mb_program_run_parts(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars,
                               const mb_fuse_part *parts, int64_t n_parts, int phases) {
  return mb_program_run_sets(program, arrays, n_arrays, scalars, n_scalars, 1, parts, n_parts, phases, NULL);
}

mb_status mb_program_run(mb_program *program, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars,
                         const int64_t *begin, const int64_t *end, int64_t n_ranges) {
  if (n_ranges < 1) MB_FAIL(MB_ERR_ARG, "%s: %lld ranges, at least one was expected", who, (long long)n_ranges);
  void *memory;
  MB_TRY(mbi_scratch(&memory, PARTS, (size_t)n_ranges * sizeof(mb_fuse_part)));
  mb_fuse_part *parts = memory;
  for (int64_t i = 0; i < n_ranges; i++) {
    if (begin[i] < 0 || begin[i] >= end[i])
      MB_FAIL(MB_ERR_ARG, "%s: range %lld is [%lld, %lld), which is not a range", who, (long long)i, (long long)begin[i], (long long)end[i]);
    parts[i] = (mb_fuse_part){.begin = begin[i], .rows = 1, .columns = end[i] - begin[i], .is_group = 1, .is_stored = 1};
  }
  return mb_program_run_parts(program, arrays, n_arrays, scalars, n_scalars, parts, n_ranges, 3);
}
