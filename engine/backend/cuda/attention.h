// SPDX-License-Identifier: MIT
//
// attention.h: what the kinds of attention share: kernels/attention.cu, in scalar arithmetic for float32 and float64,
// kernels/attention_bf16.cu, in tensor cores, and attention_choice.cu, which has heads of bf16 attended by that or by cuDNN.
#ifndef MBK_CUDA_ATTENTION_H
#define MBK_CUDA_ATTENTION_H
#include "backend/cuda/math.h"
#include "backend/cuda/packs.h"

namespace mbk {

// One head: row t of its D elements is at data + t * time.
template <class T> struct Head {
  T *data;
  int64_t time;
};
// Head i of (B, H).
template <class T> SIMT_BOTH Head<T> head_of(const mbi_heads &x, int64_t heads, int64_t i) {
  return {(T *)x.data + i / heads * x.batch + i % heads * x.head, x.time};
}

// delta = sum_d dO O of row i of (B, H, T).
template <class E> struct Delta {
  using T = Wide<E>;
  mbi_attention a;
  mbi_heads dout, out;
  T *delta;
  SIMT void operator()(int64_t i) const {
    constexpr int N = lanes_of<E>();
    int64_t head = i / a.time, t = i % a.time;
    Head<const E> gs = head_of<const E>(dout, a.heads, head), os = head_of<const E>(out, a.heads, head);
    const E *g = gs.data + t * gs.time, *o = os.data + t * os.time;
    bool wide = on_boundary(g) && on_boundary(o);
    T sum = 0;
    row_parts<N, 1>(0, a.width, [&](auto lanes, int64_t d) {
      auto x = load<decltype(lanes)::value>(g + d, wide), y = load<decltype(lanes)::value>(o + d, wide);
SIMT_UNROLL
      for (int k = 0; k < decltype(lanes)::value; k++) sum += (T)x.at[k] * (T)y.at[k];
    });
    delta[i] = sum;
  }
};

// By the kernels of kernels/attention_bf16.cu.
mb_status own_attention_bf16(const mbi_attention *s, const mbi_heads *out, float *lse, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v);
mb_status own_attention_backward_bf16(const mbi_attention *s, const mbi_attention_gradients *g, const float *lse, const mbi_heads *q,
                                      const mbi_heads *k, const mbi_heads *v);
// The slots for bf16: by those, or by cuDNN where that is faster.
mb_status attention_bf16(const mbi_attention *s, const mbi_heads *out, float *lse, const mbi_heads *q, const mbi_heads *k, const mbi_heads *v);
mb_status attention_backward_bf16(const mbi_attention *s, const mbi_attention_gradients *g, const float *lse, const mbi_heads *q,
                                  const mbi_heads *k, const mbi_heads *v);

// Must the same inputs give the same bits? Until now, and unless allowed otherwise, yes.
void keep_bits(int wanted);
// What attends the heads of each shape so far, a line each, and before them which library is there, or why none is.
mb_status attention_notes(const char **text);
// set_choices of choices.h, which cannot be gone by if they want another version of the library.
mb_status set_all_choices(const char *text);

} // namespace mbk
#endif
