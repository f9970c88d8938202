// SPDX-License-Identifier: MIT
//
// fuse.h: the inside of a fused program. graph.c builds values, plan.c divides them into passes over memory, compile.c
// turns each pass into steps for the backend, layout.c places the parts of a run and the numbers that pass from one pass
// to the next, run.c checks a call and makes it.
//
// A value is one node of an expression graph, and numbers below it are its arguments: the list is in
// topological order by construction. Values are equal exactly when their nodes are, so that a common
// subexpression is one value. A value that is a NUMBER is made of scalars and constants only: it is computed once a
// run, in float64, by run.c. The others are computed by passes: a pass is a run over all things of one extent (elements,
// rows, columns, parts), its domain, and a reduction is the end of one pass and an input of others.
#ifndef MBI_FUSE_H
#define MBI_FUSE_H
#include "core/storage.h"

typedef enum mbi_value_kind {
  MBI_VALUE_ARRAY, MBI_VALUE_SCALAR, MBI_VALUE_CONSTANT, MBI_VALUE_OP, MBI_VALUE_REDUCE, MBI_VALUE_COUNT, MBI_VALUE_RANDOM
} mbi_value_kind;

typedef struct mbi_value {
  mbi_value_kind kind;
  mb_fuse_op op;         // of an OP
  mb_fuse_reduce reduce; // of a REDUCE
  mb_fuse_over over;     // of a REDUCE: ROWS, COLUMNS or PART of an argument that is larger, GROUP or ALL of one PER_PART; of a COUNT
  int argument[3];       // of an OP or a REDUCE: values, -1 where it takes fewer
  int slot;              // of an ARRAY, SCALAR; of a RANDOM its number, and whether it is normal in `number`
  double number;         // of a CONSTANT
  mb_fuse_extent extent;
  int uses;              // by stores and by values that have uses; set by mbi_fuse_count_uses
  int is_kept;           // plan.c: passes find it in memory of the program, as number `place`
  int place;
} mbi_value;

typedef struct mbi_store {
  int slot, value;
} mbi_store;

// What a pass reads or writes in memory: an array of the run, or a kept value.
typedef struct mbi_operand {
  int slot, value; // one of them -1
} mbi_operand;

typedef struct mbi_pass {
  mb_fuse_extent domain;
  int is_store; // writes arrays of the run; the others write kept values
  int is_all;   // covers parts beyond the group
  // Made by compile.c.
  mbi_fuse_step *steps;
  mbi_operand *operands;   // in the order of the backend's numbers
  uint8_t *spreads;        // mbi_fuse_spread of each
  int *uniforms;           // values whose numbers the steps read, in operand order
  mbi_fuse_reduction *reductions;
  int *results;            // value of each reduction
  int n_steps, n_temps, n_operands, n_uniforms, n_reductions;
  // Made by layout.c, filled for each run.
  mbi_fuse_part *parts;
  int64_t n_parts, parts_capacity;
  void **addresses;
  double *numbers; // (sets, n_uniforms)
} mbi_pass;

struct mb_program {
  mbi_value *values;
  int n_values, values_capacity;
  mbi_store *stores;
  int n_stores, stores_capacity;
  mb_fuse_extent *extents; // of slots below n_extents; elements beyond
  int n_extents, extents_capacity;
  int n_arrays, n_scalars, n_randoms; // one more than the highest slot
  uint64_t key[3];         // seed, step, stream
  // The plan; is_planned is 0 until it is made and after each change.
  int is_planned;
  mbi_pass *passes;
  int n_passes, passes_capacity;
  int n_places;            // kept values
  int has_all;             // something is reduced over all parts
  int has_group;           // something is reduced over the group, or over all parts
  double *numbers;         // (sets, n_values), of every NUMBER, as computed by the run
  int64_t sets_room;       // rows that there is room for, here and in the passes
  // The layout: of the parts that the last run had.
  mb_fuse_part *parts;     // the group's first
  int64_t n_parts, parts_capacity, n_group, n_sets, length;
  int64_t total[MB_FUSE_PER_ELEMENT]; // numbers of a kept value, by extent
  int64_t group_total[MB_FUSE_PER_ELEMENT];
  mb_tensor *memory;       // of kept values
  int64_t *offsets;        // of each, in elements of `memory`
  int is_reduced;          // `memory` holds the results of a run
};

int mbi_fuse_arity(mb_fuse_op op); // number of arguments
int mbi_fuse_arguments(const mbi_value *value); // of an OP or a REDUCE; 0 for the others
// The operation on numbers.
double mbi_fuse_evaluate(mb_fuse_op op, double a, double b, double c);
// Room for one more element behind `count`; the array doubles.
mb_status mbi_fuse_reserve(void **items, int *capacity, int count, size_t size, const char *who);
mb_fuse_extent mbi_fuse_slot_extent(const mb_program *program, int slot);
// Counts the uses of every value, from the stores down: 0 means dead code.
void mbi_fuse_count_uses(const mb_program *program);
// Makes the passes, unless they are there.
mb_status mbi_fuse_plan(mb_program *program);
// Compiles a pass; `wanted` (n_values) is 1 for values that it keeps and reductions that it finds.
mb_status mbi_fuse_compile(mb_program *program, mbi_pass *pass, const uint8_t *wanted);
void mbi_fuse_forget(mb_program *program); // drops the plan and the layout
void mbi_fuse_forget_pass(mbi_pass *pass);
// Places parts, for arrays like `first`; nothing happens where they are those of the last run.
mb_status mbi_fuse_layout(mb_program *program, const mb_tensor *first, const mb_fuse_part *parts, int64_t n_parts, int64_t n_sets);
#endif
