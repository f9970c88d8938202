// SPDX-License-Identifier: MIT
//
// graph.c: building the expression graph of a fused program. Everything that makes a graph smaller without
// knowing who reads it happens here, as values are added: equal nodes are one value, arguments of commutative
// operations are ordered so that a + b and b + a are equal, operations on constants are computed, and a few
// identities that hold for every number (NaN, infinities and signed zeros too) are applied. What no store
// needs is left out later, by compile.c. Tests: tests/c/test_fuse.c.
#include "fuse/fuse.h"

#include <string.h>

// A trace that never ends (a loop over elements, say) is stopped here rather than by the memory.
enum { MOST_VALUES = 16384, MOST_SLOTS = 4096 };

static const struct {
  const char *name;
  int arity, commutes;
} operations[MB_FUSE_OP_COUNT] = { /* ORDER FUSE */
  {"add", 2, 1},   {"sub", 2, 0},  {"mul", 2, 1},        {"div", 2, 0},    {"min", 2, 0}, {"max", 2, 0}, {"pow", 2, 0},
  {"lt", 2, 0},    {"le", 2, 0},   {"eq", 2, 1},         {"neg", 1, 0},    {"abs", 1, 0}, {"sign", 1, 0}, {"sqrt", 1, 0},
  {"rsqrt", 1, 0}, {"reciprocal", 1, 0}, {"square", 1, 0}, {"exp", 1, 0},  {"log", 1, 0}, {"tanh", 1, 0}, {"sigmoid", 1, 0},
  {"normal_cdf", 1, 0}, {"where", 3, 0},
};

static const char *const extent_names[] = {"run", "group", "part", "row", "column", "element"};

int mbi_fuse_arity(mb_fuse_op op) { return operations[op].arity; }

int mbi_fuse_arguments(const mbi_value *value) {
  return value->kind == MBI_VALUE_OP ? operations[value->op].arity : value->kind == MBI_VALUE_REDUCE;
}

mb_fuse_extent mbi_fuse_slot_extent(const mb_program *program, int slot) {
  return slot < program->n_extents ? program->extents[slot] : MB_FUSE_PER_ELEMENT;
}

// What varies with either: rows and columns together make elements.
static mb_fuse_extent joined(mb_fuse_extent a, mb_fuse_extent b) {
  if (a > b) return joined(b, a);
  return a == MB_FUSE_PER_ROW && b == MB_FUSE_PER_COLUMN ? MB_FUSE_PER_ELEMENT : b;
}

// ----- values -------------------------------------------------------------------------------------

static int is_same_number(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

// Fields that a kind does not use are 0.
static int is_same(const mbi_value *a, const mbi_value *b) {
  return a->kind == b->kind && a->op == b->op && a->reduce == b->reduce && a->over == b->over && a->slot == b->slot &&
         is_same_number(a->number, b->number) && memcmp(a->argument, b->argument, sizeof a->argument) == 0;
}

mb_status mbi_fuse_reserve(void **items, int *capacity, int count, size_t size, const char *who) {
  if (count < *capacity) return MB_OK;
  int larger = *capacity ? 2 * *capacity : 32;
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)larger, size));
  if (count) memcpy(memory, *items, (size_t)count * size);
  mbi_free(*items);
  *items = memory;
  *capacity = larger;
  return MB_OK;
}

// Programs have tens of values: looking through all of them costs less than a table would.
static mb_status intern(int *value, mb_program *program, const mbi_value *node) {
  for (int v = 0; v < program->n_values; v++)
    if (is_same(&program->values[v], node)) {
      *value = v;
      return MB_OK;
    }
  if (program->n_values == MOST_VALUES) MB_FAIL(MB_ERR_ARG, "mb_program: more than %d values in one program", MOST_VALUES);
  MB_TRY(mbi_fuse_reserve((void **)&program->values, &program->values_capacity, program->n_values, sizeof *node, "mb_program"));
  program->values[program->n_values] = *node;
  *value = program->n_values++;
  return MB_OK;
}

static mb_status constant(int *value, mb_program *program, double number) {
  return intern(value, program, &(mbi_value){.kind = MBI_VALUE_CONSTANT, .number = number});
}

static mb_status check_slot(const char *who, int slot) {
  if (slot < 0 || slot >= MOST_SLOTS) MB_FAIL(MB_ERR_ARG, "%s: slot is %d, 0 to %d was expected", who, slot, MOST_SLOTS - 1);
  return MB_OK;
}

static mb_status check_value(const mb_program *program, const char *who, const char *argument, int value) {
  if (value < 0 || value >= program->n_values)
    MB_FAIL(MB_ERR_ARG, "%s: %s is value %d, the program has %d values", who, argument, value, program->n_values);
  return MB_OK;
}

// ----- simplification -----------------------------------------------------------------------------

static int is_number(const mb_program *program, int value, double number) {
  const mbi_value *v = &program->values[value];
  return v->kind == MBI_VALUE_CONSTANT && is_same_number(v->number, number);
}

// The value that op(a, b) equals without being computed, or -1.
static int identity(const mb_program *program, mb_fuse_op op, int a, int b) {
  switch (op) {
    case MB_FUSE_MUL: return is_number(program, b, 1) ? a : is_number(program, a, 1) ? b : -1;
    case MB_FUSE_DIV: case MB_FUSE_POW: return is_number(program, b, 1) ? a : -1;
    case MB_FUSE_SUB: return is_number(program, b, 0) ? a : -1;
    default: return -1;
  }
}

// Powers that have an operation of their own.
static void simplify_power(const mb_program *program, mbi_value *node) {
  if (node->op != MB_FUSE_POW) return;
  if (is_number(program, node->argument[1], 2)) node->op = MB_FUSE_SQUARE;
  else if (is_number(program, node->argument[1], 0.5)) node->op = MB_FUSE_SQRT;
  else if (is_number(program, node->argument[1], -1)) node->op = MB_FUSE_RECIPROCAL;
  else return;
  node->argument[1] = -1;
}

static mb_status add_operation(int *value, mb_program *program, mbi_value *node) {
  int arity = operations[node->op].arity, constants = 0;
  double number[3] = {0};
  node->extent = MB_FUSE_NUMBER;
  for (int i = 0; i < arity; i++) {
    const mbi_value *argument = &program->values[node->argument[i]];
    node->extent = joined(node->extent, argument->extent);
    constants += argument->kind == MBI_VALUE_CONSTANT;
    number[i] = argument->number;
  }
  if (constants == arity) return constant(value, program, mbi_fuse_evaluate(node->op, number[0], number[1], number[2]));
  int same = identity(program, node->op, node->argument[0], node->argument[1]);
  if (same >= 0) {
    *value = same;
    return MB_OK;
  }
  simplify_power(program, node);
  if (operations[node->op].commutes && node->argument[0] > node->argument[1]) {
    int first = node->argument[0];
    node->argument[0] = node->argument[1];
    node->argument[1] = first;
  }
  return intern(value, program, node);
}

// ----- reductions ---------------------------------------------------------------------------------

static mb_status operation(int *value, mb_program *program, mb_fuse_op op, int a, int b) {
  return add_operation(value, program, &(mbi_value){.kind = MBI_VALUE_OP, .op = op, .argument = {a, b, -1}});
}

static mb_status reduction(int *value, mb_program *program, mb_fuse_reduce reduce, mb_fuse_over over, int a) {
  static const mb_fuse_extent extents[] = {MB_FUSE_PER_ROW, MB_FUSE_PER_COLUMN, MB_FUSE_PER_PART, MB_FUSE_PER_GROUP, MB_FUSE_PER_GROUP};
  return intern(value, program, &(mbi_value){.kind = MBI_VALUE_REDUCE, .reduce = reduce, .over = over, .argument = {a, -1, -1},
                                             .extent = extents[over]});
}

static mb_status count(int *value, mb_program *program, mb_fuse_over of) {
  return intern(value, program, &(mbi_value){.kind = MBI_VALUE_COUNT, .over = of, .extent = MB_FUSE_PER_PART});
}

// Over a group by way of its parts: a norm of norms is the norm of all, a mean is a sum over the number of terms.
static mb_status reduce_group(int *value, mb_program *program, mb_fuse_reduce reduce, mb_fuse_over over, int a) {
  mb_fuse_extent extent = program->values[a].extent;
  if (extent == MB_FUSE_PER_PART) return reduction(value, program, reduce, over, a);
  int parts, sum, terms, all_terms;
  MB_TRY(reduction(&parts, program, reduce == MB_FUSE_MEAN ? MB_FUSE_SUM : reduce, MB_FUSE_PART, a));
  if (reduce != MB_FUSE_MEAN) return reduction(value, program, reduce, over, parts);
  MB_TRY(reduction(&sum, program, MB_FUSE_SUM, over, parts));
  MB_TRY(count(&terms, program, extent == MB_FUSE_PER_ROW ? MB_FUSE_ROWS : extent == MB_FUSE_PER_COLUMN ? MB_FUSE_COLUMNS : MB_FUSE_PART));
  MB_TRY(reduction(&all_terms, program, MB_FUSE_SUM, over, terms));
  return operation(value, program, MB_FUSE_DIV, sum, all_terms);
}

// A value that does not vary where it is reduced counts once, as a sum over a dimension of size 1 would have it.
static mb_status add_reduction(int *value, mb_program *program, mb_fuse_reduce reduce, mb_fuse_over over, int a) {
  mb_fuse_extent extent = program->values[a].extent;
  int is_matrix = extent == MB_FUSE_PER_ELEMENT, is_rows = extent == MB_FUSE_PER_ROW, is_columns = extent == MB_FUSE_PER_COLUMN;
  if (over >= MB_FUSE_GROUP && extent >= MB_FUSE_PER_PART) return reduce_group(value, program, reduce, over, a);
  if (is_matrix && over <= MB_FUSE_COLUMNS) return reduction(value, program, reduce, over, a);
  if (is_matrix || (is_rows && over != MB_FUSE_ROWS) || (is_columns && over != MB_FUSE_COLUMNS))
    return reduction(value, program, reduce, MB_FUSE_PART, a);
  if (reduce == MB_FUSE_NORM) return operation(value, program, MB_FUSE_ABS, a, -1);
  *value = a;
  return MB_OK;
}

// ----- public -------------------------------------------------------------------------------------

mb_status mb_program_new(mb_program **out) {
  *out = NULL;
  void *memory;
  MB_TRY(mbi_calloc(&memory, "mb_program_new", 1, sizeof(mb_program)));
  *out = memory;
  return MB_OK;
}

void mb_program_release(mb_program *program) {
  if (!program) return;
  mbi_fuse_forget(program);
  mbi_free(program->values);
  mbi_free(program->stores);
  mbi_free(program->extents);
  mbi_free(program);
}

mb_status mb_program_declare(mb_program *program, int slot, mb_fuse_extent extent) {
  MB_TRY(check_slot("mb_program_declare", slot));
  if (extent < MB_FUSE_PER_PART || extent > MB_FUSE_PER_ELEMENT)
    MB_FAIL(MB_ERR_ARG, "mb_program_declare: extent is %d, %d to %d was expected", (int)extent, MB_FUSE_PER_PART, MB_FUSE_PER_ELEMENT);
  if (slot < program->n_arrays && mbi_fuse_slot_extent(program, slot) != extent)
    MB_FAIL(MB_ERR_STATE, "mb_program_declare: slot %d, or one above it, is used already", slot);
  for (; program->n_extents <= slot; program->n_extents++) {
    MB_TRY(mbi_fuse_reserve((void **)&program->extents, &program->extents_capacity, program->n_extents, sizeof *program->extents,
                            "mb_program_declare"));
    program->extents[program->n_extents] = MB_FUSE_PER_ELEMENT;
  }
  program->extents[slot] = extent;
  return MB_OK;
}

mb_status mb_program_array(int *value, mb_program *program, int slot) {
  *value = -1;
  MB_TRY(check_slot("mb_program_array", slot));
  MB_TRY(intern(value, program, &(mbi_value){.kind = MBI_VALUE_ARRAY, .slot = slot, .extent = mbi_fuse_slot_extent(program, slot)}));
  if (slot >= program->n_arrays) program->n_arrays = slot + 1;
  mbi_fuse_forget(program);
  return MB_OK;
}

mb_status mb_program_scalar(int *value, mb_program *program, int slot) {
  *value = -1;
  MB_TRY(check_slot("mb_program_scalar", slot));
  MB_TRY(intern(value, program, &(mbi_value){.kind = MBI_VALUE_SCALAR, .slot = slot}));
  if (slot >= program->n_scalars) program->n_scalars = slot + 1;
  mbi_fuse_forget(program);
  return MB_OK;
}

mb_status mb_program_constant(int *value, mb_program *program, double number) {
  *value = -1;
  mbi_fuse_forget(program);
  return constant(value, program, number);
}

mb_status mb_program_apply(int *value, mb_program *program, mb_fuse_op op, int a, int b, int c) {
  static const char *const names[3] = {"a", "b", "c"};
  *value = -1;
  if ((int)op < 0 || op >= MB_FUSE_OP_COUNT) MB_FAIL(MB_ERR_ARG, "mb_program_apply: op is %d, 0 to %d was expected", (int)op, MB_FUSE_OP_COUNT - 1);
  mbi_value node = {.kind = MBI_VALUE_OP, .op = op, .argument = {a, b, c}};
  for (int i = 0; i < 3; i++) {
    if (i < operations[op].arity) MB_TRY(check_value(program, "mb_program_apply", names[i], node.argument[i]));
    else if (node.argument[i] != -1)
      MB_FAIL(MB_ERR_ARG, "mb_program_apply: %s is %d, but '%s' takes %d argument%s; -1 was expected", names[i], node.argument[i],
              operations[op].name, operations[op].arity, operations[op].arity == 1 ? "" : "s");
  }
  mbi_fuse_forget(program);
  return add_operation(value, program, &node);
}

mb_status mb_program_reduce(int *value, mb_program *program, mb_fuse_reduce reduce, mb_fuse_over over, int a) {
  *value = -1;
  if ((int)reduce < 0 || reduce > MB_FUSE_LEAST)
    MB_FAIL(MB_ERR_ARG, "mb_program_reduce: reduce is %d, 0 to %d was expected", (int)reduce, MB_FUSE_LEAST);
  if ((int)over < 0 || over > MB_FUSE_ALL) MB_FAIL(MB_ERR_ARG, "mb_program_reduce: over is %d, 0 to %d was expected", (int)over, MB_FUSE_ALL);
  MB_TRY(check_value(program, "mb_program_reduce", "a", a));
  if (program->values[a].extent == MB_FUSE_NUMBER)
    MB_FAIL(MB_ERR_ARG, "mb_program_reduce: a is value %d, one number for everything: there is nothing to reduce", a);
  mbi_fuse_forget(program);
  return add_reduction(value, program, reduce, over, a);
}

mb_status mb_program_count(int *value, mb_program *program, mb_fuse_over of) {
  *value = -1;
  if ((int)of < 0 || of > MB_FUSE_PART) MB_FAIL(MB_ERR_ARG, "mb_program_count: of is %d, 0 to %d was expected", (int)of, MB_FUSE_PART);
  mbi_fuse_forget(program);
  return count(value, program, of);
}

mb_status mb_program_random(int *value, mb_program *program, int is_normal) {
  *value = -1;
  if (program->n_randoms == MOST_SLOTS) MB_FAIL(MB_ERR_ARG, "mb_program_random: more than %d random values in one program", MOST_SLOTS);
  mbi_fuse_forget(program);
  MB_TRY(intern(value, program, &(mbi_value){.kind = MBI_VALUE_RANDOM, .slot = program->n_randoms, .number = is_normal != 0,
                                             .extent = MB_FUSE_PER_ELEMENT}));
  program->n_randoms++;
  return MB_OK;
}

void mb_program_set_key(mb_program *program, uint64_t seed, uint64_t step, uint64_t stream) {
  program->key[0] = seed, program->key[1] = step, program->key[2] = stream;
}

mb_fuse_extent mb_program_extent(const mb_program *program, int value) {
  return value >= 0 && value < program->n_values ? program->values[value].extent : MB_FUSE_NUMBER;
}

mb_status mb_program_store(mb_program *program, int slot, int value) {
  MB_TRY(check_slot("mb_program_store", slot));
  MB_TRY(check_value(program, "mb_program_store", "value", value));
  mb_fuse_extent room = mbi_fuse_slot_extent(program, slot), extent = program->values[value].extent;
  if (joined(room, extent) != room)
    MB_FAIL(MB_ERR_ARG, "mb_program_store: slot %d has one number for each %s, the value differs from %s to %s", slot, extent_names[room],
            extent_names[extent], extent_names[extent]);
  mbi_fuse_forget(program);
  if (slot >= program->n_arrays) program->n_arrays = slot + 1;
  for (int i = 0; i < program->n_stores; i++)
    if (program->stores[i].slot == slot) {
      program->stores[i].value = value;
      return MB_OK;
    }
  MB_TRY(mbi_fuse_reserve((void **)&program->stores, &program->stores_capacity, program->n_stores, sizeof *program->stores, "mb_program_store"));
  program->stores[program->n_stores++] = (mbi_store){slot, value};
  return MB_OK;
}

int mb_program_same(const mb_program *a, const mb_program *b) {
  if (a->n_values != b->n_values || a->n_stores != b->n_stores || a->n_arrays != b->n_arrays) return 0;
  for (int v = 0; v < a->n_values; v++)
    if (!is_same(&a->values[v], &b->values[v]) || a->values[v].extent != b->values[v].extent) return 0;
  for (int i = 0; i < a->n_stores; i++)
    if (a->stores[i].slot != b->stores[i].slot || a->stores[i].value != b->stores[i].value) return 0;
  for (int slot = 0; slot < a->n_arrays; slot++)
    if (mbi_fuse_slot_extent(a, slot) != mbi_fuse_slot_extent(b, slot)) return 0;
  return 1;
}

void mbi_fuse_count_uses(const mb_program *program) {
  mbi_value *values = program->values;
  for (int v = 0; v < program->n_values; v++) values[v].uses = 0;
  for (int i = 0; i < program->n_stores; i++) values[program->stores[i].value].uses++;
  for (int v = program->n_values - 1; v >= 0; v--)
    if (values[v].uses > 0)
      for (int i = 0; i < mbi_fuse_arguments(&values[v]); i++) values[values[v].argument[i]].uses++;
}

int mb_program_size(const mb_program *program) {
  int size = 0;
  mbi_fuse_count_uses(program);
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *node = &program->values[v];
    if (node->uses == 0) continue;
    if (node->kind == MBI_VALUE_REDUCE) node = &program->values[node->argument[0]];
    else if (node->kind != MBI_VALUE_OP && node->kind != MBI_VALUE_RANDOM) continue;
    size += node->extent == MB_FUSE_PER_ELEMENT;
  }
  return size;
}
