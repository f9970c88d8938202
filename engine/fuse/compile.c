// SPDX-License-Identifier: MIT
//
// compile.c: from the values that a pass of a program is to find to the steps that a backend runs on each tile.
//
//   1. Count the uses of each value within the pass, from its roots downwards: stores, values to keep, arguments of
//      reductions. What lies in memory already, and numbers, are leaves.
//   2. Select: one step for each value that is no leaf; a product with a single use disappears
//      into the sum or difference that uses it (MADD and its kin), which saves a pass over the tile.
//   3. Place: a value that a store wants is computed in its array at once, if nothing later reads the array's
//      old elements; other values get temps, taken again after the last use.
//   4. Finish: the stores that are left become moves at the end. So every load comes before the store.
//
// Steps are drafted with values as operands and numbered as the backend wants them in a second pass.
#include "fuse/fuse.h"

#include <limits.h>
#include <string.h>

// Operands while they are collected: arrays count from 0.
enum { UNPLACED = -1, FIRST_UNIFORM = 1 << 20, FIRST_TEMP = 1 << 24 };

typedef struct info {
  int uses;        // in this pass
  int is_absorbed; // computed by the step of its only user
  int made_by;     // step, or -1: leaves
  int last_use;    // step, -1 if none
  int operand;     // UNPLACED at first
} info;

typedef struct draft {
  int code, value; // value that the step makes; -1 in a final move
  int out;         // of a final move: operand
  int n_inputs, input[4];
} draft;

typedef struct compiler {
  mb_program *program;
  mbi_pass *pass;
  const uint8_t *wanted;
  info *values;
  draft *steps;
  int n_steps;
  int *free_temps, n_free;
} compiler;

// ----- values -------------------------------------------------------------------------------------

static const mbi_value *value_of(const compiler *c, int value) { return &c->program->values[value]; }

static int is_number(const compiler *c, int value) { return value_of(c, value)->extent == MB_FUSE_NUMBER; }

// Is it the same for all elements of a tile?
static int is_flat(const compiler *c, int value) {
  mb_fuse_extent extent = value_of(c, value)->extent;
  return extent != c->pass->domain && !(c->pass->domain == MB_FUSE_PER_ELEMENT && extent == MB_FUSE_PER_COLUMN);
}

static int is_computed(const compiler *c, int value) {
  const mbi_value *v = value_of(c, value);
  return v->extent == c->pass->domain && !v->is_kept && (v->kind == MBI_VALUE_OP || v->kind == MBI_VALUE_RANDOM);
}

static int is_stored_here(const compiler *c, const mbi_store *store) {
  return c->pass->is_store && mbi_fuse_slot_extent(c->program, store->slot) == c->pass->domain;
}

static void count_uses(compiler *c) {
  const mb_program *program = c->program;
  for (int i = 0; i < program->n_stores; i++)
    if (is_stored_here(c, &program->stores[i])) c->values[program->stores[i].value].uses++;
  for (int v = program->n_values - 1; v >= 0; v--) {
    const mbi_value *value = value_of(c, v);
    if (c->wanted[v] && value->kind == MBI_VALUE_REDUCE) c->values[value->argument[0]].uses++;
    else if (c->wanted[v]) c->values[v].uses++;
    if (c->values[v].uses > 0 && is_computed(c, v))
      for (int i = 0; i < mbi_fuse_arguments(value); i++) c->values[value->argument[i]].uses++;
  }
}

// ----- select -------------------------------------------------------------------------------------

// Is it a product that only one step uses?
static int is_product(const compiler *c, int value) {
  const mbi_value *node = value_of(c, value);
  return is_computed(c, value) && node->kind == MBI_VALUE_OP && node->op == MB_FUSE_MUL && c->values[value].uses == 1;
}

// The arguments of a product, a flat one last; returns whether there is one.
static int factors(const compiler *c, int product, int *a, int *b) {
  const int *argument = value_of(c, product)->argument;
  int swap = is_flat(c, argument[0]);
  *a = argument[swap];
  *b = argument[!swap];
  return is_flat(c, *b);
}

static draft *add_step(compiler *c, int code, int value, int n_inputs) {
  draft *step = &c->steps[c->n_steps++];
  *step = (draft){.code = code, .value = value, .out = -1, .n_inputs = n_inputs};
  return step;
}

// u a + v b, u a - v b: both products in one step.
static int select_two_products(compiler *c, int v) {
  const mbi_value *node = value_of(c, v);
  int x = node->argument[0], y = node->argument[1], in[4];
  if (!is_product(c, x) || !is_product(c, y)) return 0;
  if (!factors(c, x, &in[0], &in[1]) || !factors(c, y, &in[2], &in[3])) return 0;
  draft *step = add_step(c, node->op == MB_FUSE_ADD ? MBI_FUSE_AXPBY : MBI_FUSE_AXMBY, v, 4);
  memcpy(step->input, in, sizeof in);
  c->values[x].is_absorbed = c->values[y].is_absorbed = 1;
  return 1;
}

static int select_product(compiler *c, int v) {
  const mbi_value *node = value_of(c, v);
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

static int is_stored(const compiler *c, int slot) {
  for (int i = 0; i < c->program->n_stores; i++)
    if (c->program->stores[i].slot == slot) return is_stored_here(c, &c->program->stores[i]);
  return 0;
}

// An array whose old elements go into another array while it is overwritten itself is copied at the start,
// and read from the copy: p.a, p.b = p.b, p.a.
static void save_arrays(compiler *c) {
  const mb_program *program = c->program;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *node = &program->values[v];
    if (node->kind != MBI_VALUE_ARRAY || !is_stored(c, node->slot)) continue;
    for (int i = 0; i < program->n_stores; i++)
      if (program->stores[i].value == v && program->stores[i].slot != node->slot && is_stored_here(c, &program->stores[i])) {
        add_step(c, MBI_FUSE_MOVE, v, 1)->input[0] = v;
        break;
      }
  }
}

// Users come after what they use: from the last value to the first, products are absorbed before their own
// turn comes. The drafts are turned round afterwards.
static void select_steps(compiler *c) {
  for (int v = c->program->n_values - 1; v >= 0; v--) {
    const mbi_value *node = value_of(c, v);
    if (c->values[v].uses == 0 || !is_computed(c, v) || c->values[v].is_absorbed) continue;
    if (node->kind == MBI_VALUE_RANDOM) {
      add_step(c, node->number != 0 ? MBI_FUSE_NORMAL : MBI_FUSE_UNIFORM, v, 0);
      continue;
    }
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

// The number of an array of the run (slot) or of a kept value, which gets one if it has none.
static int array_of(compiler *c, int slot, int value) {
  mbi_pass *pass = c->pass;
  for (int i = 0; i < pass->n_operands; i++)
    if (pass->operands[i].slot == slot && pass->operands[i].value == value) return i;
  mb_fuse_extent extent = value < 0 ? mbi_fuse_slot_extent(c->program, slot) : value_of(c, value)->extent;
  static const uint8_t spreads[] = {MBI_SPREAD_ONE, MBI_SPREAD_ONE, MBI_SPREAD_PARTS, MBI_SPREAD_ROWS, MBI_SPREAD_COLUMNS, MBI_SPREAD_ELEMENTS};
  pass->operands[pass->n_operands] = (mbi_operand){slot, value};
  pass->spreads[pass->n_operands] = extent == pass->domain ? MBI_SPREAD_ELEMENTS : spreads[extent];
  return pass->n_operands++;
}

// Where a leaf lies in memory.
static int array_of_leaf(compiler *c, int v) {
  const mbi_value *node = value_of(c, v);
  return node->kind == MBI_VALUE_ARRAY ? array_of(c, node->slot, -1) : array_of(c, -1, v);
}

// Stores that need a step of their own, because the value is no result or is wanted in several arrays or too
// early; sets `operand` of the values that are computed in place.
static void place_stores(compiler *c) {
  mb_program *program = c->program;
  int n_computed = c->n_steps;
  for (int i = 0; i < program->n_stores; i++) {
    if (!is_stored_here(c, &program->stores[i])) continue;
    int slot = program->stores[i].slot, v = program->stores[i].value;
    const mbi_value *node = &program->values[v];
    if (node->kind == MBI_VALUE_ARRAY && node->slot == slot) continue;
    int old = -1; // the value that stands for the array's old elements
    for (int a = 0; a < program->n_values; a++)
      if (program->values[a].kind == MBI_VALUE_ARRAY && program->values[a].slot == slot) old = a;
    if (is_computed(c, v) && c->values[v].operand == UNPLACED && (old < 0 || c->values[old].last_use <= c->values[v].made_by)) {
      c->values[v].operand = array_of(c, slot, -1);
      continue;
    }
    draft *step = add_step(c, is_flat(c, v) ? MBI_FUSE_FILL : MBI_FUSE_MOVE, -1, 1);
    step->input[0] = v;
    step->out = array_of(c, slot, -1);
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

// Values to keep are computed where they are kept.
static void place_kept(compiler *c) {
  for (int v = 0; v < c->program->n_values; v++)
    if (c->wanted[v] && value_of(c, v)->kind == MBI_VALUE_OP) c->values[v].operand = array_of(c, -1, v);
}

// Operands that need no step: arrays lie where they are, numbers are numbered as they occur.
static void place_inputs(compiler *c) {
  for (int s = 0; s < c->n_steps; s++)
    for (int i = 0; i < c->steps[s].n_inputs; i++) {
      int v = c->steps[s].input[i];
      info *input = &c->values[v];
      if (c->steps[s].value == v) array_of_leaf(c, v); // a copy that saves an array
      if (input->operand != UNPLACED) continue;
      if (is_number(c, v)) {
        c->pass->uniforms[c->pass->n_uniforms] = v;
        input->operand = FIRST_UNIFORM + c->pass->n_uniforms++;
      } else if (!is_computed(c, v) && input->made_by < 0) {
        input->operand = array_of_leaf(c, v);
      }
    }
}

// Arguments of reductions; their temps are not taken again.
static void place_reductions(compiler *c) {
  mbi_pass *pass = c->pass;
  for (int v = 0; v < c->program->n_values; v++) {
    const mbi_value *node = value_of(c, v);
    if (!c->wanted[v] || node->kind != MBI_VALUE_REDUCE) continue;
    info *argument = &c->values[node->argument[0]];
    if (argument->operand == UNPLACED && !is_computed(c, node->argument[0])) argument->operand = array_of_leaf(c, node->argument[0]);
    argument->last_use = INT_MAX;
    pass->results[pass->n_reductions] = v;
    pass->reductions[pass->n_reductions++] = (mbi_fuse_reduction){
      .reduce = (uint8_t)node->reduce,
      .spread = node->over == MB_FUSE_ROWS ? MBI_SPREAD_ROWS : node->over == MB_FUSE_COLUMNS ? MBI_SPREAD_COLUMNS : MBI_SPREAD_PARTS,
    };
  }
}

static uint16_t operand_number(const mbi_pass *pass, int operand) {
  if (operand >= FIRST_TEMP) operand += pass->n_operands + pass->n_uniforms - FIRST_TEMP;
  else if (operand >= FIRST_UNIFORM) operand += pass->n_operands - FIRST_UNIFORM;
  return (uint16_t)operand;
}

// Numbers the operands of each step in order; temps return to the free list after their last use.
static void number_operands(compiler *c) {
  mbi_pass *pass = c->pass;
  for (int s = 0; s < c->n_steps; s++) {
    const draft *step = &c->steps[s];
    mbi_fuse_step *out = &pass->steps[s];
    *out = (mbi_fuse_step){.code = (uint8_t)step->code};
    if (step->code == MBI_FUSE_UNIFORM || step->code == MBI_FUSE_NORMAL) out->in[0] = (uint16_t)value_of(c, step->value)->slot;
    for (int i = 0; i < step->n_inputs; i++) {
      int v = step->input[i];
      // The copy that saves an array reads the array itself.
      out->in[i] = operand_number(pass, step->value == v ? array_of_leaf(c, v) : c->values[v].operand);
      if (is_flat(c, v)) out->form = (uint8_t)(out->form | 1 << i);
    }
    for (int i = 0; i < step->n_inputs; i++) {
      info *input = &c->values[step->input[i]];
      if (input->last_use == s && input->operand >= FIRST_TEMP) {
        c->free_temps[c->n_free++] = input->operand;
        input->last_use = -1; // an input may occur twice
      }
    }
    if (step->value < 0) {
      out->out = operand_number(pass, step->out);
      continue;
    }
    info *made = &c->values[step->value];
    if (made->operand == UNPLACED) made->operand = c->n_free ? c->free_temps[--c->n_free] : FIRST_TEMP + pass->n_temps++;
    out->out = operand_number(pass, made->operand);
  }
  for (int r = 0; r < pass->n_reductions; r++)
    pass->reductions[r].operand = operand_number(pass, c->values[value_of(c, pass->results[r])->argument[0]].operand);
}

// ----- all together -------------------------------------------------------------------------------

static mb_status allocate(compiler *c) {
  // Each value has at most one step, each store at most a saving copy and a final move.
  size_t most_values = (size_t)c->program->n_values + 1, most_steps = most_values + 2 * (size_t)c->program->n_stores;
  size_t most_operands = most_values + (size_t)c->program->n_arrays;
  mbi_pass *pass = c->pass;
  const struct { // in the order they are made; those of the compiler are freed by mbi_fuse_compile
    void **where;
    size_t count, size;
  } wishes[] = {
    {(void **)&c->values, most_values, sizeof *c->values},
    {(void **)&c->steps, most_steps, sizeof *c->steps},
    {(void **)&c->free_temps, most_values, sizeof *c->free_temps},
    {(void **)&pass->steps, most_steps, sizeof *pass->steps},
    {(void **)&pass->operands, most_operands, sizeof *pass->operands},
    {(void **)&pass->spreads, most_operands, sizeof *pass->spreads},
    {(void **)&pass->uniforms, most_values, sizeof *pass->uniforms},
    {(void **)&pass->reductions, most_values, sizeof *pass->reductions},
    {(void **)&pass->results, most_values, sizeof *pass->results},
    {(void **)&pass->addresses, most_operands, sizeof *pass->addresses},
    {(void **)&pass->numbers, most_values, sizeof *pass->numbers},
  };
  for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++)
    MB_TRY(mbi_calloc(wishes[i].where, "mb_program_run", wishes[i].count, wishes[i].size));
  return MB_OK;
}

static void compile(compiler *c) {
  for (int v = 0; v < c->program->n_values; v++) c->values[v] = (info){.made_by = -1, .last_use = -1, .operand = UNPLACED};
  count_uses(c);
  select_steps(c);
  find_lives(c);
  place_kept(c);
  place_stores(c);
  place_inputs(c);
  place_reductions(c);
  number_operands(c);
  c->pass->n_steps = c->n_steps;
}

mb_status mbi_fuse_compile(mb_program *program, mbi_pass *pass, const uint8_t *wanted) {
  compiler c = {.program = program, .pass = pass, .wanted = wanted};
  mb_status status = allocate(&c);
  if (status == MB_OK) compile(&c);
  mbi_free(c.values);
  mbi_free(c.steps);
  mbi_free(c.free_temps);
  return status;
}
