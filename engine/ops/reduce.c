// SPDX-License-Identifier: MIT
//
// reduce.c: sum, mean, max, min over any dimensions, and argmax over one.
//
// Backward: the gradient of a sum is dout stretched over what was summed (a view, no memory), that of a
// mean the same divided by the count; max and min send dout to the element they took, whose place the
// forward keeps as one i32 an output. Tests: tests/ops/.
#include "ops/ops.h"

typedef struct reduce_params {
  unsigned dims; // bit d: dimension d of the input is reduced
  double alpha;  // 1, or 1 / count for the mean
} reduce_params;

// The set of dimensions, and the result's shape.
static mb_status reduced_shape(mbi_shape *out, unsigned *set, const char *who, const mbi_shape *a, int n_dims, const int *dims, int keep) {
  if (n_dims < 0 || n_dims > MB_MAX_DIMS) MB_FAIL(MB_ERR_ARG, "%s: %d dimensions, 0 to %d were expected", who, n_dims, MB_MAX_DIMS);
  *set = n_dims == 0 ? (1u << a->ndim) - 1 : 0;
  for (int i = 0; i < n_dims; i++) {
    int d;
    MB_TRY(mbi_dim(&d, who, dims[i], a->ndim));
    if (*set >> d & 1) MB_FAIL(MB_ERR_ARG, "%s: dimension %d is given twice", who, dims[i]);
    *set |= 1u << d;
  }
  out->ndim = 0;
  for (int d = 0; d < a->ndim; d++) {
    if (!(*set >> d & 1)) out->size[out->ndim++] = a->size[d];
    else if (keep) out->size[out->ndim++] = 1;
  }
  return MB_OK;
}

// Elements that make one output.
static int64_t reduced_count(const mbi_shape *a, unsigned set) {
  int64_t count = 1;
  for (int d = 0; d < a->ndim; d++)
    if (set >> d & 1) count *= a->size[d];
  return count;
}

// ----- sum, mean --------------------------------------------------------------------------------------

static mb_status sum(mb_tensor **out, const char *who, mb_tensor *a, int n_dims, const int *dims, int keep_dims, int is_mean) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, who, "a"));
  mbi_shape shape = {0};
  reduce_params p;
  MB_TRY(reduced_shape(&shape, &p.dims, who, &a->shape, n_dims, dims, keep_dims));
  p.alpha = is_mean ? 1.0 / (double)reduced_count(&a->shape, p.dims) : 1.0;
  mb_tensor *result;
  MB_TRY(mbi_tensor_new(&result, a->storage->device, a->dtype, &shape));
  mbi_view x = mbi_view_of(a);
  mb_status status = mbi_kernels_of(a)->reduce(MBI_REDUCE_SUM, mbi_data(result), NULL, &x, p.dims, p.alpha);
  return mbi_finish(out, result, status, MBI_OP_sum, &a, 1, NULL, 0, &p, sizeof p);
}

mb_status mb_sum(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims) {
  return sum(out, "mb_sum", a, n_dims, dims, keep_dims, 0);
}
mb_status mb_mean(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims) {
  return sum(out, "mb_mean", a, n_dims, dims, keep_dims, 1);
}

// dout, scaled where it must be, seen in the input's shape.
mb_status mbi_sum_backward(mbi_node *node, mb_tensor *dout) {
  const reduce_params *p = (const reduce_params *)node->params;
  const mbi_shape *shape = &node->edges[0].shape;
  mb_tensor *scaled = dout, *dx;
  if (p->alpha != 1.0) {
    MB_TRY(mbi_tensor_like(&scaled, dout));
    mbi_view to = mbi_view_of(scaled), from = mbi_view_of(dout);
    mb_status status = mbi_kernels_of(dout)->unary(MBI_AFFINE, &to, &from, p->alpha, 0.0);
    if (status != MB_OK) {
      mb_tensor_release(scaled);
      return status;
    }
  } else {
    mb_tensor_retain(dout);
  }
  int64_t stride[MB_MAX_DIMS], step = 1;
  for (int d = shape->ndim - 1; d >= 0; d--) {
    stride[d] = p->dims >> d & 1 ? 0 : step;
    if (stride[d]) step *= shape->size[d];
  }
  mb_status status = mbi_tensor_view(&dx, scaled, shape, stride, 0);
  mb_tensor_release(scaled);
  MB_TRY(status);
  return mbi_give(node, 0, dx);
}

// ----- max, min, argmax ---------------------------------------------------------------------------------

static mb_status check_index_range(const char *who, const mb_tensor *a, unsigned set) {
  char text[MBI_SHAPE_TEXT];
  if (reduced_count(&a->shape, set) > INT32_MAX)
    MB_FAIL(MB_ERR_SHAPE, "%s: more than 2^31 - 1 elements of %s for one result", who, mbi_shape_text(text, a->shape.ndim, a->shape.size));
  return MB_OK;
}

static mb_status extreme(mb_tensor **out, const char *who, mb_tensor *a, int n_dims, const int *dims, int keep_dims, enum mbi_reduce f) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, who, "a"));
  mbi_shape shape = {0};
  unsigned set;
  MB_TRY(reduced_shape(&shape, &set, who, &a->shape, n_dims, dims, keep_dims));
  MB_TRY(check_index_range(who, a, set));
  mb_tensor *index = NULL, *result = NULL;
  mb_status status = MB_OK;
  if (mbi_will_record(&a, 1)) status = mbi_tensor_new(&index, a->storage->device, MB_I32, &shape);
  if (status == MB_OK) status = mbi_tensor_new(&result, a->storage->device, a->dtype, &shape);
  if (status == MB_OK) {
    mbi_view x = mbi_view_of(a);
    status = mbi_kernels_of(a)->reduce(f, mbi_data(result), index ? mbi_data(index) : NULL, &x, set, 1.0);
    status = mbi_finish(out, result, status, MBI_OP_extreme, &a, 1, &index, 1, &set, sizeof set);
  }
  mb_tensor_release(index);
  return status;
}

mb_status mb_max(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims) {
  return extreme(out, "mb_max", a, n_dims, dims, keep_dims, MBI_REDUCE_MAX);
}
mb_status mb_min(mb_tensor **out, mb_tensor *a, int n_dims, const int *dims, int keep_dims) {
  return extreme(out, "mb_min", a, n_dims, dims, keep_dims, MBI_REDUCE_MIN);
}

mb_status mbi_extreme_backward(mbi_node *node, mb_tensor *dout) {
  unsigned set = *(const unsigned *)node->params;
  mb_tensor *dx, *index = mbi_saved_tensor(node, 0);
  int accumulate;
  MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  mbi_view x = mbi_view_of(dx);
  mb_status status =
    mbi_kernels_of(dx)->reduce_pick_backward(mbi_data(dx), mbi_data(dout), mbi_data(index), &x, set, accumulate);
  mb_tensor_release(dx);
  return status;
}

mb_status mb_argmax(mb_tensor **out, mb_tensor *a, int dim, int keep_dims) {
  *out = NULL;
  MB_TRY(mbi_check_float(a, "mb_argmax", "a"));
  mbi_shape shape = {0};
  unsigned set;
  MB_TRY(reduced_shape(&shape, &set, "mb_argmax", &a->shape, 1, &dim, keep_dims));
  MB_TRY(check_index_range("mb_argmax", a, set));
  mb_tensor *index;
  MB_TRY(mbi_tensor_new(&index, a->storage->device, MB_I32, &shape));
  mbi_view x = mbi_view_of(a);
  mb_status status = mbi_kernels_of(a)->reduce(MBI_REDUCE_MAX, NULL, mbi_data(index), &x, set, 1.0);
  if (status == MB_OK) *out = index;
  else mb_tensor_release(index);
  return status;
}
