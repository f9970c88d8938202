// SPDX-License-Identifier: MIT
//
// test_fuse_random.c: random programs against a plain evaluation of the same expressions, element by element.
// Numbers are small integers and stay exact in the dtype, so results must be equal, whatever the compiler of
// the program has shared, joined or moved. Prints its seed; MB_SEED replays one.
#include <time.h>

#include "check.h"

enum { ARRAYS = 5, SCALARS = 3, MOST_VALUES = 60, ELEMENTS = 150, PROGRAMS = 3000 };

static uint64_t state;
static int below(int n) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (int)((state >> 33) % (uint64_t)n);
}

// A value as the test knows it: its number for every element, and the largest of them.
typedef struct known {
  int value; // in the program
  double at[ELEMENTS], largest;
} known;

static const mb_fuse_op exact[] = {
  MB_FUSE_ADD, MB_FUSE_ADD, MB_FUSE_SUB, MB_FUSE_SUB, MB_FUSE_MUL, MB_FUSE_MUL, MB_FUSE_MUL, MB_FUSE_MIN, MB_FUSE_MAX, MB_FUSE_LT,
  MB_FUSE_LE, MB_FUSE_EQ, MB_FUSE_NEG, MB_FUSE_ABS, MB_FUSE_SIGN, MB_FUSE_SQUARE, MB_FUSE_WHERE,
};

static double evaluate(mb_fuse_op op, double a, double b, double c) {
  switch (op) {
    case MB_FUSE_ADD: return a + b;
    case MB_FUSE_SUB: return a - b;
    case MB_FUSE_MUL: return a * b;
    case MB_FUSE_MIN: return a < b ? a : b;
    case MB_FUSE_MAX: return a > b ? a : b;
    case MB_FUSE_LT: return a < b;
    case MB_FUSE_LE: return a <= b;
    case MB_FUSE_EQ: return a == b;
    case MB_FUSE_NEG: return -a;
    case MB_FUSE_ABS: return a < 0 ? -a : a;
    case MB_FUSE_SIGN: return (a > 0) - (a < 0);
    case MB_FUSE_SQUARE: return a * a;
    default: return a != 0 ? b : c;
  }
}

static void measure(known *v) {
  v->largest = 0;
  for (int e = 0; e < ELEMENTS; e++) v->largest = fmax(v->largest, fabs(v->at[e]));
}

static void check_program(mb_dtype dtype, int number) {
  double limit = dtype == MB_F32 ? 0x1p22 : 0x1p50; // a sum of two products stays exact
  known *values = calloc(MOST_VALUES, sizeof *values);
  double host[ARRAYS][ELEMENTS], scalars[SCALARS];
  mb_tensor *arrays[ARRAYS];
  mb_program *p;
  int n_values = 0, n_elements = 1 + below(ELEMENTS);
  int64_t length = ELEMENTS, begin = below(n_elements), end = n_elements;
  CHECK_OK(mb_program_new(&p));
  for (int i = 0; i < ARRAYS; i++, n_values++) {
    for (int e = 0; e < ELEMENTS; e++) host[i][e] = values[n_values].at[e] = below(7) - 3;
    mb_tensor *wide;
    CHECK_OK(mb_from_host(&wide, MB_F64, 1, &length, MB_CPU, host[i]));
    CHECK_OK(mb_cast(&arrays[i], wide, dtype));
    mb_tensor_release(wide);
    CHECK_OK(mb_program_array(&values[n_values].value, p, i));
  }
  for (int i = 0; i < SCALARS; i++, n_values++) {
    scalars[i] = below(7) - 3;
    for (int e = 0; e < ELEMENTS; e++) values[n_values].at[e] = scalars[i];
    CHECK_OK(mb_program_scalar(&values[n_values].value, p, i));
  }
  for (int i = -1; i <= 1; i++, n_values++) {
    for (int e = 0; e < ELEMENTS; e++) values[n_values].at[e] = i;
    CHECK_OK(mb_program_constant(&values[n_values].value, p, i));
  }
  for (int i = 0; i < n_values; i++) measure(&values[i]);
  for (int tries = below(60); tries > 0 && n_values < MOST_VALUES; tries--) {
    mb_fuse_op op = exact[below(sizeof exact / sizeof *exact)];
    const known *a = &values[below(n_values)], *b = &values[below(n_values)], *c = &values[below(n_values)];
    known *made = &values[n_values];
    for (int e = 0; e < ELEMENTS; e++) made->at[e] = evaluate(op, a->at[e], b->at[e], c->at[e]);
    measure(made);
    if (made->largest > limit) continue;
    int is_unary = op >= MB_FUSE_NEG && op < MB_FUSE_WHERE;
    CHECK_OK(mb_program_apply(&made->value, p, op, a->value, is_unary ? -1 : b->value, op == MB_FUSE_WHERE ? c->value : -1));
    n_values++;
  }
  const known *stored[ARRAYS] = {0};
  for (int i = 0; i < ARRAYS; i++) {
    if (i > 0 && below(4) == 0) continue;
    // Late values more often, for long expressions.
    stored[i] = &values[below(3) ? n_values - 1 - below((n_values + 3) / 4) : below(n_values)];
    CHECK_OK(mb_program_store(p, i, stored[i]->value));
  }
  CHECK_OK(mb_program_run(p, arrays, ARRAYS, scalars, SCALARS, &begin, &end, 1));
  for (int i = 0; i < ARRAYS; i++) {
    mb_tensor *wide;
    double got[ELEMENTS];
    CHECK_OK(mb_cast(&wide, arrays[i], MB_F64));
    CHECK_OK(mb_tensor_to_host(got, wide));
    for (int e = 0; e < ELEMENTS; e++) {
      double want = stored[i] && e >= begin && e < end ? stored[i]->at[e] : host[i][e];
      check_count++;
      if (got[e] == want) continue;
      fprintf(stderr, "program %d, array %d, element %d: %.17g, expected %.17g\n", number, i, e, got[e], want);
      exit(1);
    }
    mb_tensor_release(wide);
    mb_tensor_release(arrays[i]);
  }
  mb_program_release(p);
  free(values);
}

int main(void) {
  const char *wish = getenv("MB_SEED");
  state = wish ? strtoull(wish, NULL, 10) : (uint64_t)time(NULL);
  printf("MB_SEED=%llu\n", (unsigned long long)state);
  for (int i = 0; i < PROGRAMS; i++) check_program(i % 2 ? MB_F64 : MB_F32, i);
  return check_end();
}
