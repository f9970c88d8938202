// SPDX-License-Identifier: MIT
//
// ops.h: what op files share: the backward functions that ops.def names, and the few steps that every
// op takes.
#ifndef MBI_OPS_H
#define MBI_OPS_H
#include "autograd/tape.h"

#define MB_OP(name, backward) mb_status backward(mbi_node *node, mb_tensor *dout);
#include "ops/ops.def"
#undef MB_OP

// Ends an op: records it and hands `result` out, or releases it when either failed.
//   return mbi_finish(out, result, status, MBI_OP_x, inputs, n, saved, n_saved, &params, sizeof params);
mb_status mbi_finish(mb_tensor **out, mb_tensor *result, mb_status status, mbi_op op, mb_tensor *const *inputs, int n_inputs,
                     mb_tensor *const *saved, int n_saved, const void *params, size_t params_bytes);
// dx of input `input` from a gradient of the broadcast shape: sums over what was stretched, then gives it.
// Takes over the reference of `wide`, also when it fails.
mb_status mbi_give_unbroadcast(mbi_node *node, int input, mb_tensor *wide);
// A contiguous zero tensor of the given shape.
mb_status mbi_zeros(mb_tensor **out, mb_device device, mb_dtype dtype, const mbi_shape *shape);
// Every element of t, whatever its strides, becomes `value`.
mb_status mbi_fill_view(mb_tensor *t, double value);
// A contiguous copy of t, without history; mbi_cast changes the dtype on the way.
mb_status mbi_copy(mb_tensor **out, mb_tensor *t);
mb_status mbi_cast(mb_tensor **out, mb_tensor *t, mb_dtype dtype);
#endif
