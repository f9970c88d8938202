// SPDX-License-Identifier: MIT
//
// test_attention.cpp: the attention kernels against the definition in float64, at times around the edges of tiles, every
// width of head that has a kernel and some between, heads of any strides, and with some gradients left out.
//
// For bf16 the inputs are bf16 numbers, so errors are those of results (2^-9 of their size) and of probabilities and their
// gradients, rounded before they are multiplied (2^-9 each, at random): about 3e-6 of the norm squared; 1e-4 is allowed.
#include <cmath>
#include <vector>

#include "backend/cuda/math.h"
#include "say.h"

using namespace mbk;

struct Case {
  int64_t batch, time, heads, width;
  int packed; // q, k, v and their gradients lie in one buffer (B, T, 3, H, D), else (B, H, T, D) each
};

template <class T> struct Tensor {
  std::vector<T> memory;
  mbi_heads heads;
  const Case *c;
  // One of `of` tensors, number `which`, in a buffer that begins `shift` elements off a boundary.
  void make(const Case &of_case, std::vector<T> &buffer, int which, int shift) {
    c = &of_case;
    int64_t B = c->batch, T_ = c->time, H = c->heads, D = c->width;
    if (buffer.empty()) buffer.assign((size_t)(3 * B * T_ * H * D + 64), (T)-7.0f);
    T *base = buffer.data();
    while ((uintptr_t)base % 16 != 0) base++;
    base += shift;
    if (c->packed) heads = {base + which * H * D, T_ * 3 * H * D, 3 * H * D, D};
    else heads = {base + which * B * H * T_ * D, H * T_ * D, D, T_ * D};
  }
  T &at(int64_t b, int64_t t, int64_t h, int64_t d) { return ((T *)heads.data)[b * heads.batch + t * heads.time + h * heads.head + d]; }
};

// NMSE between a tensor and a double array (B, H, T, D).
template <class T> double error_of(Tensor<T> &x, const std::vector<double> &should) {
  double error = 0, norm = 0;
  const Case &c = *x.c;
  size_t i = 0;
  for (int64_t b = 0; b < c.batch; b++)
    for (int64_t h = 0; h < c.heads; h++)
      for (int64_t t = 0; t < c.time; t++)
        for (int64_t d = 0; d < c.width; d++, i++) {
          double is = (double)(Wide<T>)x.at(b, t, h, d);
          error += (is - should[i]) * (is - should[i]), norm += should[i] * should[i];
        }
  return norm > 0 ? error / norm : error;
}

template <class T> static void test(const Case &c, int shift, double allowed) {
  int64_t B = c.batch, N = c.time, H = c.heads, D = c.width;
  double scale = 1.7 / sqrt((double)D);
  std::vector<T> inputs, outputs, gradients;
  Tensor<T> q, k, v, dout, out, dq, dk, dv;
  q.make(c, inputs, 0, shift), k.make(c, inputs, 1, shift), v.make(c, inputs, 2, shift);
  out.make(c, outputs, 0, shift), dout.make(c, outputs, 2, shift);
  dq.make(c, gradients, 0, shift), dk.make(c, gradients, 1, shift), dv.make(c, gradients, 2, shift);
  Numbers numbers((uint64_t)(N * 1000 + D));
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < H; h++)
      for (int64_t t = 0; t < N; t++)
        for (int64_t d = 0; d < D; d++)
          for (Tensor<T> *x : {&q, &k, &v, &dout}) x->at(b, t, h, d) = (T)(Wide<T>)(2 * numbers.next());

  std::vector<double> o((size_t)(B * H * N * D)), gq(o.size()), gk(o.size()), gv(o.size()), logs((size_t)(B * H * N));
  for (int64_t b = 0; b < B; b++)
    for (int64_t h = 0; h < H; h++) {
      size_t head = (size_t)((b * H + h) * N);
      auto number = [&](Tensor<T> &x, int64_t t, int64_t d) { return (double)(Wide<T>)x.at(b, t, h, d); };
      for (int64_t i = 0; i < N; i++) {
        std::vector<double> p((size_t)i + 1), dp((size_t)i + 1);
        double most = -1e300, sum = 0, delta = 0;
        for (int64_t j = 0; j <= i; j++) {
          for (int64_t d = 0; d < D; d++) p[(size_t)j] += scale * number(q, i, d) * number(k, j, d), dp[(size_t)j] += number(dout, i, d) * number(v, j, d);
          most = fmax(most, p[(size_t)j]);
        }
        for (double &x : p) sum += x = exp(x - most);
        for (int64_t j = 0; j <= i; j++) {
          p[(size_t)j] /= sum;
          delta += p[(size_t)j] * dp[(size_t)j];
        }
        logs[head + (size_t)i] = most + log(sum);
        for (int64_t j = 0; j <= i; j++)
          for (int64_t d = 0; d < D; d++) {
            size_t row = (head + (size_t)i) * (size_t)D + (size_t)d, column = (head + (size_t)j) * (size_t)D + (size_t)d;
            double ds = p[(size_t)j] * (dp[(size_t)j] - delta);
            o[row] += p[(size_t)j] * number(v, j, d);
            gv[column] += p[(size_t)j] * number(dout, i, d);
            gq[row] += scale * ds * number(k, j, d);
            gk[column] += scale * ds * number(q, i, d);
          }
      }
    }

  char name[120];
  snprintf(name, sizeof name, "%d bytes, (%lld, %lld, %lld, %lld)%s, %d off", (int)sizeof(T), (long long)B, (long long)N, (long long)H, (long long)D,
           c.packed ? " packed" : "", shift);
  mbi_attention s{B, N, H, D, scale};
  std::vector<Wide<T>> lse(logs.size());
  CHECK(Kernels<T>::attention(&s, &out.heads, lse.data(), &q.heads, &k.heads, &v.heads) == MB_OK, "%s", name);
  double error = error_of(out, o);
  CHECK(error < allowed, "%s: the output's error is %g", name, error);
  for (size_t i = 0; i < lse.size(); i++)
    CHECK(fabs((double)lse[i] - logs[i]) < 1e-4 * (1 + fabs(logs[i])), "%s: lse %d is %g and not %g", name, (int)i, (double)lse[i], logs[i]);
  mbi_attention_gradients g{dout.heads, out.heads, dq.heads, dk.heads, dv.heads};
  CHECK(Kernels<T>::attention_backward(&s, &g, lse.data(), &q.heads, &k.heads, &v.heads) == MB_OK, "%s", name);
  // With one query and one key nothing depends on q and k: their gradients are rounding.
  if (N > 1) {
    CHECK((error = error_of(dq, gq)) < allowed, "%s: dq's error is %g", name, error);
    CHECK((error = error_of(dk, gk)) < allowed, "%s: dk's error is %g", name, error);
  }
  CHECK((error = error_of(dv, gv)) < allowed, "%s: dv's error is %g", name, error);
  int64_t left = 0; // what lies beside the tensors stays
  for (T x : gradients) left += (Wide<T>)x == -7;
  CHECK(left >= 64, "%s: %lld elements around the gradients are as they were", name, (long long)left);

  std::vector<T> before = gradients;
  for (int only = 0; only < 3; only++) {
    gradients.assign(gradients.size(), (T)-7.0f);
    mbi_attention_gradients one = g;
    if (only != 0) one.dq.data = nullptr;
    if (only != 1) one.dk.data = nullptr;
    if (only != 2) one.dv.data = nullptr;
    CHECK(Kernels<T>::attention_backward(&s, &one, lse.data(), &q.heads, &k.heads, &v.heads) == MB_OK, "%s", name);
    int64_t changed = 0;
    for (size_t i = 0; i < gradients.size(); i++) {
      bool is_left = (Wide<T>)gradients[i] == -7;
      changed += !is_left;
      CHECK(is_left || memcmp(&gradients[i], &before[i], sizeof(T)) == 0, "%s: gradient %d alone differs", name, only);
    }
    CHECK(changed > B * N * H * D / 2 && changed <= B * N * H * D, "%s: gradient %d alone changes %lld elements", name, only, (long long)changed);
  }
}

int main() {
  begin();
  for (int64_t width : {1, 8, 20, 32, 48, 64, 100, 128, 200, 256})
    for (int64_t time : {1, 17, 64, 130}) {
      if (width > 128 && time == 64) continue;
      Case c{1, time, 2, width, (int)(time % 2)};
      test<bf16>(c, 0, 1e-4);
      if (time < 100) test<float>(c, 0, 1e-9), test<double>(c, 0, 1e-18);
    }
  test<bf16>({2, 63, 3, 64, 1}, 0, 1e-4);
  test<bf16>({2, 65, 3, 64, 0}, 0, 1e-4);
  test<bf16>({1, 33, 2, 64, 1}, 3, 1e-4); // no row begins on a boundary
  test<bf16>({1, 200, 1, 128, 0}, 0, 1e-4);
  return finish();
}
