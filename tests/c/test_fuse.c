// SPDX-License-Identifier: MIT
//
// test_fuse.c: fused programs: every operation against libm in both dtypes and with every kind of operand,
// what the graph shares and leaves out, where stores go, ranges, and wrong use.
// Random graphs: test_fuse_random.c.
#include <float.h>

#include "fuse.h"

static int array(mb_program *p, int slot) {
  int value;
  CHECK_OK(mb_program_array(&value, p, slot));
  return value;
}
static int scalar(mb_program *p, int slot) {
  int value;
  CHECK_OK(mb_program_scalar(&value, p, slot));
  return value;
}
static int constant(mb_program *p, double number) {
  int value;
  CHECK_OK(mb_program_constant(&value, p, number));
  return value;
}
static int apply(mb_program *p, mb_fuse_op op, int a, int b, int c) {
  int value;
  CHECK_OK(mb_program_apply(&value, p, op, a, b, c));
  return value;
}
static mb_program *program(void) {
  mb_program *p;
  CHECK_OK(mb_program_new(&p));
  return p;
}

static mb_tensor *tensor(mb_dtype dtype, const double *values, int64_t n) {
  mb_tensor *wide, *t;
  CHECK_OK(mb_from_host(&wide, MB_F64, 1, &n, MB_CPU, values));
  CHECK_OK(mb_cast(&t, wide, dtype));
  mb_tensor_release(wide);
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
static void run_all(mb_program *p, mb_tensor *const *arrays, int n_arrays, const double *scalars, int n_scalars) {
  int64_t begin = 0, end = mb_tensor_numel(arrays[0]);
  CHECK_OK(mb_program_run(p, arrays, n_arrays, scalars, n_scalars, &begin, &end, 1));
}

// ----- operations -------------------------------------------------------------------------------------

static double expected(mb_fuse_op op, double a, double b, double c) {
  switch (op) {
    case MB_FUSE_ADD: return a + b;
    case MB_FUSE_SUB: return a - b;
    case MB_FUSE_MUL: return a * b;
    case MB_FUSE_DIV: return a / b;
    case MB_FUSE_MIN: return isnan(a) || isnan(b) ? (double)NAN : fmin(a, b);
    case MB_FUSE_MAX: return isnan(a) || isnan(b) ? (double)NAN : fmax(a, b);
    case MB_FUSE_POW: return pow(a, b);
    case MB_FUSE_LT: return a < b;
    case MB_FUSE_LE: return a <= b;
    case MB_FUSE_EQ: return a == b;
    case MB_FUSE_NEG: return -a;
    case MB_FUSE_ABS: return fabs(a);
    case MB_FUSE_SIGN: return isnan(a) ? (double)NAN : (double)((a > 0) - (a < 0));
    case MB_FUSE_SQRT: return sqrt(a);
    case MB_FUSE_RSQRT: return a < 0 ? (double)NAN : pow(a, -0.5);
    case MB_FUSE_RECIPROCAL: return 1 / a;
    case MB_FUSE_SQUARE: return a * a;
    case MB_FUSE_EXP: return exp(a);
    case MB_FUSE_LOG: return log(a);
    case MB_FUSE_TANH: return tanh(a);
    case MB_FUSE_SIGMOID: return a > 0 ? 1 / (1 + exp(-a)) : exp(a) / (1 + exp(a));
    case MB_FUSE_NORMAL_CDF: return erfc(a * -0.70710678118654752440) / 2;
    default: return a != 0 ? b : c;
  }
}

static int arity(mb_fuse_op op) { return op <= MB_FUSE_EQ ? 2 : op == MB_FUSE_WHERE ? 3 : 1; }

static void check_close(double got, double want, mb_dtype dtype, int op, double a, double b) {
  check_count++;
  double epsilon = dtype == MB_F32 ? 4 * (double)FLT_EPSILON : 4 * DBL_EPSILON, tiny = dtype == MB_F32 ? (double)FLT_MIN : DBL_MIN;
  if ((isnan(got) && isnan(want)) || got == want || fabs(got - want) <= epsilon * fabs(want) + tiny) return;
  fprintf(stderr, "operation %d of %.9g, %.9g in dtype %d: %.17g, expected %.17g\n", op, a, b, (int)dtype, got, want);
  exit(1);
}

// 0.3 as an element of the dtype: what the operation sees, and so what its result is checked against.
static double as_stored(mb_dtype dtype, double x) { return dtype == MB_F32 ? (double)(float)x : x; }

// out = op(a, b, c), where bit i of `uniform` makes argument i a scalar.
static void check_operation(mb_dtype dtype, mb_fuse_op op, int uniform) {
  static const double some[] = {0.3, -1.7, 2, 0, 1, -1, 3.25, 0.5, 17, -0.001, 1e-3, 6, -4, (double)INFINITY, (double)-INFINITY, (double)NAN, -2.5};
  enum { N = 1003, SOME = sizeof some / sizeof *some };
  double x[3][N], numbers[3] = {-1.7, 0.3, 2};
  mb_tensor *arrays[4];
  mb_program *p = program();
  int argument[3] = {-1, -1, -1};
  for (int i = 0; i < 3; i++) {
    for (int e = 0; e < N; e++) x[i][e] = as_stored(dtype, uniform >> i & 1 ? numbers[i] : some[(e / (i == 0 ? 1 : i == 1 ? SOME : 5)) % SOME]);
    arrays[i] = tensor(dtype, x[i], N);
    if (i < arity(op)) argument[i] = uniform >> i & 1 ? scalar(p, i) : array(p, i);
  }
  arrays[3] = filled(dtype, N, -99);
  CHECK_OK(mb_program_store(p, 3, apply(p, op, argument[0], argument[1], argument[2])));
  run_all(p, arrays, 4, numbers, 3);
  double *got = values_of(arrays[3]);
  for (int e = 0; e < N; e++) check_close(got[e], expected(op, x[0][e], x[1][e], x[2][e]), dtype, (int)op, x[0][e], x[1][e]);
  free(got);
  for (int i = 0; i < 4; i++) mb_tensor_release(arrays[i]);
  mb_program_release(p);
}

static void operations_agree_with_libm(void) {
  for (int dtype = MB_F32; dtype <= MB_F64; dtype++)
    for (int op = 0; op < MB_FUSE_OP_COUNT; op++)
      for (int uniform = 0; uniform < 1 << arity((mb_fuse_op)op); uniform++) check_operation((mb_dtype)dtype, (mb_fuse_op)op, uniform);
}

// The steps that the compiler makes of a product and a sum: a b + c, a b - c, c - a b, a u + b v, a u - b v, with
// each factor and summand an array or a scalar.
static void products_and_sums(mb_dtype dtype) {
  enum { N = 131 };
  double x[4][N], numbers[4] = {1.5, -0.25, 3, 0.125};
  mb_tensor *arrays[5];
  for (int i = 0; i < 4; i++) {
    for (int e = 0; e < N; e++) x[i][e] = (double)((e * (i + 3)) % 17) - 6;
    arrays[i] = tensor(dtype, x[i], N);
  }
  for (int uniform = 0; uniform < 15; uniform++)
    for (int kind = 0; kind < 4; kind++) {
      mb_program *p = program();
      int v[4];
      for (int i = 0; i < 4; i++) v[i] = uniform >> i & 1 ? scalar(p, i) : array(p, i);
      int first = apply(p, MB_FUSE_MUL, v[0], v[1], -1), second = kind < 2 ? apply(p, MB_FUSE_MUL, v[2], v[3], -1) : v[2];
      int sum = apply(p, kind % 2 ? MB_FUSE_SUB : MB_FUSE_ADD, kind == 3 ? second : first, kind == 3 ? first : second, -1);
      CHECK_OK(mb_program_store(p, 4, sum));
      arrays[4] = filled(dtype, N, 0);
      run_all(p, arrays, 5, numbers, 4);
      double *got = values_of(arrays[4]);
      for (int e = 0; e < N; e++) {
        double y[4];
        for (int i = 0; i < 4; i++) y[i] = uniform >> i & 1 ? numbers[i] : x[i][e];
        double a = y[0] * y[1], b = kind < 2 ? y[2] * y[3] : y[2];
        CHECK_NEAR(got[e], kind == 0 || kind == 2 ? a + b : kind == 1 ? a - b : b - a, 1e-12);
      }
      free(got);
      mb_tensor_release(arrays[4]);
      mb_program_release(p);
    }
  for (int i = 0; i < 4; i++) mb_tensor_release(arrays[i]);
}

// ----- the graph --------------------------------------------------------------------------------------

static void equal_expressions_are_one_value(void) {
  mb_program *p = program();
  int w = array(p, 0), g = array(p, 1), b = scalar(p, 0);
  CHECK_EQ(array(p, 0), w);
  CHECK_EQ(scalar(p, 0), b);
  CHECK_EQ(apply(p, MB_FUSE_ADD, w, g, -1), apply(p, MB_FUSE_ADD, g, w, -1));
  CHECK_EQ(apply(p, MB_FUSE_MUL, b, g, -1), apply(p, MB_FUSE_MUL, g, b, -1));
  CHECK(apply(p, MB_FUSE_SUB, w, g, -1) != apply(p, MB_FUSE_SUB, g, w, -1));
  CHECK(apply(p, MB_FUSE_MAX, w, g, -1) != apply(p, MB_FUSE_MIN, w, g, -1));
  // Constants are computed, identities that hold for all numbers applied.
  CHECK_EQ(apply(p, MB_FUSE_DIV, constant(p, 3), constant(p, 4), -1), constant(p, 0.75));
  CHECK_EQ(apply(p, MB_FUSE_SQRT, constant(p, 2.25), -1, -1), constant(p, 1.5));
  CHECK(constant(p, 0.0) != constant(p, -0.0));
  CHECK_EQ(apply(p, MB_FUSE_MUL, w, constant(p, 1), -1), w);
  CHECK_EQ(apply(p, MB_FUSE_MUL, constant(p, 1), w, -1), w);
  CHECK_EQ(apply(p, MB_FUSE_DIV, w, constant(p, 1), -1), w);
  CHECK_EQ(apply(p, MB_FUSE_SUB, w, constant(p, 0), -1), w);
  CHECK(apply(p, MB_FUSE_ADD, w, constant(p, 0), -1) != w); // -0 + 0 is 0
  CHECK(apply(p, MB_FUSE_MUL, w, constant(p, 0), -1) != constant(p, 0));
  CHECK_EQ(apply(p, MB_FUSE_POW, w, constant(p, 2), -1), apply(p, MB_FUSE_SQUARE, w, -1, -1));
  CHECK_EQ(apply(p, MB_FUSE_POW, w, constant(p, 0.5), -1), apply(p, MB_FUSE_SQRT, w, -1, -1));
  CHECK_EQ(apply(p, MB_FUSE_POW, w, constant(p, -1), -1), apply(p, MB_FUSE_RECIPROCAL, w, -1, -1));
  mb_program_release(p);
}

static void the_size_counts_what_elements_cost(void) {
  mb_program *p = program();
  int w = array(p, 0), g = array(p, 1), lr = scalar(p, 0), beta = scalar(p, 1);
  CHECK_EQ(mb_program_size(p), 0);
  int product = apply(p, MB_FUSE_MUL, w, g, -1);
  CHECK_EQ(mb_program_size(p), 0); // nothing is stored
  int root = apply(p, MB_FUSE_SQRT, apply(p, MB_FUSE_SUB, constant(p, 1), beta, -1), -1, -1);
  int step = apply(p, MB_FUSE_DIV, lr, root, -1); // scalars only: no cost an element
  int twice = apply(p, MB_FUSE_ADD, product, apply(p, MB_FUSE_MUL, g, w, -1), -1);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_MUL, step, twice, -1)));
  CHECK_EQ(mb_program_size(p), 3);
  apply(p, MB_FUSE_EXP, twice, -1, -1); // dead
  CHECK_EQ(mb_program_size(p), 3);
  CHECK_OK(mb_program_store(p, 0, product)); // instead of the earlier one
  CHECK_EQ(mb_program_size(p), 1);
  mb_program_release(p);
}

// ----- stores -----------------------------------------------------------------------------------------

// Each program maps (a, b, c) = (1, 2, 3) to what is expected after all loads came before all stores.
static void check_stores(int (*build)(mb_program *), double a, double b, double c) {
  for (int64_t n = 1; n <= 300; n += 299) {
    mb_tensor *arrays[3] = {filled(MB_F64, n, 1), filled(MB_F64, n, 2), filled(MB_F64, n, 3)};
    double numbers[1] = {10}, want[3] = {a, b, c};
    mb_program *p = program();
    int n_arrays = build(p);
    run_all(p, arrays, n_arrays, numbers, 1);
    for (int i = 0; i < 3; i++) {
      double *got = values_of(arrays[i]);
      for (int64_t e = 0; e < n; e++) CHECK_NEAR(got[e], want[i], 0);
      free(got);
      mb_tensor_release(arrays[i]);
    }
    mb_program_release(p);
  }
}

static int swap(mb_program *p) {
  CHECK_OK(mb_program_store(p, 0, array(p, 1)));
  CHECK_OK(mb_program_store(p, 1, array(p, 0)));
  return 2;
}
static int rotate_and_add(mb_program *p) {
  int sum = apply(p, MB_FUSE_ADD, array(p, 0), array(p, 1), -1);
  CHECK_OK(mb_program_store(p, 0, array(p, 1)));
  CHECK_OK(mb_program_store(p, 1, array(p, 2)));
  CHECK_OK(mb_program_store(p, 2, sum));
  return 3;
}
static int early_store_then_read(mb_program *p) {
  int a = array(p, 0), b = array(p, 1);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_ADD, a, b, -1)));                                  // 3
  CHECK_OK(mb_program_store(p, 1, apply(p, MB_FUSE_SUB, b, apply(p, MB_FUSE_MUL, a, b, -1), -1)));    // reads the old a: 0
  CHECK_OK(mb_program_store(p, 2, apply(p, MB_FUSE_EXP, apply(p, MB_FUSE_SUB, a, a, -1), -1, -1)));   // 1
  return 3;
}
static int one_value_thrice(mb_program *p) {
  int value = apply(p, MB_FUSE_MUL, array(p, 0), array(p, 2), -1);
  for (int i = 0; i < 3; i++) CHECK_OK(mb_program_store(p, i, value));
  return 3;
}
static int uniform_and_itself(mb_program *p) {
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_NEG, scalar(p, 0), -1, -1)));
  CHECK_OK(mb_program_store(p, 1, array(p, 1)));
  CHECK_OK(mb_program_store(p, 2, constant(p, 0.5)));
  return 3;
}
static int array_to_result_and_overwritten(mb_program *p) {
  int a = array(p, 0);
  CHECK_OK(mb_program_store(p, 1, a));
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_SQUARE, apply(p, MB_FUSE_ADD, a, a, -1), -1, -1)));
  CHECK_OK(mb_program_store(p, 2, apply(p, MB_FUSE_MIN, a, array(p, 2), -1)));
  return 3;
}

static void stores_come_after_all_loads(void) {
  check_stores(swap, 2, 1, 3);
  check_stores(rotate_and_add, 2, 3, 3);
  check_stores(early_store_then_read, 3, 0, 1);
  check_stores(one_value_thrice, 3, 3, 3);
  check_stores(uniform_and_itself, -10, 2, 0.5);
  check_stores(array_to_result_and_overwritten, 4, 1, 1);
}

// A tile of temps is used again as soon as its value is: long sums work in any order.
static void many_values_live_at_once(void) {
  enum { N = 40 };
  mb_program *p = program();
  int x = array(p, 0), value[N], sum = constant(p, 0);
  for (int i = 0; i < N; i++) value[i] = apply(p, MB_FUSE_ADD, x, constant(p, i), -1);
  for (int i = N - 1; i >= 0; i--) sum = apply(p, MB_FUSE_ADD, sum, apply(p, MB_FUSE_MUL, value[i], value[(i * 7) % N], -1), -1);
  CHECK_OK(mb_program_store(p, 0, sum));
  mb_tensor *arrays[1] = {filled(MB_F64, 77, 1)};
  run_all(p, arrays, 1, NULL, 0);
  double want = 0, *got = values_of(arrays[0]);
  for (int i = 0; i < N; i++) want += (1.0 + i) * (1.0 + (i * 7) % N);
  for (int e = 0; e < 77; e++) CHECK_NEAR(got[e], want, 0);
  free(got);
  mb_tensor_release(arrays[0]);
  mb_program_release(p);
}

// ----- ranges -----------------------------------------------------------------------------------------

static void only_the_ranges_change(void) {
  enum { N = 70001, MOST = 6 };
  static const int64_t ranges[][2][MOST] = {
    {{0}, {N}}, {{0, 1, 2}, {1, 2, 3}}, {{500, 100, 300, 128}, {501, 128, 313, 300}}, {{5, 40000}, {39000, 70000}}, {{70000}, {70001}},
  };
  static const int counts[] = {1, 3, 4, 2, 1};
  for (int r = 0; r < 5; r++) {
    mb_tensor *arrays[1] = {filled(MB_F32, N, 3)};
    mb_program *p = program();
    CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_ADD, array(p, 0), scalar(p, 0), -1)));
    double four = 4;
    CHECK_OK(mb_program_run(p, arrays, 1, &four, 1, ranges[r][0], ranges[r][1], counts[r]));
    double *got = values_of(arrays[0]);
    for (int64_t e = 0; e < N; e++) {
      int inside = 0;
      for (int i = 0; i < counts[r]; i++) inside |= e >= ranges[r][0][i] && e < ranges[r][1][i];
      CHECK_NEAR(got[e], inside ? 7 : 3, 0);
    }
    free(got);
    mb_tensor_release(arrays[0]);
    mb_program_release(p);
  }
}

static void threads_do_not_change_a_bit(void) {
  enum { N = 100003 };
  int64_t n = N, begin[2] = {3, 50000}, end[2] = {49990, N};
  static float result[2][N];
  int before = mb_threads();
  mb_program *p = program();
  int x = array(p, 0);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_TANH, apply(p, MB_FUSE_ADD, apply(p, MB_FUSE_MUL, x, scalar(p, 0), -1),
                                                              apply(p, MB_FUSE_EXP, x, -1, -1), -1), -1, -1)));
  for (int i = 0; i < 2; i++) {
    mb_tensor *t;
    double number = 0.3;
    CHECK_OK(mb_threads_set(i == 0 ? 1 : 3));
    mb_rng_seed(11);
    CHECK_OK(mb_randn(&t, MB_F32, 1, &n, MB_CPU));
    CHECK_OK(mb_program_run(p, &t, 1, &number, 1, begin, end, 2));
    CHECK_OK(mb_tensor_to_host(result[i], t));
    mb_tensor_release(t);
  }
  CHECK(memcmp(result[0], result[1], sizeof result[0]) == 0);
  CHECK_OK(mb_threads_set(before));
  mb_program_release(p);
}

// ----- memory and misuse ------------------------------------------------------------------------------

static void runs_allocate_nothing(void) {
  mb_program *p = program();
  int w = array(p, 0), g = array(p, 1);
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_SUB, w, apply(p, MB_FUSE_MUL, scalar(p, 0), g, -1), -1)));
  mb_tensor *arrays[2] = {filled(MB_F32, 5000, 1), filled(MB_F32, 5000, 2)};
  double lr = 0.5;
  run_all(p, arrays, 2, &lr, 1);
  mb_memory_stats before, after;
  mb_memory(&before);
  for (int i = 0; i < 20; i++) {
    lr = 0.1 * i;
    run_all(p, arrays, 2, &lr, 1);
  }
  mb_memory(&after);
  CHECK_EQ(after.allocations, before.allocations);
  mb_tensor_release(arrays[0]), mb_tensor_release(arrays[1]);
  mb_program_release(p);
}

static mb_status build_and_run(mb_tensor *t) {
  mb_program *p;
  int x = -1, y = -1;
  int64_t begin = 0, end = 1;
  mb_status status = mb_program_new(&p);
  if (status != MB_OK) return status;
  status = mb_program_array(&x, p, 0);
  for (int i = 0; i < 40 && status == MB_OK; i++) {
    status = mb_program_constant(&y, p, i);
    if (status == MB_OK) status = mb_program_apply(&x, p, MB_FUSE_ADD, x, y, -1);
  }
  if (status == MB_OK) status = mb_program_store(p, 0, x);
  if (status == MB_OK) status = mb_program_run(p, &t, 1, NULL, 0, &begin, &end, 1);
  mb_program_release(p);
  return status;
}

static void every_allocation_may_fail(void) {
  mb_tensor *t = filled(MB_F32, 1, 0);
  check_allocations(build_and_run, t, 8);
  mb_tensor_release(t);
}

static void misuse_of_the_graph_is_refused(void) {
  mb_program *p = program();
  int value = 5, x = array(p, 0);
  CHECK_FAILS(MB_ERR_ARG, "slot is -1", mb_program_array(&value, p, -1));
  CHECK_EQ(value, -1);
  CHECK_FAILS(MB_ERR_ARG, "slot is 99999", mb_program_scalar(&value, p, 99999));
  CHECK_FAILS(MB_ERR_ARG, "b is value 7, the program has 1 values", mb_program_apply(&value, p, MB_FUSE_ADD, x, 7, -1));
  CHECK_FAILS(MB_ERR_ARG, "b is 0, but 'exp' takes 1 argument;", mb_program_apply(&value, p, MB_FUSE_EXP, x, x, -1));
  CHECK_FAILS(MB_ERR_ARG, "op is 23", mb_program_apply(&value, p, MB_FUSE_OP_COUNT, x, -1, -1));
  CHECK_FAILS(MB_ERR_ARG, "value is value 3", mb_program_store(p, 0, 3));
  mb_status status = MB_OK;
  for (int i = 0; i < 20000 && status == MB_OK; i++) status = mb_program_constant(&value, p, i);
  CHECK_EQ(status, MB_ERR_ARG);
  CHECK(strstr(mb_last_error(), "more than 16384 values") != NULL);
  mb_program_release(p);
}

static void misuse_of_a_run_is_refused(void) {
  mb_program *p = program();
  int64_t n = 10, zero = 0, ten = 10, eleven = 11, two[2] = {0, 4}, three[2] = {5, 9}, shape[2] = {5, 2};
  double s[1] = {1};
  mb_tensor *a = filled(MB_F32, 10, 1), *b = filled(MB_F32, 10, 1), *longer = filled(MB_F32, 11, 1), *wide = filled(MB_F64, 10, 1), *matrix,
            *turned, *words, *part, *rest, *made;
  CHECK_OK(mb_full(&matrix, MB_F32, 2, shape, MB_CPU, 1));
  CHECK_OK(mb_transpose(&turned, matrix, 0, 1));
  CHECK_OK(mb_full(&words, MB_I32, 1, &n, MB_CPU, 1));
  CHECK_OK(mb_slice(&part, longer, 0, 0, 10, 1));
  CHECK_OK(mb_slice(&rest, longer, 0, 1, 11, 1));
  CHECK_OK(mb_set_requires_grad(wide, 1));
  CHECK_OK(mb_exp(&made, wide));
#define RUN(first, second) mb_program_run(p, (mb_tensor *[]){first, second}, 2, s, 1, &zero, &ten, 1)
  CHECK_FAILS(MB_ERR_STATE, "stores nothing", RUN(a, b));
  int x = array(p, 0);
  CHECK_OK(mb_program_store(p, 1, apply(p, MB_FUSE_MUL, x, scalar(p, 0), -1)));
  CHECK_FAILS(MB_ERR_ARG, "1 arrays were given, the program uses 2", mb_program_run(p, &a, 1, s, 1, &zero, &ten, 1));
  CHECK_FAILS(MB_ERR_ARG, "0 scalars were given, the program uses 1", mb_program_run(p, (mb_tensor *[]){a, b}, 2, s, 0, &zero, &ten, 1));
  CHECK_FAILS(MB_ERR_ARG, "array 1 is NULL", RUN(a, NULL));
  CHECK_FAILS(MB_ERR_DTYPE, "array 0 is i32", RUN(words, b));
  CHECK_FAILS(MB_ERR_DTYPE, "array 0 is f32, array 1 is f64", RUN(a, wide));
  CHECK_FAILS(MB_ERR_SHAPE, "array 0 has 10 elements, array 1 has 11", RUN(a, longer));
  CHECK_FAILS(MB_ERR_SHAPE, "array 0 is not contiguous", RUN(turned, b));
  CHECK_FAILS(MB_ERR_ARG, "arrays 0 and 1 share memory and array 1 is written", RUN(a, a));
  CHECK_FAILS(MB_ERR_ARG, "arrays 0 and 1 share memory", RUN(part, rest));
  CHECK_FAILS(MB_ERR_STATE, "array 1 is written, but has history", RUN(wide, made));
  CHECK_FAILS(MB_ERR_ARG, "0 ranges", mb_program_run(p, (mb_tensor *[]){a, b}, 2, s, 1, &zero, &ten, 0));
  CHECK_FAILS(MB_ERR_ARG, "part 0 is (1, 11) from element 0, a non-empty part of [0, 10)", mb_program_run(p, (mb_tensor *[]){a, b}, 2, s, 1, &zero, &eleven, 1));
  CHECK_FAILS(MB_ERR_ARG, "range 0 is [10, 10)", mb_program_run(p, (mb_tensor *[]){a, b}, 2, s, 1, &ten, &ten, 1));
  CHECK_FAILS(MB_ERR_ARG, "[0, 5) and [4, 9) overlap", mb_program_run(p, (mb_tensor *[]){a, b}, 2, s, 1, two, three, 2));
  CHECK_OK(RUN(matrix, b)); // shapes may differ, lengths not
  double *got = values_of(b);
  CHECK_NEAR(got[9], 1, 0);
  free(got);
#undef RUN
  mb_tensor *all[] = {a, b, longer, wide, matrix, turned, words, part, rest, made};
  for (int i = 0; i < 10; i++) mb_tensor_release(all[i]);
  mb_program_release(p);
}

// A backward that still needs the old values of an array must notice that a run changed them.
static void the_tape_notices(void) {
  mb_tensor *w = filled(MB_F64, 1, 3), *y;
  CHECK_OK(mb_set_requires_grad(w, 1));
  CHECK_OK(mb_square(&y, w));
  mb_program *p = program();
  CHECK_OK(mb_program_store(p, 0, apply(p, MB_FUSE_NEG, array(p, 0), -1, -1)));
  run_all(p, &w, 1, NULL, 0);
  CHECK_FAILS(MB_ERR_STATE, "changed", mb_backward(y, NULL));
  mb_tensor_release(w), mb_tensor_release(y);
  mb_program_release(p);
}

int main(void) {
  mb_memory_stats before, after;
  mb_memory(&before);
  operations_agree_with_libm();
  products_and_sums(MB_F32);
  products_and_sums(MB_F64);
  equal_expressions_are_one_value();
  the_size_counts_what_elements_cost();
  stores_come_after_all_loads();
  many_values_live_at_once();
  only_the_ranges_change();
  threads_do_not_change_a_bit();
  runs_allocate_nothing();
  every_allocation_may_fail();
  misuse_of_the_graph_is_refused();
  misuse_of_a_run_is_refused();
  the_tape_notices();
  mb_memory(&after);
  CHECK_EQ(after.live_tensors, before.live_tensors);
  CHECK_EQ(after.bytes_live, before.bytes_live);
  return check_end();
}
