// SPDX-License-Identifier: MIT
//
// test_fuse_sets.c: programs over parts that differ in their numbers give, to the bit, what a run for each set gives; which
// programs are the same; misuse.
#include "fuse.h"

enum { N = 40000, SETS = 3 };

// Parts without gaps, unordered, of one to many elements; the last one is not stored.
static const mb_fuse_part parts[] = {
  {0, 1, 1, 1, 1, 2},      {1, 1, 3, 1, 1, 0},         {4, 1, 5, 1, 1, 1},        {20009, 9, 100, 1, 1, 2}, {9, 40, 500, 1, 1, 0},
  {20909, 10, 10, 1, 1, 0}, {21009, 3, 3000, 1, 1, 1}, {30009, 1, 9000, 1, 1, 1}, {39009, 1, 900, 1, 0, 0},
};
enum { PARTS = sizeof parts / sizeof *parts };
static const double scalars[SETS][2] = {{0.5, 3}, {-1.25, 0}, {1e-3, 7}};

// w = w a (b + 1) - a g / |g| by parts, s = s + b |g|.
static mb_program *build(int has_norm) {
  mb_program *p;
  int w, g, a, b, s, one, norm, x, y;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_declare(p, 2, MB_FUSE_PER_PART));
  CHECK_OK(mb_program_array(&w, p, 0));
  CHECK_OK(mb_program_array(&g, p, 1));
  CHECK_OK(mb_program_scalar(&a, p, 0));
  CHECK_OK(mb_program_scalar(&b, p, 1));
  CHECK_OK(mb_program_constant(&one, p, 1));
  CHECK_OK(mb_program_apply(&x, p, MB_FUSE_ADD, b, one, -1));
  CHECK_OK(mb_program_apply(&x, p, MB_FUSE_MUL, a, x, -1));
  CHECK_OK(mb_program_apply(&x, p, MB_FUSE_MUL, w, x, -1));
  CHECK_OK(mb_program_apply(&y, p, MB_FUSE_MUL, a, g, -1));
  if (has_norm) {
    CHECK_OK(mb_program_array(&s, p, 2));
    CHECK_OK(mb_program_reduce(&norm, p, MB_FUSE_NORM, MB_FUSE_PART, g));
    CHECK_OK(mb_program_apply(&y, p, MB_FUSE_DIV, y, norm, -1));
    CHECK_OK(mb_program_apply(&norm, p, MB_FUSE_MUL, norm, b, -1));
    CHECK_OK(mb_program_apply(&s, p, MB_FUSE_ADD, s, norm, -1));
    CHECK_OK(mb_program_store(p, 2, s));
  }
  CHECK_OK(mb_program_apply(&x, p, MB_FUSE_SUB, x, y, -1));
  CHECK_OK(mb_program_store(p, 0, x));
  return p;
}

static void check_equal(mb_tensor *a, mb_tensor *b) {
  size_t bytes = (size_t)mb_tensor_numel(a) * (mb_tensor_dtype(a) == MB_F64 ? sizeof(double) : sizeof(float));
  char *x = malloc(bytes), *y = malloc(bytes);
  CHECK_OK(mb_tensor_to_host(x, a));
  CHECK_OK(mb_tensor_to_host(y, b));
  CHECK_EQ(memcmp(x, y, bytes), 0);
  free(x), free(y);
}

// Parts of one set alone, the other ones of the group but not stored.
static void run_set(mb_program *p, mb_tensor **arrays, int set) {
  mb_fuse_part some[PARTS];
  for (int i = 0; i < PARTS; i++) {
    some[i] = parts[i];
    some[i].is_stored = parts[i].set == set && parts[i].is_stored;
    some[i].set = 0;
  }
  CHECK_OK(mb_program_run_parts(p, arrays, 3, scalars[set], 2, some, PARTS, 3));
}

static void sets_are_runs_of_their_own(mb_dtype dtype, int has_norm) {
  mb_program *p = build(has_norm);
  int64_t n = N, n_parts = PARTS;
  mb_tensor *arrays[2][3];
  for (int which = 0; which < 2; which++) {
    mb_rng_set(5, 0, 0);
    CHECK_OK(mb_randn(&arrays[which][0], dtype, 1, &n, MB_CPU));
    CHECK_OK(mb_randn(&arrays[which][1], dtype, 1, &n, MB_CPU));
    CHECK_OK(mb_full(&arrays[which][2], dtype, 1, &n_parts, MB_CPU, 0.5));
  }
  for (int step = 0; step < 2; step++) {
    CHECK_OK(mb_program_run_sets(p, arrays[0], 3, scalars[0], 2, SETS, parts, PARTS, 3, NULL));
    for (int set = 0; set < SETS; set++) run_set(p, arrays[1], set);
    for (int i = 0; i < 3; i++) check_equal(arrays[0][i], arrays[1][i]);
  }
  // In two halves, and fewer sets behind more.
  CHECK_OK(mb_program_run_sets(p, arrays[0], 3, scalars[0], 2, SETS, parts, PARTS, 1, NULL));
  CHECK_OK(mb_program_run_sets(p, arrays[0], 3, scalars[0], 2, SETS, parts, PARTS, 2, NULL));
  for (int set = 0; set < SETS; set++) run_set(p, arrays[1], set);
  for (int i = 0; i < 3; i++) check_equal(arrays[0][i], arrays[1][i]);
  for (int i = 0; i < 6; i++) mb_tensor_release(arrays[i / 3][i % 3]);
  mb_program_release(p);
}

static void programs_are_the_same(void) {
  mb_program *a = build(1), *b = build(1), *c = build(0);
  int value;
  CHECK_EQ(mb_program_same(a, b), 1);
  CHECK_EQ(mb_program_same(a, a), 1);
  CHECK_EQ(mb_program_same(a, c), 0);
  CHECK_OK(mb_program_constant(&value, b, 3));
  CHECK_EQ(mb_program_same(a, b), 0); // it knows a value more
  CHECK_OK(mb_program_constant(&value, a, 4));
  CHECK_EQ(mb_program_same(a, b), 0);
  mb_program_release(a), mb_program_release(b);
  a = build(0), b = build(0);
  CHECK_OK(mb_program_array(&value, a, 1));
  CHECK_OK(mb_program_store(a, 0, value)); // the same values, another store
  CHECK_EQ(mb_program_same(a, b), 0);
  CHECK_OK(mb_program_store(b, 3, value)); // a store more
  CHECK_EQ(mb_program_same(b, c), 0);
  mb_program_release(a), mb_program_release(b);
  // An array of one number a row is another array.
  CHECK_OK(mb_program_new(&a));
  CHECK_OK(mb_program_new(&b));
  CHECK_OK(mb_program_declare(b, 0, MB_FUSE_PER_ROW));
  CHECK_OK(mb_program_array(&value, a, 0));
  CHECK_OK(mb_program_array(&value, b, 0));
  CHECK_EQ(mb_program_same(a, b), 0);
  mb_program_release(a), mb_program_release(b), mb_program_release(c);
}

static void misuse_is_refused(void) {
  mb_program *p = build(0);
  int value;
  mb_tensor *arrays[3] = {filled(MB_F32, 6, 1), filled(MB_F32, 6, 1), filled(MB_F32, 1, 1)};
  mb_fuse_part part = {0, 2, 3, 1, 1, 2};
  CHECK_FAILS(MB_ERR_ARG, "part 0 is of set 2, there are 2", mb_program_run_sets(p, arrays, 3, scalars[0], 2, 2, &part, 1, 3, NULL));
  CHECK_FAILS(MB_ERR_ARG, "part 0 is of set 2, there are 1", mb_program_run_parts(p, arrays, 3, scalars[0], 2, &part, 1, 3));
  part.set = -1;
  CHECK_FAILS(MB_ERR_ARG, "part 0 is of set -1, there are 3", mb_program_run_sets(p, arrays, 3, scalars[0], 2, 3, &part, 1, 3, NULL));
  CHECK_FAILS(MB_ERR_ARG, "0 sets of scalars", mb_program_run_sets(p, arrays, 3, scalars[0], 2, 0, &part, 1, 3, NULL));
  part.set = 1;
  CHECK_OK(mb_program_run_sets(p, arrays, 3, scalars[0], 2, 2, &part, 1, 3, NULL));
  int x;
  CHECK_OK(mb_program_array(&x, p, 1));
  CHECK_OK(mb_program_reduce(&value, p, MB_FUSE_SUM, MB_FUSE_GROUP, x));
  CHECK_OK(mb_program_store(p, 1, value));
  CHECK_FAILS(MB_ERR_ARG, "reduces over the group or over all parts, and takes one set of numbers, not 2",
              mb_program_run_sets(p, arrays, 3, scalars[0], 2, 2, &part, 1, 3, NULL));
  part.set = 0;
  CHECK_OK(mb_program_run_sets(p, arrays, 3, scalars[0], 2, 1, &part, 1, 3, NULL));
  for (int i = 0; i < 3; i++) mb_tensor_release(arrays[i]);
  mb_program_release(p);
}

static mb_status build_and_run(mb_tensor *t) {
  mb_program *p;
  int x = -1, a = -1, y = -1;
  const mb_fuse_part two[2] = {{0, 1, 3, 1, 1, 0}, {3, 1, 3, 1, 1, 1}};
  mb_status status = mb_program_new(&p);
  if (status != MB_OK) return status;
  status = mb_program_array(&x, p, 0);
  if (status == MB_OK) status = mb_program_scalar(&a, p, 0);
  if (status == MB_OK) status = mb_program_apply(&y, p, MB_FUSE_MUL, x, a, -1);
  if (status == MB_OK) status = mb_program_store(p, 0, y);
  if (status == MB_OK) status = mb_program_run_parts(p, &t, 1, scalars[0], 2, two, 1, 3);
  if (status == MB_OK) status = mb_program_run_sets(p, &t, 1, scalars[0], 2, 2, two, 2, 3, NULL);
  mb_program_release(p);
  return status;
}

int main(void) {
  mb_memory_stats before, after;
  mb_memory(&before);
  for (int has_norm = 0; has_norm < 2; has_norm++) {
    sets_are_runs_of_their_own(MB_F32, has_norm);
    sets_are_runs_of_their_own(MB_F64, has_norm);
  }
  programs_are_the_same();
  misuse_is_refused();
  mb_tensor *t = filled(MB_F32, 6, 0);
  check_allocations(build_and_run, t, 20);
  mb_tensor_release(t);
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  CHECK_EQ(after.bytes_live, before.bytes_live);
  return check_end();
}
