// SPDX-License-Identifier: MIT
//
// fuse.h: the inside of a fused program. graph.c builds values, compile.c turns the values that stores
// need into steps for the backend, run.c checks a call and makes it.
//
// A value is one node of an expression graph, and numbers below it are its arguments: the list is in
// topological order by construction. Values are equal exactly when their nodes are, so that a common
// subexpression is one value. A uniform value is made of scalars and constants only: it is the same for all
// elements, and is computed once a run, in float64, by run.c.
#ifndef MBI_FUSE_H
#define MBI_FUSE_H
#include "core/storage.h"

typedef enum mbi_value_kind { MBI_VALUE_ARRAY, MBI_VALUE_SCALAR, MBI_VALUE_CONSTANT, MBI_VALUE_OP } mbi_value_kind;

typedef struct mbi_value {
  mbi_value_kind kind;
  mb_fuse_op op;     // of an OP
  int argument[3];   // of an OP: values, -1 where it takes fewer
  int slot;          // of an ARRAY or SCALAR
  double number;     // of a CONSTANT
  int is_uniform;
  int uses;          // by stores and by values that have uses; set by mbi_fuse_count_uses
} mbi_value;

typedef struct mbi_store {
  int slot, value;
} mbi_store;

struct mb_program {
  mbi_value *values;
  int n_values, values_capacity;
  mbi_store *stores;
  int n_stores, stores_capacity;
  int n_arrays, n_scalars; // one more than the highest slot
  // What compile.c makes of it; steps is NULL until then and after each change.
  mbi_fuse_step *steps;
  int n_steps, n_temps;
  int *uniforms;           // values whose numbers the steps read, in operand order
  int n_uniforms;
  double *numbers;         // of every uniform value, as computed by the run; then the n_uniforms that steps read
  void **addresses;        // of the arrays of the run
};

int mbi_fuse_arity(mb_fuse_op op); // number of arguments
// The operation on numbers.
double mbi_fuse_evaluate(mb_fuse_op op, double a, double b, double c);
// The value of this node, added if there is none. No checks.
mb_status mbi_fuse_intern(int *value, mb_program *program, const mbi_value *node);
// Counts the uses of every value, from the stores down: 0 means dead code.
void mbi_fuse_count_uses(const mb_program *program);
mb_status mbi_fuse_compile(mb_program *program);
void mbi_fuse_forget(mb_program *program); // drops what compile.c made
#endif
