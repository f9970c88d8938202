// SPDX-License-Identifier: MIT
//
// tensor.h: the inside of a handle. A tensor is a view (offset, sizes, strides) of a storage, with the
// tape's node that made it (NULL for a leaf) and, for a leaf that wants one, its gradient.
#ifndef MBI_TENSOR_H
#define MBI_TENSOR_H
#include "core/storage.h"

// A recorded op, see autograd/tape.h. A tensor holds the one that made it, and asks only this of it:
typedef struct mbi_node mbi_node;
const char *mbi_node_name(const mbi_node *node); // of the op
void mbi_node_release(mbi_node *node);           // NULL is allowed
void mbi_node_forget_output(mbi_node *node);     // the output tensor is going away

struct mb_tensor {
  int refs;
  mb_dtype dtype;
  mbi_shape shape;
  int64_t stride[MB_MAX_DIMS];
  int64_t offset;            // of element 0 in the storage, in elements
  mbi_storage *storage;      // NULL once discarded
  const char *discarded;     // why, when storage is NULL
  mbi_node *node;            // retained; NULL for leaves
  int requires_grad;
  mb_tensor *grad;           // of a leaf; retained
  int grad_is_zero;          // the gradient, which is not NULL, counts as zero: its memory holds old values
  int64_t id;
};

// Checks a handle an API function was given: not NULL, not discarded. `argument` is its name.
mb_status mbi_check(const mb_tensor *t, const char *who, const char *argument);
mb_status mbi_check_float(const mb_tensor *t, const char *who, const char *argument);
// The same, float32 or float64: where bf16 would lose what is computed.
mb_status mbi_check_wide(const mb_tensor *t, const char *who, const char *argument);
// Same dtype and device; both handles already checked.
mb_status mbi_check_same(const mb_tensor *a, const mb_tensor *b, const char *who);

// A new contiguous tensor with undefined contents.
mb_status mbi_tensor_new(mb_tensor **out, mb_device device, mb_dtype dtype, const mbi_shape *shape);
mb_status mbi_tensor_like(mb_tensor **out, const mb_tensor *t); // shape, dtype, device of t
// A new handle on t's memory, without history.
mb_status mbi_tensor_alias(mb_tensor **out, const mb_tensor *t);
// A view without history: sizes, strides and an offset in elements relative to t's element 0.
mb_status mbi_tensor_view(mb_tensor **out, const mb_tensor *t, const mbi_shape *shape, const int64_t *stride, int64_t offset);
// t itself (retained) if contiguous, else a contiguous copy without history.
mb_status mbi_dense(mb_tensor **out, mb_tensor *t);

int mbi_is_contiguous(const mb_tensor *t);
void *mbi_data(const mb_tensor *t); // address of element 0
mbi_view mbi_view_of(const mb_tensor *t);
// t's elements stretched to `shape` (which t's shape broadcasts to), stride 0 where stretched.
mbi_view mbi_view_broadcast(const mb_tensor *t, const mbi_shape *shape);
static inline int64_t mbi_numel(const mb_tensor *t) { return mbi_shape_numel(&t->shape); }
const mbi_kernels *mbi_kernels_of(const mb_tensor *t); // table of t's device and dtype
const mbi_device *mbi_memory_of(const mb_tensor *t);

// Call before writing into t on a user's behalf: refuses when the tape needs the old values, t has history
// or is an expanded view, then raises the version. Engine-made changes of parameters use mbi_touch alone.
mb_status mbi_check_writable(mb_tensor *t, const char *who);
void mbi_touch(mb_tensor *t);
#endif
