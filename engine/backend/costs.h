// SPDX-License-Identifier: MIT
//
// costs.h: what a call of each slot of kernels.def costs at least, computed from its arguments on the host: the bytes that must
// move between the cores and the device's memory when every input is read once and every output written once, and the
// floating-point operations that its result takes. A profile (profile.c) divides both by the time measured, a prediction
// (scripts/bench/roofline.lua) by what a machine can do.
//
// Conventions. A product (m, k) (k, n) is 2 m n k operations, a symmetric one half of that; causal attention counts the pairs at or
// below the diagonal; a special function counts as one operation; random integers as none. Where only the device knows how much a
// call does (masks, gains that are zero), all of it is counted. Work memory of the kernel's own counts nothing.
#ifndef MBI_COSTS_H
#define MBI_COSTS_H
#include "backend/backend.h"

enum { MBI_COST_SHAPE = 72 };
typedef struct mbi_cost {
  mb_dtype dtype;   // of the table, or of the elements; set by the caller
  double bytes, flops;
  int is_product;   // its operations are those of matrix products: tensor cores can do them
  char shape[MBI_COST_SHAPE]; // sizes that the cost depends on: "m 64, n 128, k 32"
} mbi_cost;

#define MB_KERNEL(name, ...) void mbi_cost_##name(mbi_cost *cost, __VA_ARGS__);
#include "backend/kernels.def"
#undef MB_KERNEL

// Elements that a view touches: dimensions of stride 0 count once.
int64_t mbi_view_elements(const mbi_view *v);
// Writes the sizes of a view into the cost's shape: "(64, 128)".
void mbi_cost_view(mbi_cost *cost, const mbi_view *v);
void mbi_cost_shape(mbi_cost *cost, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The names of each slot's arguments, in the order of kernels.def.
#define MBI_ARGUMENTS_unary f, y, x, alpha, beta
#define MBI_ARGUMENTS_unary_backward f, dx, dy, x, y, count, alpha
#define MBI_ARGUMENTS_binary f, out, a, b
#define MBI_ARGUMENTS_binary_backward f, side, dx, dy, a, b
#define MBI_ARGUMENTS_axpby y, x, alpha, beta
#define MBI_ARGUMENTS_where out, c, a, b
#define MBI_ARGUMENTS_reduce f, out, index, x, dims, alpha
#define MBI_ARGUMENTS_sum_over out, accumulate, x, dims
#define MBI_ARGUMENTS_reduce_pick_backward dx, dy, index, x_sizes, dims, accumulate
#define MBI_ARGUMENTS_sum_squares out, x, count
#define MBI_ARGUMENTS_find_nonfinite index, x, count
#define MBI_ARGUMENTS_random_normal out, count, mean, std, seed, step, stream
#define MBI_ARGUMENTS_random_uniform out, count, low, high, seed, step, stream
#define MBI_ARGUMENTS_dropout y, x, count, p, seed, step, stream
#define MBI_ARGUMENTS_round_stochastic out, x, count, seed, step, stream
#define MBI_ARGUMENTS_gemm g
#define MBI_ARGUMENTS_gemm_symmetric g
#define MBI_ARGUMENTS_attention s, out, lse, q, k, v
#define MBI_ARGUMENTS_attention_backward s, g, lse, q, k, v
#define MBI_ARGUMENTS_attention_cached s, out, q, k, v, first
#define MBI_ARGUMENTS_embedding out, table, ids, count, columns
#define MBI_ARGUMENTS_embedding_backward dtable, accumulate, dy, ids, count, rows, columns
#define MBI_ARGUMENTS_layernorm y, mean, rstd, sum, x, added, weight, bias, rows, columns, epsilon
#define MBI_ARGUMENTS_layernorm_backward dx, accumulate_x, dweight, accumulate_weight, dbias, accumulate_bias, dy, x, mean, rstd, weight, \
  rows, columns
#define MBI_ARGUMENTS_rmsnorm y, rstd, sum, x, added, weight, rows, columns, epsilon
#define MBI_ARGUMENTS_rmsnorm_backward dx, accumulate_x, dweight, accumulate_weight, dy, x, rstd, weight, rows, columns
#define MBI_ARGUMENTS_rotary y, x, base, first_position, direction
#define MBI_ARGUMENTS_softmax y, x, outer, size, inner, is_log
#define MBI_ARGUMENTS_softmax_backward dx, accumulate, dy, y, outer, size, inner, is_log
#define MBI_ARGUMENTS_cross_entropy \
  out, stats, losses, logits, stride, overwrites, targets, rows, first, count, columns, smoothing, ignored, is_mean, scale
#define MBI_ARGUMENTS_cross_entropy_backward dlogits, accumulate, dout, logits, stride, stats, targets, rows, columns, smoothing, ignored
#define MBI_ARGUMENTS_gather out, x, index, sizes, dim
#define MBI_ARGUMENTS_gather_backward dx, dy, index, sizes, dim
#define MBI_ARGUMENTS_fuse run
#define MBI_ARGUMENTS_normalize y, dtype, norms, norm_stride, x, count, size, factor, epsilon
#define MBI_ARGUMENTS_add_to_diagonal c, dtype, count, s, value
#define MBI_ARGUMENTS_norms a, groups, wanted
#define MBI_ARGUMENTS_rescale a, groups
#define MBI_ARGUMENTS_sums_of_squares a, groups
#define MBI_ARGUMENTS_multiply_all a, groups
#define MBI_ARGUMENTS_sketch_draw s, groups, seed, step, stream
#define MBI_ARGUMENTS_sketch_pass s, groups, forms
#define MBI_ARGUMENTS_sketch_basis s, groups, of_y, limits
#define MBI_ARGUMENTS_sketch_ritz s, groups
#define MBI_ARGUMENTS_sketch_keep s, groups
#define MBI_ARGUMENTS_sketch_update s, groups
#define MBI_ARGUMENTS_gram_factor s
#define MBI_ARGUMENTS_gram_update s, gain
#define MBI_ARGUMENTS_policy p
#define MBI_ARGUMENTS_policy_gains s, groups
#define MBI_ARGUMENTS_norm_policy p
#define MBI_ARGUMENTS_svd u, s, v, a, m, n, count
#define MBI_ARGUMENTS_qr q, r, a, m, n, count
#define MBI_ARGUMENTS_eigh values, vectors, a, n, count
#define MBI_ARGUMENTS_cholesky member, minor, a, n, count
#endif
