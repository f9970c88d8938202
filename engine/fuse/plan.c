// SPDX-License-Identifier: MIT
//
// plan.c: divides a program into passes over memory.
//
// Values of one extent are computed together, in passes over the things of this extent: elements, columns, rows, parts,
// and the group. A value that a larger extent reads, and the result of a reduction, is kept in memory of the program in
// between. Passes come in this order:
//
//   1. as long as there are reductions, or values to keep, whose arguments are known: those of the smallest extent. So a
//      pass over the elements comes when nothing else is left to do, and takes all reductions that can be made by then;
//   2. the stores, elements first: arrays of the run change only when everything else has been read.
//
// Elements themselves are never kept: each pass over them computes what it needs from the arrays again, which costs less
// than the memory would. Example, LARS: a pass over the elements finds |w| and |g| of each part, one over the parts the
// rate of each, and one over the elements stores. Without reductions the plan is one pass.
#include <string.h>

#include "fuse/fuse.h"

typedef struct planner {
  mb_program *program;
  uint8_t *is_read_outside; // by values or stores of another extent
  uint8_t *is_ready;        // can be computed from what is kept
  uint8_t *wanted;          // by the pass that is being made
} planner;

static int is_in_memory(const mbi_value *v) { return v->extent == MB_FUSE_NUMBER || v->kind == MBI_VALUE_ARRAY || v->is_kept; }

static void keep(mb_program *program, mbi_value *v) {
  v->is_kept = 1;
  v->place = program->n_places++;
}

// ----- what there is to do ------------------------------------------------------------------------

static void find_read_outside(planner *p) {
  mb_program *program = p->program;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *value = &program->values[v];
    if (value->uses == 0 || value->kind != MBI_VALUE_OP) continue;
    for (int i = 0; i < mbi_fuse_arguments(value); i++)
      if (program->values[value->argument[i]].extent != value->extent) p->is_read_outside[value->argument[i]] = 1;
  }
  for (int i = 0; i < program->n_stores; i++) {
    int v = program->stores[i].value;
    if (program->values[v].extent != mbi_fuse_slot_extent(program, program->stores[i].slot)) p->is_read_outside[v] = 1;
  }
}

static void find_ready(planner *p) {
  const mbi_value *values = p->program->values;
  for (int v = 0; v < p->program->n_values; v++) {
    const mbi_value *value = &values[v];
    p->is_ready[v] = is_in_memory(value) || value->kind == MBI_VALUE_OP || value->kind == MBI_VALUE_RANDOM;
    if (value->kind != MBI_VALUE_OP || is_in_memory(value)) continue;
    for (int i = 0; i < mbi_fuse_arguments(value); i++) {
      int a = value->argument[i];
      if (values[a].extent == value->extent ? !p->is_ready[a] : !is_in_memory(&values[a])) p->is_ready[v] = 0;
    }
  }
}

static int is_over_group(const mbi_value *v) { return v->kind == MBI_VALUE_REDUCE && v->over == MB_FUSE_GROUP; }

// Marks what a pass over `domain` can find: reductions over the group, or everything else. Returns how much that is.
static int want(planner *p, mb_fuse_extent domain, int over_group) {
  int count = 0;
  for (int v = 0; v < p->program->n_values; v++) {
    const mbi_value *value = &p->program->values[v];
    p->wanted[v] = 0;
    if (value->uses == 0 || is_in_memory(value) || is_over_group(value) != over_group) continue;
    if (value->kind == MBI_VALUE_REDUCE)
      p->wanted[v] = p->program->values[value->argument[0]].extent == domain && p->is_ready[value->argument[0]];
    else
      p->wanted[v] = value->kind == MBI_VALUE_OP && value->extent == domain && p->is_read_outside[v] && p->is_ready[v];
    count += p->wanted[v];
  }
  return count;
}

// ----- passes -------------------------------------------------------------------------------------

static mb_status add_pass(planner *p, mb_fuse_extent domain, int is_store, int is_all) {
  mb_program *program = p->program;
  MB_TRY(mbi_fuse_reserve((void **)&program->passes, &program->passes_capacity, program->n_passes, sizeof *program->passes, "mb_program_run"));
  mbi_pass *pass = &program->passes[program->n_passes++];
  *pass = (mbi_pass){.domain = domain, .is_store = is_store, .is_all = is_all};
  MB_TRY(mbi_fuse_compile(program, pass, p->wanted));
  for (int v = 0; v < program->n_values; v++)
    if (p->wanted[v]) keep(program, &program->values[v]);
  return MB_OK;
}

// One pass for the smallest extent that has something to do; *done when none has.
static mb_status next_pass(planner *p, int *done) {
  int has_all = p->program->has_all;
  *done = 0;
  find_ready(p);
  for (mb_fuse_extent domain = MB_FUSE_PER_GROUP; domain <= MB_FUSE_PER_ELEMENT; domain++) {
    if (want(p, domain, 0)) return add_pass(p, domain, 0, has_all);
    if (want(p, domain, 1)) return add_pass(p, domain, 0, 0);
  }
  *done = 1;
  return MB_OK;
}

static mb_status add_stores(planner *p) {
  static const mb_fuse_extent order[] = {MB_FUSE_PER_ELEMENT, MB_FUSE_PER_COLUMN, MB_FUSE_PER_ROW, MB_FUSE_PER_PART};
  const mb_program *program = p->program;
  memset(p->wanted, 0, (size_t)program->n_values);
  for (int i = 0; i < 4; i++)
    for (int s = 0; s < program->n_stores; s++)
      if (mbi_fuse_slot_extent(program, program->stores[s].slot) == order[i]) {
        MB_TRY(add_pass(p, order[i], 1, 0));
        break;
      }
  return MB_OK;
}

static mb_status plan(planner *p) {
  mb_program *program = p->program;
  mbi_fuse_count_uses(program);
  program->has_all = program->has_group = program->n_places = 0;
  for (int v = 0; v < program->n_values; v++) {
    mbi_value *value = &program->values[v];
    value->is_kept = 0;
    if (value->uses == 0) continue;
    if (value->kind == MBI_VALUE_COUNT) keep(program, value);
    if (value->kind == MBI_VALUE_REDUCE && value->over == MB_FUSE_ALL) program->has_all = 1;
    if (value->kind == MBI_VALUE_REDUCE && value->over >= MB_FUSE_GROUP) program->has_group = 1;
  }
  find_read_outside(p);
  for (int done = 0; !done;) MB_TRY(next_pass(p, &done));
  return add_stores(p);
}

mb_status mbi_fuse_plan(mb_program *program) {
  if (program->is_planned) return MB_OK;
  planner p = {.program = program};
  size_t n = (size_t)program->n_values + 1;
  void *memory, *numbers = NULL;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", 3 * n, 1));
  p.is_read_outside = memory, p.is_ready = p.is_read_outside + n, p.wanted = p.is_ready + n;
  mb_status status = mbi_calloc(&numbers, "mb_program_run", n, sizeof *program->numbers);
  program->numbers = numbers;
  program->sets_room = 1;
  if (status == MB_OK) status = plan(&p);
  mbi_free(memory);
  if (status == MB_OK) program->is_planned = 1;
  else mbi_fuse_forget(program);
  return status;
}

// ----- forgetting ---------------------------------------------------------------------------------

void mbi_fuse_forget_pass(mbi_pass *pass) {
  mbi_free(pass->steps);
  mbi_free(pass->operands);
  mbi_free(pass->spreads);
  mbi_free(pass->uniforms);
  mbi_free(pass->reductions);
  mbi_free(pass->results);
  mbi_free(pass->parts);
  mbi_free(pass->addresses);
  mbi_free(pass->numbers);
}

void mbi_fuse_forget(mb_program *program) {
  for (int i = 0; i < program->n_passes; i++) mbi_fuse_forget_pass(&program->passes[i]);
  mbi_free(program->passes);
  mbi_free(program->numbers);
  mbi_free(program->parts);
  mbi_free(program->offsets);
  mb_tensor_release(program->memory);
  program->passes = NULL;
  program->numbers = NULL;
  program->parts = NULL;
  program->offsets = NULL;
  program->memory = NULL;
  program->n_passes = program->passes_capacity = program->is_planned = program->is_reduced = 0;
  program->n_parts = program->parts_capacity = program->sets_room = 0;
}

int mb_program_passes(const mb_program *program) { return program->n_passes; }
