// SPDX-License-Identifier: MIT
//
// tape.h: what an op needs to know of autograd.
//
// A node is one recorded op. It is held by its output tensor and by the nodes made from that output, so a
// graph lives exactly as long as somebody can still call backward on it. Its saved tensors hold memory
// (pinned: changing it in place is refused); its edges say where gradients go. mb_backward runs nodes
// from the newest to the oldest and empties each as soon as it has run.
//
// An op's forward ends with mbi_record. Its backward gets dL/d(output), contiguous (linear: in rows), and for every input
// that mbi_needs says yes to either gives a tensor away (mbi_give) or writes into the place where the
// gradient is wanted (mbi_sink), which saves a pass over memory for weights.
#ifndef MBI_TAPE_H
#define MBI_TAPE_H
#include "core/tensor.h"

enum { MBI_MAX_INPUTS = 3, MBI_MAX_SAVED = 6, MBI_PARAMS_BYTES = 96 };

typedef enum mbi_op { /* from ops.def */
#define MB_OP(name, backward) MBI_OP_##name,
#include "ops/ops.def"
#undef MB_OP
  MBI_OP_COUNT
} mbi_op;

typedef struct mbi_edge {
  struct mbi_node *node; // retained; the op that made the input
  mb_tensor *leaf;       // retained; the input itself if it is a leaf. Both NULL: no gradient wanted.
  mbi_shape shape;       // of the input
  mb_dtype dtype;
} mbi_edge;

typedef struct mbi_saved {
  mb_tensor *tensor; // an alias without history
  uint64_t version;
} mbi_saved;

struct mbi_node {
  int refs;
  mbi_op op;
  int consumed;          // backward has run
  int in_walk;           // marked by the backward that is collecting nodes
  uint64_t sequence;     // order of recording
  mb_tensor *output;     // not retained; NULL once dropped
  mbi_shape shape;       // of the output
  mb_dtype dtype;
  mb_device device;
  mb_tensor *grad;       // dL/d(output) while a backward runs
  int n_inputs, n_saved;
  mbi_edge *edges;       // n_inputs
  mbi_saved saved[MBI_MAX_SAVED];
  _Alignas(8) unsigned char params[MBI_PARAMS_BYTES]; // the op's constants
};

// Records that `out` was made by `op` from `inputs`, if gradients are on and an input wants one; else does
// nothing. `saved` tensors (inputs, the output, or helpers) may be NULL; params are copied. On failure the
// caller still owns `out`.
mb_status mbi_record(mb_tensor *out, mbi_op op, mb_tensor *const *inputs, int n_inputs, mb_tensor *const *saved,
                     int n_saved, const void *params, size_t params_bytes);
// Would mbi_record record? Ops ask before computing what only backward needs.
int mbi_will_record(mb_tensor *const *inputs, int n_inputs);

// For backward functions.
int mbi_needs(const mbi_node *node, int input);
mb_tensor *mbi_saved_tensor(const mbi_node *node, int index); // borrowed
// Adds dx to the gradient of the input and takes over the reference, also when it fails. dx has the input's shape.
mb_status mbi_give(mbi_node *node, int input, mb_tensor *dx);
// *out = contiguous place for the input's gradient (a new reference, to be released); *accumulate says
// whether the op adds to it or overwrites it.
mb_status mbi_sink(mb_tensor **out, int *accumulate, mbi_node *node, int input);
// The same for an input that is a float32 tensor cast to bf16 for this op, as a model's weights are: the place may be that of the float32
// tensor's gradient, for an op that can write float32. What it adds up is not rounded on the way.
mb_status mbi_sink_wide(mb_tensor **out, int *accumulate, mbi_node *node, int input);
// The cast whose input's gradient that is, or NULL.
mbi_node *mbi_wide_cast(const mbi_node *node, int input);
// Is the memory of saved tensor `index` the tape's alone? Then backward may overwrite it.
int mbi_saved_is_exclusive(const mbi_node *node, int index);
#endif
