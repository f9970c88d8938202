// SPDX-License-Identifier: MIT
//
// test_vmath.c: how exact the vector code for exp, log, tanh and their kin is: float results over the whole
// range of floats (every STEP-th bit pattern, and the special ones) against libm in double. The unit is the
// last place of the float nearest to the true value. ctest repeats it with every instruction set.
#include <float.h>

#include "check.h"

enum { COUNT = 1 << 20, STEP = 4099 };

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }
static double gelu_tanh(double x) { return x * sigmoid(2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x)); }
static double gelu_erf(double x) { return x * 0.5 * erfc(-x * 0.70710678118654752440); }

typedef mb_status (*operation)(mb_tensor **out, mb_tensor *a);
typedef struct function {
  const char *name;
  operation compute;
  double (*exact)(double x);
  double units;     // error allowed, in units of the last place
  double tail;      // more of them for each unit of the exponential's argument, |log(y / x)|: its rounding is scaled up
} function;

static const function functions[] = {
  {"exp", mb_exp, exp, 1.5, 0},         {"log", mb_log, log, 1.5, 0},   {"tanh", mb_tanh, tanh, 2, 0},
  {"sigmoid", mb_sigmoid, sigmoid, 3, 0}, {"silu", mb_silu, silu, 4, 1}, {"gelu_tanh", mb_gelu_tanh, gelu_tanh, 4, 4},
  {"gelu_erf", mb_gelu_erf, gelu_erf, 4, 2},
};

static double unit_of(double y) {
  int exponent;
  double a = fabs(y);
  if (a < (double)FLT_MIN) return 0x1p-149;
  frexp(a > (double)FLT_MAX ? (double)FLT_MAX : a, &exponent);
  return ldexp(1, exponent - 24);
}

static void wrong(const function *f, double x, double y, double exact) {
  fprintf(stderr, "%s(%.9g) is %.9g, not %.17g\n", f->name, x, y, exact);
  exit(1);
}

static void check_one(const function *f, double x, double y, double *worst) {
  double exact = f->exact(x);
  if (exact != exact || y != y) {
    if (exact == exact || y == y) wrong(f, x, y, exact);
    return;
  }
  if (isinf(exact) || fabs(exact) > (double)FLT_MAX || isinf(y)) { // overflow, where rounding decides
    if ((float)exact != (float)y && fabs(exact) < (double)FLT_MAX * (1 - 1e-6)) wrong(f, x, y, exact);
    if ((exact > 0) != (y > 0)) wrong(f, x, y, exact);
    return;
  }
  if (exact == 0 && signbit(exact) != signbit(y)) wrong(f, x, y, exact);
  double error = fabs(y - exact) / unit_of(exact), allowed = f->units;
  if (f->tail != 0 && exact != 0) allowed += f->tail * fabs(log(exact / x));
  if (error > allowed) wrong(f, x, y, exact);
  if (f->tail == 0 && error > *worst) *worst = error;
}

static void check_function(const function *f) {
  static float x[COUNT], y[COUNT];
  double worst = 0;
  uint64_t bits = 0;
  int64_t n = 0;
  // 0, the smallest denormals, the largest denormal and smallest normal, 1, the largest numbers, infinities, NaN.
  static const uint32_t special[] = {0, 1, 2, 0x007FFFFF, 0x00800000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000, 0x7FC00000};
  for (size_t i = 0; i < 2 * sizeof special / sizeof *special; i++) {
    uint32_t word = special[i / 2] | (i % 2 ? 0x80000000u : 0);
    memcpy(&x[n++], &word, sizeof word);
  }
  for (; bits <= UINT32_MAX && n < COUNT; bits += STEP, n++) {
    uint32_t word = (uint32_t)bits;
    memcpy(&x[n], &word, sizeof word);
  }
  mb_tensor *in, *out;
  CHECK_OK(mb_from_host(&in, MB_F32, 1, &n, MB_CPU, x));
  CHECK_OK(f->compute(&out, in));
  CHECK_OK(mb_tensor_to_host(y, out));
  mb_tensor_release(in), mb_tensor_release(out);
  for (int64_t i = 0; i < n; i++) check_one(f, (double)x[i], (double)y[i], &worst);
  check_count++;
  if (f->tail == 0) printf("%s: %.2f units in the last place at most\n", f->name, worst);
}

// A strided run goes through the scalar loop: the same function, so the same bits.
static void strides_change_nothing(const function *f) {
  enum { N = 1000 };
  float x[2 * N], dense[2 * N], strided[N];
  for (int i = 0; i < 2 * N; i++) x[i] = (float)(i - N) / 50.0f;
  mb_tensor *in, *half, *out;
  CHECK_OK(mb_from_host(&in, MB_F32, 1, (int64_t[]){2 * N}, MB_CPU, x));
  CHECK_OK(f->compute(&out, in));
  CHECK_OK(mb_tensor_to_host(dense, out));
  mb_tensor_release(out);
  CHECK_OK(mb_slice(&half, in, 0, 0, 2 * N, 2));
  CHECK_OK(f->compute(&out, half));
  CHECK_OK(mb_tensor_to_host(strided, out));
  for (int i = 0; i < N; i++) CHECK(memcmp(&strided[i], &dense[2 * i], sizeof(float)) == 0 || dense[2 * i] != dense[2 * i]);
  mb_tensor_release(in), mb_tensor_release(half), mb_tensor_release(out);
}

int main(void) {
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    check_function(&functions[i]);
    strides_change_nothing(&functions[i]);
  }
  return check_end();
}
