// SPDX-License-Identifier: MIT
//
// compile.c: from the graph of a program to the steps that a backend runs on each tile.
//
//   1. Count the uses of each value, from the stores downwards: a value without a use is dead.
//   2. Select: one step for each live value that is not uniform; a product with a single use disappears
//      into the sum or difference that uses it (MADD and its kin), which saves a pass over the tile.
//   3. Place: a value that a store wants is computed in its array at once, if nothing later reads the array's
//      old elements; other values get temps, taken again after the last use.
//   4. Finish: the stores that are left become moves at the end. So every load comes before the store.
//
// Steps are drafted with values as operands and numbered as the backend wants them in a second pass.
#include "fuse/fuse.h"

#include <string.h>

enum { UNPLACED = -1 };

typedef struct info {
  int is_absorbed; // computed by the step of its only user
  int made_by;     // step, or -1: arrays and uniforms
  int last_use;    // step, -1 if none
  int operand;     // UNPLACED at first
} info;

typedef struct draft {
  int code, value; // value that the step makes; -1 in a final move
  int slot;        // of a final move
  int n_inputs, input[4];
} draft;

typedef struct compiler {
  mb_program *program;
  info *values;
  draft *steps;
  int n_steps;
  int *free_temps, n_free;
} compiler;

// ----- select -------------------------------------------------------------------------------------

static int is_uniform(const compiler *c, int value) { return c->program->values[value].is_uniform; }

// Is it a product that only one step uses?
static int is_product(const compiler *c, int value) {
  const mbi_value *node = &c->program->values[value];
  return node->kind == MBI_VALUE_OP && node->op == MB_FUSE_MUL && !node->is_uniform && node->uses == 1;
}

// The arguments of a product, a uniform one last; returns whether there is one.
static int factors(const compiler *c, int product, int *a, int *b) {
  const int *argument = c->program->values[product].argument;
  int swap = is_uniform(c, argument[0]);
  *a = argument[swap];
  *b = argument[!swap];
  return is_uniform(c, *b);
}

static draft *add_step(compiler *c, int code, int value, int n_inputs) {
  draft *step = &c->steps[c->n_steps++];
  *step = (draft){.code = code, .value = value, .slot = -1, .n_inputs = n_inputs};
  return step;
}

// u a + v b, u a - v b: both products in one step.
static int select_two_products(compiler *c, int v) {
  const mbi_value *node = &c->program->values[v];
  int x = node->argument[0], y = node->argument[1], in[4];
  if (!is_product(c, x) || !is_product(c, y)) return 0;
  if (!factors(c, x, &in[0], &in[1]) || !factors(c, y, &in[2], &in[3])) return 0;
  draft *step = add_step(c, node->op == MB_FUSE_ADD ? MBI_FUSE_AXPBY : MBI_FUSE_AXMBY, v, 4);
  memcpy(step->input, in, sizeof in);
  c->values[x].is_absorbed = c->values[y].is_absorbed = 1;
  return 1;
}

static int select_product(compiler *c, int v) {
  const mbi_value *node = &c->program->values[v];
  int first = is_product(c, node->argument[0]);
  if (!first && !is_product(c, node->argument[1])) return 0;
  int product = node->argument[!first], other = node->argument[first];
  int code = node->op == MB_FUSE_ADD ? MBI_FUSE_MADD : first ? MBI_FUSE_MSUB : MBI_FUSE_NMADD;
  draft *step = add_step(c, code, v, 3);
  factors(c, product, &step->input[0], &step->input[1]);
  step->input[2] = other;
  c->values[product].is_absorbed = 1;
  return 1;
}

static int is_stored(const mb_program *program, int slot) {
  for (int i = 0; i < program->n_stores; i++)
    if (program->stores[i].slot == slot) return 1;
  return 0;
}

// An array whose old elements go into another array while it is overwritten itself is copied at the start,
// and read from the copy: p.a, p.b = p.b, p.a.
static void save_arrays(compiler *c) {
  const mb_program *program = c->program;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *node = &program->values[v];
    if (node->kind != MBI_VALUE_ARRAY || !is_stored(program, node->slot)) continue;
    for (int i = 0; i < program->n_stores; i++)
      if (program->stores[i].value == v && program->stores[i].slot != node->slot) {
        add_step(c, MBI_FUSE_MOVE, v, 1)->input[0] = v;
        break;
      }
  }
}

// Users come after what they use: from the last value to the first, products are absorbed before their own
// turn comes. The drafts are turned round afterwards.
static void select_steps(compiler *c) {
  for (int v = c->program->n_values - 1; v >= 0; v--) {
    const mbi_value *node = &c->program->values[v];
    if (node->kind != MBI_VALUE_OP || node->is_uniform || node->uses == 0 || c->values[v].is_absorbed) continue;
    if ((node->op == MB_FUSE_ADD || node->op == MB_FUSE_SUB) && (select_two_products(c, v) || select_product(c, v))) continue;
    draft *step = add_step(c, (int)node->op, v, mbi_fuse_arity(node->op));
    memcpy(step->input, node->argument, sizeof node->argument);
  }
  save_arrays(c);
  for (int i = 0, j = c->n_steps - 1; i < j; i++, j--) {
    draft swap = c->steps[i];
    c->steps[i] = c->steps[j];
    c->steps[j] = swap;
  }
}

// ----- place --------------------------------------------------------------------------------------

// Stores that need a step of their own, because the value is no result or is wanted in several arrays or too
// early; sets `operand` of the values that are computed in place.
static void place_stores(compiler *c) {
  mb_program *program = c->program;
  int n_computed = c->n_steps;
  for (int i = 0; i < program->n_stores; i++) {
    int slot = program->stores[i].slot, v = program->stores[i].value;
    const mbi_value *node = &program->values[v];
    if (node->kind == MBI_VALUE_ARRAY && node->slot == slot) continue;
    int old = -1; // the value that stands for the array's old elements
    for (int a = 0; a < program->n_values; a++)
      if (program->values[a].kind == MBI_VALUE_ARRAY && program->values[a].slot == slot) old = a;
    if (node->kind == MBI_VALUE_OP && !node->is_uniform && c->values[v].operand == UNPLACED &&
        (old < 0 || c->values[old].last_use <= c->values[v].made_by)) {
      c->values[v].operand = slot;
      continue;
    }
    draft *step = add_step(c, node->is_uniform ? MBI_FUSE_FILL : MBI_FUSE_MOVE, -1, 1);
    step->input[0] = v;
    step->slot = slot;
  }
  for (int s = n_computed; s < c->n_steps; s++) c->values[c->steps[s].input[0]].last_use = s;
}

static void find_lives(compiler *c) {
  for (int s = 0; s < c->n_steps; s++) {
    draft *step = &c->steps[s];
    c->values[step->value].made_by = s;
    for (int i = 0; i < step->n_inputs; i++) c->values[step->input[i]].last_use = s;
  }
}

static int is_temp(const mb_program *program, int operand) { return operand >= program->n_arrays + program->n_uniforms; }

// Numbers the operands of each step in order; temps return to the free list after their last use.
static void number_operands(compiler *c) {
  mb_program *program = c->program;
  int first_temp = program->n_arrays + program->n_uniforms;
  for (int s = 0; s < c->n_steps; s++) {
    const draft *step = &c->steps[s];
    mbi_fuse_step *out = &program->steps[s];
    out->code = (uint8_t)step->code;
    out->form = 0;
    for (int i = 0; i < step->n_inputs; i++) {
      int v = step->input[i];
      // The copy that saves an array reads the array itself.
      int operand = step->value == v ? program->values[v].slot : c->values[v].operand;
      out->in[i] = (uint16_t)operand;
      if (is_uniform(c, v)) out->form = (uint8_t)(out->form | 1 << i);
    }
    for (int i = 0; i < step->n_inputs; i++) {
      info *input = &c->values[step->input[i]];
      if (input->last_use == s && is_temp(program, input->operand)) {
        c->free_temps[c->n_free++] = input->operand;
        input->last_use = -1; // an input may occur twice
      }
    }
    if (step->value < 0) {
      out->out = (uint16_t)step->slot;
      continue;
    }
    info *made = &c->values[step->value];
    if (made->operand == UNPLACED) made->operand = c->n_free ? c->free_temps[--c->n_free] : first_temp + program->n_temps++;
    out->out = (uint16_t)made->operand;
  }
}

// Operands that need no step: arrays lie where they are, uniforms are numbered as they occur.
static void place_inputs(compiler *c) {
  mb_program *program = c->program;
  program->n_uniforms = 0;
  for (int s = 0; s < c->n_steps; s++)
    for (int i = 0; i < c->steps[s].n_inputs; i++) {
      int v = c->steps[s].input[i];
      info *input = &c->values[v];
      if (input->operand != UNPLACED) continue;
      if (is_uniform(c, v)) {
        program->uniforms[program->n_uniforms] = v;
        input->operand = program->n_arrays + program->n_uniforms++;
      } else if (program->values[v].kind == MBI_VALUE_ARRAY && input->made_by < 0) {
        input->operand = program->values[v].slot;
      }
    }
}

// ----- all together -------------------------------------------------------------------------------

static mb_status allocate(compiler *c, mb_program *program) {
  // Each value has at most one step, each store at most a saving copy and a final move.
  size_t most_values = (size_t)program->n_values + 1, most_steps = most_values + 2 * (size_t)program->n_stores;
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", most_values, sizeof *c->values));
  c->values = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", most_steps, sizeof *c->steps));
  c->steps = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", most_values, sizeof *c->free_temps));
  c->free_temps = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", most_values, sizeof *program->uniforms));
  program->uniforms = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", 2 * most_values, sizeof *program->numbers));
  program->numbers = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", (size_t)program->n_arrays, sizeof *program->addresses));
  program->addresses = memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_run", most_steps, sizeof *program->steps));
  program->steps = memory;
  return MB_OK;
}

static void compile(compiler *c) {
  mb_program *program = c->program;
  mbi_fuse_count_uses(program);
  for (int v = 0; v < program->n_values; v++) c->values[v] = (info){.made_by = -1, .last_use = -1, .operand = UNPLACED};
  select_steps(c);
  find_lives(c);
  place_stores(c);
  place_inputs(c);
  program->n_temps = 0;
  number_operands(c);
  program->n_steps = c->n_steps;
}

mb_status mbi_fuse_compile(mb_program *program) {
  if (program->steps) return MB_OK;
  compiler c = {.program = program};
  mb_status status = allocate(&c, program);
  if (status == MB_OK) compile(&c);
  else mbi_fuse_forget(program);
  mbi_free(c.values);
  mbi_free(c.steps);
  mbi_free(c.free_temps);
  return status;
}
