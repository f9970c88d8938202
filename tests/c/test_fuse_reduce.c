// SPDX-License-Identifier: MIT
//
// test_fuse_reduce.c: programs over parts: reductions, buffers of rows, columns and parts, what is stored where, random
// numbers, and misuse.
#include "fuse.h"

static mb_tensor *sequence(mb_dtype dtype, int64_t n) {
  mb_tensor *t;
  CHECK_OK(mb_arange(&t, dtype, MB_CPU, 1, 1, n)); // 1, 2, ..., n
  return t;
}

static double *values_of(mb_tensor *t) {
  mb_tensor *wide;
  double *values = malloc((size_t)mb_tensor_numel(t) * sizeof *values);
  CHECK_OK(mb_cast(&wide, t, MB_F64));
  CHECK_OK(mb_tensor_to_host(values, wide));
  mb_tensor_release(wide);
  return values;
}

static void check_values(mb_tensor *t, const double *want) {
  double *got = values_of(t);
  for (int64_t i = 0; i < mb_tensor_numel(t); i++) CHECK_NEAR(got[i], want[i], 1e-6 * (1 + fabs(want[i])));
  free(got);
}

static int array(mb_program *p, int slot) {
  int value;
  CHECK_OK(mb_program_array(&value, p, slot));
  return value;
}
static int reduce(mb_program *p, mb_fuse_reduce how, mb_fuse_over over, int a) {
  int value;
  CHECK_OK(mb_program_reduce(&value, p, how, over, a));
  return value;
}
static int apply(mb_program *p, mb_fuse_op op, int a, int b) {
  int value;
  CHECK_OK(mb_program_apply(&value, p, op, a, b, -1));
  return value;
}

// Elements 0..5 are (2, 3), 6..9 a vector, 10, 11 (2, 1): the group is the first and the last.
static const mb_fuse_part parts[3] = {{0, 2, 3, 1, 1, 0}, {6, 1, 4, 0, 0, 0}, {10, 2, 1, 1, 1, 0}};

static void reductions_know_parts_groups_and_all(mb_dtype dtype) {
  mb_program *p;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_declare(p, 1, MB_FUSE_PER_ROW));
  CHECK_OK(mb_program_declare(p, 2, MB_FUSE_PER_COLUMN));
  CHECK_OK(mb_program_declare(p, 3, MB_FUSE_PER_PART));
  int x = array(p, 0), part = reduce(p, MB_FUSE_SUM, MB_FUSE_PART, x), group = reduce(p, MB_FUSE_MEAN, MB_FUSE_GROUP, x);
  int all = reduce(p, MB_FUSE_GREATEST, MB_FUSE_ALL, x), rows = reduce(p, MB_FUSE_SUM, MB_FUSE_ROWS, x);
  int columns = reduce(p, MB_FUSE_LEAST, MB_FUSE_COLUMNS, x), count;
  CHECK_OK(mb_program_count(&count, p, MB_FUSE_PART));
  CHECK_EQ(mb_program_extent(p, x), MB_FUSE_PER_ELEMENT);
  CHECK_EQ(mb_program_extent(p, part), MB_FUSE_PER_PART);
  CHECK_EQ(mb_program_extent(p, rows), MB_FUSE_PER_ROW);
  CHECK_EQ(mb_program_extent(p, apply(p, MB_FUSE_ADD, rows, columns)), MB_FUSE_PER_ELEMENT);
  CHECK_EQ(mb_program_extent(p, group), MB_FUSE_PER_GROUP);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_ADD, apply(p, MB_FUSE_MUL, x, part), apply(p, MB_FUSE_ADD, group, all))));
  CHECK_OK(mb_program_store(p, 1, apply(p, MB_FUSE_ADD, array(p, 1), rows)));
  CHECK_OK(mb_program_store(p, 2, columns));
  CHECK_OK(mb_program_store(p, 3, apply(p, MB_FUSE_ADD, count, apply(p, MB_FUSE_SUB, part, part))));
  mb_tensor *arrays[] = {sequence(dtype, 13), filled(dtype, 4, 100), filled(dtype, 4, 0), filled(dtype, 2, 0)};
  CHECK_EQ(mb_program_passes(p), 0);
  CHECK_OK(mb_program_run_parts(p, arrays, 4, NULL, 0, parts, 3, 3));
  CHECK(mb_program_passes(p) > 2);
  double mean = (21 + 23) / 8.0, added = mean + 12;
  check_values(arrays[0], (double[]){21 + added, 42 + added, 63 + added, 84 + added, 105 + added, 126 + added, 7, 8, 9, 10,
                                     11 * 23 + added, 12 * 23 + added, 13});
  check_values(arrays[1], (double[]){106, 115, 111, 112});
  check_values(arrays[2], (double[]){1, 2, 3, 11});
  check_values(arrays[3], (double[]){6, 2});
  for (int i = 0; i < 4; i++) mb_tensor_release(arrays[i]);
  mb_program_release(p);
}

// What is stored is less than what is reduced; phases apart; rows of parts that are not stored stay.
static void stores_reach_some_parts(void) {
  mb_program *p;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_declare(p, 1, MB_FUSE_PER_ROW));
  int x = array(p, 0), norm = reduce(p, MB_FUSE_NORM, MB_FUSE_GROUP, x);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_SUB, x, norm)));
  CHECK_OK(mb_program_store(p, 1, norm));
  mb_fuse_part some[2] = {{0, 2, 1, 1, 0, 0}, {2, 2, 1, 1, 1, 0}};
  mb_tensor *arrays[] = {filled(MB_F64, 4, 2), filled(MB_F64, 4, 0)};
  CHECK_FAILS(MB_ERR_STATE, "nothing has been reduced", mb_program_run_parts(p, arrays, 2, NULL, 0, some, 2, 2));
  CHECK_OK(mb_program_run_parts(p, arrays, 2, NULL, 0, some, 2, 1));
  check_values(arrays[0], (double[]){2, 2, 2, 2});
  CHECK_OK(mb_fill_(arrays[0], 7)); // the norm is the one that was found
  CHECK_OK(mb_program_run_parts(p, arrays, 2, NULL, 0, some, 2, 2));
  check_values(arrays[0], (double[]){7, 7, 3, 3});
  check_values(arrays[1], (double[]){0, 0, 4, 4});
  mb_tensor_release(arrays[0]), mb_tensor_release(arrays[1]);
  mb_program_release(p);
}

// Through every path of the kernel: parts of many units, rows longer than a tile, against plain sums.
static void large_parts_add_up(void) {
  enum { N = 70001 };
  static const mb_fuse_part large[] = {{1, 1, 50000, 1, 1, 0}, {50001, 40, 499, 1, 1, 0}, {69961, 40, 1, 1, 1, 0}};
  int64_t n = N;
  mb_program *p;
  mb_tensor *x, *out;
  mb_rng_seed(4);
  CHECK_OK(mb_randn(&x, MB_F64, 1, &n, MB_CPU));
  out = filled(MB_F64, N, 0);
  double *host = values_of(x), *want = calloc(N, sizeof *want);
  for (int k = 0; k < 3; k++) {
    const mb_fuse_part *part = &large[k];
    double sum = 0;
    for (int64_t i = 0; i < part->rows * part->columns; i++) sum += host[part->begin + i];
    for (int64_t r = 0; r < part->rows; r++)
      for (int64_t c = 0; c < part->columns; c++) {
        double row = 0, column = 0;
        if (part->rows > 1)
          for (int64_t i = 0; i < part->columns; i++) row += host[part->begin + r * part->columns + i];
        for (int64_t i = 0; i < part->rows && part->rows > 1; i++) column += host[part->begin + i * part->columns + c];
        want[part->begin + r * part->columns + c] = part->rows > 1 ? sum + row * column : sum + sum * host[part->begin + c];
      }
  }
  CHECK_OK(mb_program_new(&p));
  int a = array(p, 0), rows = reduce(p, MB_FUSE_SUM, MB_FUSE_ROWS, a), columns = reduce(p, MB_FUSE_SUM, MB_FUSE_COLUMNS, a);
  CHECK_OK(mb_program_store(p, 1, apply(p, MB_FUSE_ADD, reduce(p, MB_FUSE_SUM, MB_FUSE_PART, a), apply(p, MB_FUSE_MUL, rows, columns))));
  CHECK_OK(mb_program_run_parts(p, (mb_tensor *[]){x, out}, 2, NULL, 0, large, 3, 3));
  double *got = values_of(out);
  for (int i = 0; i < N; i++) CHECK_NEAR(got[i], want[i], 1e-9 * (1 + fabs(want[i])));
  free(got), free(host), free(want);
  mb_tensor_release(x), mb_tensor_release(out);
  mb_program_release(p);
}

static void random_numbers_are_of_the_key(void) {
  enum { N = 1003 };
  mb_program *p;
  int first, second, again;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_random(&first, p, 0));
  CHECK_OK(mb_program_random(&second, p, 1));
  CHECK_OK(mb_program_random(&again, p, 1));
  CHECK(second != again);
  CHECK_OK(mb_program_store(p, 0, first));
  CHECK_OK(mb_program_store(p, 1, second));
  mb_tensor *arrays[] = {filled(MB_F32, N, 9), filled(MB_F32, N, 9)};
  mb_program_set_key(p, 5, 6, 7);
  mb_fuse_part some[2] = {{3, 1, 500, 1, 1, 0}, {503, 100, 5, 1, 1, 0}};
  CHECK_OK(mb_program_run_parts(p, arrays, 2, NULL, 0, some, 2, 3));
  uint32_t words[N];
  mb_rng_words(words, N, 5, 6, 7);
  double *got = values_of(arrays[0]);
  for (int i = 3; i < N; i++) CHECK_NEAR(got[i], (double)(words[i] >> 8) / 16777216.0, 0);
  CHECK_NEAR(got[2], 9, 0);
  free(got);
  got = values_of(arrays[1]);
  double sum = 0, squares = 0;
  for (int i = 3; i < N; i++) sum += got[i], squares += got[i] * got[i];
  CHECK(fabs(sum / 1000) < 0.16 && fabs(squares / 1000 - 1) < 0.25);
  free(got);
  mb_tensor_release(arrays[0]), mb_tensor_release(arrays[1]);
  mb_program_release(p);
}

// ----- memory and misuse ------------------------------------------------------------------------------

static mb_status build_and_run(mb_tensor *t) {
  mb_program *p;
  int x = -1, y = -1;
  mb_fuse_part whole = {0, 3, 2, 1, 1, 0};
  mb_status status = mb_program_new(&p);
  if (status != MB_OK) return status;
  status = mb_program_declare(p, 1, MB_FUSE_PER_ELEMENT);
  if (status == MB_OK) status = mb_program_array(&x, p, 0);
  if (status == MB_OK) status = mb_program_reduce(&y, p, MB_FUSE_MEAN, MB_FUSE_GROUP, x);
  if (status == MB_OK) status = mb_program_store(p, 0, y);
  if (status == MB_OK) status = mb_program_run_parts(p, &t, 1, NULL, 0, &whole, 1, 3);
  mb_program_release(p);
  return status;
}

static void every_allocation_may_fail(void) {
  mb_tensor *t = filled(MB_F32, 6, 0);
  check_allocations(build_and_run, t, 20);
  mb_tensor_release(t);
}

static void misuse_is_refused(void) {
  mb_program *p;
  int value = 3, number;
  CHECK_OK(mb_program_new(&p));
  CHECK_OK(mb_program_declare(p, 1, MB_FUSE_PER_ROW));
  CHECK_FAILS(MB_ERR_ARG, "slot is -1", mb_program_declare(p, -1, MB_FUSE_PER_ROW));
  CHECK_FAILS(MB_ERR_ARG, "extent is 1, 2 to 5", mb_program_declare(p, 2, MB_FUSE_PER_GROUP));
  int x = array(p, 0), rows = reduce(p, MB_FUSE_SUM, MB_FUSE_ROWS, x);
  CHECK_OK(mb_program_constant(&number, p, 3));
  CHECK_FAILS(MB_ERR_STATE, "is used already", mb_program_declare(p, 0, MB_FUSE_PER_ROW));
  CHECK_FAILS(MB_ERR_ARG, "reduce is 9", mb_program_reduce(&value, p, (mb_fuse_reduce)9, MB_FUSE_ROWS, x));
  CHECK_EQ(value, -1);
  CHECK_FAILS(MB_ERR_ARG, "over is 9", mb_program_reduce(&value, p, MB_FUSE_SUM, (mb_fuse_over)9, x));
  CHECK_FAILS(MB_ERR_ARG, "a is value 77", mb_program_reduce(&value, p, MB_FUSE_SUM, MB_FUSE_ROWS, 77));
  CHECK_FAILS(MB_ERR_ARG, "nothing to reduce", mb_program_reduce(&value, p, MB_FUSE_SUM, MB_FUSE_ROWS, number));
  CHECK_FAILS(MB_ERR_ARG, "of is 3", mb_program_count(&value, p, MB_FUSE_GROUP));
  CHECK_FAILS(MB_ERR_ARG, "slot 1 has one number for each row, the value differs from element to element", mb_program_store(p, 1, x));
  CHECK_OK(mb_program_store(p, 1, rows));
  mb_tensor *arrays[2] = {filled(MB_F32, 6, 1), filled(MB_F32, 2, 1)}, *longer[2] = {arrays[0], filled(MB_F32, 3, 1)};
  mb_fuse_part good = {0, 2, 3, 1, 1, 0}, bad = {1, 2, 3, 1, 1, 0}, wrong = {0, 2, 3, 0, 1, 0}, other = {0, 2, 3, 0, 0, 0};
#define RUN(part, phases) mb_program_run_parts(p, arrays, 2, NULL, 0, &(part), 1, phases)
  CHECK_FAILS(MB_ERR_ARG, "part 0 is (2, 3) from element 1, a non-empty part of [0, 6)", RUN(bad, 3));
  CHECK_FAILS(MB_ERR_ARG, "part 0 is stored, but not of the group", RUN(wrong, 3));
  CHECK_FAILS(MB_ERR_ARG, "no part is of the group", RUN(other, 3));
  CHECK_FAILS(MB_ERR_ARG, "phases is 4", RUN(good, 4));
  CHECK_FAILS(MB_ERR_ARG, "0 parts", mb_program_run_parts(p, arrays, 2, NULL, 0, &good, 0, 3));
  CHECK_FAILS(MB_ERR_SHAPE, "array 1 has 3 elements, one for each of 2 rows", mb_program_run_parts(p, longer, 2, NULL, 0, &good, 1, 3));
  CHECK_FAILS(MB_ERR_ARG, "[0, 4) and [2, 5) overlap",
              mb_program_run_parts(p, arrays, 2, NULL, 0, (mb_fuse_part[]){{0, 1, 4, 1, 1, 0}, {2, 1, 3, 1, 1, 0}}, 2, 3));
  CHECK_OK(RUN(good, 3));
  check_values(arrays[1], (double[]){3, 3});
#undef RUN
  // A buffer of the group's rows has nothing for rows beyond it.
  CHECK_OK(mb_program_store(p, 0, reduce(p, MB_FUSE_SUM, MB_FUSE_ALL, array(p, 1))));
  mb_fuse_part two[2] = {{0, 2, 2, 1, 1, 0}, {4, 1, 2, 0, 0, 0}};
  CHECK_FAILS(MB_ERR_ARG, "array 1 has numbers for the group's parts alone", mb_program_run_parts(p, arrays, 2, NULL, 0, two, 2, 3));
  mb_tensor_release(arrays[0]), mb_tensor_release(arrays[1]), mb_tensor_release(longer[1]);
  mb_program_release(p);
}

int main(void) {
  mb_memory_stats before, after;
  mb_memory(&before);
  reductions_know_parts_groups_and_all(MB_F32);
  reductions_know_parts_groups_and_all(MB_F64);
  stores_reach_some_parts();
  large_parts_add_up();
  random_numbers_are_of_the_key();
  every_allocation_may_fail();
  misuse_is_refused();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  CHECK_EQ(after.bytes_live, before.bytes_live);
  return check_end();
}
