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
// A contiguous copy of t on another device, without history.
mb_status mbi_moved(mb_tensor **out, mb_tensor *t, mb_device device);

// ids.c: *out = ids as contiguous MB_I32, each checked to be in 0..limit-1 or equal to `ignored` (a value no id
// has: MBI_NONE_IGNORED). In training a device need not wait for the check: what is out of range is replaced, and the error comes before
// anything is learned (core/capture.h). It names the position, the id, and `limit` things called `what`.
#define MBI_NONE_IGNORED INT64_MIN
mb_status mbi_ids(mb_tensor **out, mb_tensor *ids, int64_t limit, int64_t ignored, int is_training, const char *who, const char *argument,
                  const char *what);

// cross_entropy.c: are x, whose leading dimensions are those of the rows, targets and options fit for it? `name` is x's in the text.
mb_status mbi_check_cross_entropy(const mb_tensor *x, const char *name, const mb_tensor *targets, const mb_cross_entropy_options *options,
                                  const char *who);
static inline int64_t mbi_ignored(const mb_cross_entropy_options *options) {
  return options->ignore_index == -1 ? MBI_NONE_IGNORED : options->ignore_index;
}

// views.c: the slice of neighbouring rows that `input` is, if the whole is a float32 tensor cast to bf16 (mbi_wide_cast); or NULL.
mbi_node *mbi_slice_of_wide(const mbi_node *node, int input);
// Its rows in the gradient of the float32 tensor, as mbi_sink has it; those around them are 0 when they are written first.
mb_status mbi_slice_sink_wide(mb_tensor **out, int *accumulate, mbi_node *slice);

// places.c: where a kernel writes the gradient of an input: its sink. Where one kernel writes those of all inputs together, one that
// came in twice has tensors of its own (its sink would be handed out before it was written). A wide place is of the wide dtype, for
// kernels whose gradients of parameters are float32 in the table of bf16.
typedef struct mbi_place {
  mb_tensor *tensor; // NULL: no gradient wanted
  int accumulate;
  int is_own;
} mbi_place;
// One input's, a wide place, which may be rows of a parameter's gradient.
mb_status mbi_place_open(mbi_place *place, mbi_node *node, int input);
mb_status mbi_place_close(mbi_place *place, mbi_node *node, int input, mb_status status);
// Of all inputs; those whose bit is set in `wide` are wide places, as mbi_place_open's is.
mb_status mbi_places_open(mbi_place places[MBI_MAX_INPUTS], mbi_node *node, unsigned wide);
// Gives the own tensors if `status` is MB_OK, releases all, and returns the status.
mb_status mbi_places_close(mbi_place places[MBI_MAX_INPUTS], mbi_node *node, mb_status status);
static inline void *mbi_place_data(const mbi_place *place) { return place->tensor ? mbi_data(place->tensor) : NULL; }
#endif
