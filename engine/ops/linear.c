// SPDX-License-Identifier: MIT
//
// linear.c: y = x W^T + b, x (..., in), W (out, in), b (out) or NULL, y (..., out); and the same of gelu(x).
//
// Backward, g = dL/dy: dx = g W, dW = g^T x summed over all leading dimensions, db = the sum of g's rows.
// dx and dW are computed straight into the place the tape gives; for a parameter that is the gradient arena, in float32 also
// where the factors are bf16. A backend may make db in the product that makes dW.
// mb_gelu_linear keeps x alone: gelu(x) is made again for dW, which costs a pass over memory and saves as much of it. Its gradient
// of x is multiplied by gelu' where the product is made. mb_gelu_mlp, linear and gelu_linear, makes gelu(x) there too, beside x, and
// keeps it where it is told to.
#include "ops/ops.h"
#include "ops/product.h"

static mb_status check_shapes(const mb_tensor *x, const mb_tensor *weight, const mb_tensor *bias, const char *who) {
  char tx[MBI_SHAPE_TEXT], tw[MBI_SHAPE_TEXT], tb[MBI_SHAPE_TEXT];
  mbi_shape_text(tx, x->shape.ndim, x->shape.size), mbi_shape_text(tw, weight->shape.ndim, weight->shape.size);
  if (weight->shape.ndim != 2 || x->shape.ndim < 1 || x->shape.size[x->shape.ndim - 1] != weight->shape.size[1])
    MB_FAIL(MB_ERR_SHAPE, "%s: x is %s, weight is %s; x (..., in) and weight (out, in) were expected", who, tx, tw);
  if (bias && (bias->shape.ndim != 1 || bias->shape.size[0] != weight->shape.size[0]))
    MB_FAIL(MB_ERR_SHAPE, "%s: bias is %s, weight is %s; bias (out) and weight (out, in) were expected", who,
            mbi_shape_text(tb, bias->shape.ndim, bias->shape.size), tw);
  return MB_OK;
}

// The three tensors of a product as operands; x and y have the same leading dimensions, W has none.
typedef struct operands {
  mbi_operand x, weight, y;
  int n_lead;
  int64_t lead[MB_MAX_DIMS];
} operands;

static mb_status make_operands(operands *o, mb_tensor *x, mb_tensor *weight, mb_tensor *y) {
  *o = (operands){.n_lead = x->shape.ndim > 2 ? x->shape.ndim - 2 : 0};
  for (int d = 0; d < o->n_lead; d++) o->lead[d] = x->shape.size[d];
  MB_TRY(mbi_operand_make(&o->x, x, 0, o->n_lead, o->lead));
  MB_TRY(mbi_operand_make(&o->weight, weight, 0, o->n_lead, o->lead));
  return mbi_operand_make(&o->y, y, 0, o->n_lead, o->lead);
}

static void free_operands(operands *o) {
  mbi_operand_free(&o->x), mbi_operand_free(&o->weight), mbi_operand_free(&o->y);
}

static mb_status check(const mb_tensor *x, const mb_tensor *weight, const mb_tensor *bias, const char *who) {
  MB_TRY(mbi_check_float(x, who, "x"));
  MB_TRY(mbi_check_float(weight, who, "weight"));
  MB_TRY(mbi_check_same(x, weight, who));
  if (bias) {
    MB_TRY(mbi_check_float(bias, who, "bias"));
    MB_TRY(mbi_check_same(x, bias, who));
  }
  return check_shapes(x, weight, bias, who);
}

// A tensor of this shape whose rows begin on boundaries.
static mb_status new_aligned(mb_tensor **out, const mb_tensor *like, const mbi_shape *shape, const char *who) {
  int last = shape->ndim - 1;
  mbi_shape padded = *shape;
  padded.size[last] = mbi_aligned_columns(shape->size[last], like->dtype);
  MB_TRY(mbi_shape_make(&padded, who, padded.ndim, padded.size));
  mb_tensor *all;
  MB_TRY(mbi_tensor_new(&all, like->storage->device, like->dtype, &padded));
  mb_status status = mbi_tensor_view(out, all, shape, all->stride, 0);
  mb_tensor_release(all);
  return status;
}

// y = x W^T + b, a new tensor; also when it fails, to be released by mbi_finish. `activation`, if not NULL, becomes gelu(y).
static mb_status product(mb_tensor **y, mb_tensor **activation, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, int is_aligned,
                         const char *who) {
  mbi_shape shape = x->shape;
  mb_tensor *dense_bias = NULL;
  shape.size[shape.ndim - 1] = weight->shape.size[0];
  MB_TRY(mbi_shape_make(&shape, who, shape.ndim, shape.size));
  MB_TRY(is_aligned ? new_aligned(y, x, &shape, who) : mbi_tensor_new(y, x->storage->device, x->dtype, &shape));
  if (activation) MB_TRY(mbi_tensor_like(activation, *y));
  operands o;
  mb_status status = make_operands(&o, x, weight, activation ? *activation : *y);
  if (status == MB_OK && bias) status = mbi_dense(&dense_bias, bias);
  if (status == MB_OK) {
    mbi_operand transposed = mbi_operand_swapped(o.weight);
    const void *shift = dense_bias ? mbi_data(dense_bias) : NULL;
    if (activation) status = mbi_multiply_gelu(&o.y, &o.x, &transposed, shift, MBI_GELU_OF, *y, o.n_lead, o.lead);
    else status = mbi_multiply(&o.y, &o.x, &transposed, shift, 0, o.n_lead, o.lead);
  }
  free_operands(&o);
  mb_tensor_release(dense_bias);
  return status;
}

static mb_status linear(mb_tensor **out, mb_tensor **activation, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, int is_aligned,
                        const char *who) {
  *out = NULL;
  MB_TRY(check(x, weight, bias, who));
  mb_tensor *y = NULL;
  mb_status status = product(&y, activation, x, weight, bias, is_aligned, who);
  mb_tensor *inputs[3] = {x, weight, bias}, *saved[2] = {mb_requires_grad(weight) ? x : NULL, mb_requires_grad(x) ? weight : NULL};
  return mbi_finish(out, y, status, MBI_OP_linear, inputs, 3, saved, 2, NULL, 0);
}

mb_status mb_linear(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias) {
  return linear(out, NULL, x, weight, bias, 0, "mb_linear");
}

mb_status mb_linear_aligned(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias) {
  return linear(out, NULL, x, weight, bias, 1, "mb_linear_aligned");
}

static mb_status gelu_of(mb_tensor **out, mb_tensor *x) {
  MB_TRY(mbi_tensor_like(out, x));
  mbi_view to = mbi_view_of(*out), from = mbi_view_of(x);
  return mbi_kernels_of(x)->unary(MBI_GELU_TANH, &to, &from, 0, 0);
}

// The linear map of activation = gelu(x), which is taken over.
static mb_status linear_of_gelu(mb_tensor **out, mb_tensor *activation, int keep, mb_tensor *x, mb_tensor *weight, mb_tensor *bias,
                                const char *who) {
  mb_tensor *y = NULL, *kept = keep && mb_requires_grad(weight) ? activation : NULL;
  mb_status status = product(&y, NULL, activation, weight, bias, 0, who);
  mb_tensor *inputs[3] = {x, weight, bias}, *saved[3] = {x, mb_requires_grad(x) ? weight : NULL, kept};
  status = mbi_finish(out, y, status, MBI_OP_gelu_linear, inputs, 3, saved, 3, NULL, 0);
  mb_tensor_release(activation);
  return status;
}

mb_status mb_gelu_linear(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias) {
  *out = NULL;
  MB_TRY(check(x, weight, bias, "mb_gelu_linear"));
  mb_tensor *activation = NULL;
  mb_status status = gelu_of(&activation, x);
  if (status == MB_OK) return linear_of_gelu(out, activation, 0, x, weight, bias, "mb_gelu_linear");
  mb_tensor_release(activation);
  return status;
}

mb_status mb_gelu_mlp(mb_tensor **out, mb_tensor *x, mb_tensor *weight, mb_tensor *bias, mb_tensor *weight_out, mb_tensor *bias_out,
                      int keep) {
  *out = NULL;
  mb_tensor *inner = NULL, *activation = NULL;
  mb_status status = linear(&inner, &activation, x, weight, bias, 0, "mb_gelu_mlp");
  if (status == MB_OK) status = check(inner, weight_out, bias_out, "mb_gelu_mlp");
  if (status == MB_OK) status = linear_of_gelu(out, activation, keep, inner, weight_out, bias_out, "mb_gelu_mlp");
  else mb_tensor_release(activation);
  mb_tensor_release(inner);
  return status;
}

// dW = dout^T x, and *has_sums = 1 where the product has written the sums of dout's rows to `sums` (or NULL) on the way.
static mb_status weight_gradient(mbi_node *node, mb_tensor *x, mb_tensor *dout, void *sums, int *has_sums) {
  mb_tensor *dw;
  int accumulate;
  MB_TRY(mbi_sink_wide(&dw, &accumulate, node, 1));
  operands o;
  mb_status status = make_operands(&o, x, dw, dout);
  if (status == MB_OK) {
    mbi_operand transposed = mbi_operand_swapped(o.y);
    status = mbi_multiply_sums(&o.weight, &transposed, &o.x, accumulate, sums, has_sums, o.n_lead, o.lead);
  }
  free_operands(&o);
  mb_tensor_release(dw);
  return status;
}

static mb_status input_gradient(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx;
  int accumulate;
  MB_TRY(mbi_sink(&dx, &accumulate, node, 0));
  operands o;
  mb_status status = make_operands(&o, dx, mbi_saved_tensor(node, 1), dout);
  if (status == MB_OK) status = mbi_multiply(&o.x, &o.y, &o.weight, NULL, accumulate, o.n_lead, o.lead);
  free_operands(&o);
  mb_tensor_release(dx);
  return status;
}

// dW and db, the sum of dout's rows.
static mb_status parameter_gradients(mbi_node *node, mb_tensor *x, mb_tensor *dout) {
  mbi_place db = {0};
  mb_status status = MB_OK;
  int has_sums = 0, needs_bias = mbi_needs(node, 2);
  if (needs_bias) MB_TRY(mbi_place_open(&db, node, 2));
  if (mbi_needs(node, 1)) status = weight_gradient(node, x, dout, db.accumulate ? NULL : mbi_place_data(&db), &has_sums);
  if (status == MB_OK && needs_bias && !has_sums) {
    mbi_view g = mbi_view_of(dout);
    unsigned leading = (1u << (dout->shape.ndim - 1)) - 1;
    status = mbi_kernels_of(dout)->sum_over(mbi_place_data(&db), db.accumulate, &g, leading);
  }
  return needs_bias ? mbi_place_close(&db, node, 2, status) : status;
}

mb_status mbi_linear_backward(mbi_node *node, mb_tensor *dout) {
  if (mbi_needs(node, 0)) MB_TRY(input_gradient(node, dout));
  return parameter_gradients(node, mbi_saved_tensor(node, 0), dout);
}

static mb_status gelu_parameter_gradients(mbi_node *node, mb_tensor *dout) {
  mb_tensor *activation = NULL, *kept = mbi_saved_tensor(node, 2);
  mb_status status = mbi_needs(node, 1) && !kept ? gelu_of(&activation, mbi_saved_tensor(node, 0)) : MB_OK;
  if (status == MB_OK) status = parameter_gradients(node, kept ? kept : activation, dout);
  mb_tensor_release(activation);
  return status;
}

// dx = (dout W) gelu'(x)
static mb_status gelu_input_gradient(mbi_node *node, mb_tensor *dout) {
  mb_tensor *dx = NULL, *dense = NULL;
  operands o;
  MB_TRY(mbi_dense(&dense, mbi_saved_tensor(node, 0)));
  mb_status status = mbi_tensor_like(&dx, dense);
  if (status == MB_OK) {
    status = make_operands(&o, dx, mbi_saved_tensor(node, 1), dout);
    if (status == MB_OK) status = mbi_multiply_gelu(&o.x, &o.y, &o.weight, NULL, MBI_GELU_SLOPE, dense, o.n_lead, o.lead);
    free_operands(&o);
  }
  mb_tensor_release(dense);
  if (status == MB_OK) return mbi_give(node, 0, dx);
  mb_tensor_release(dx);
  return status;
}

mb_status mbi_gelu_linear_backward(mbi_node *node, mb_tensor *dout) {
  MB_TRY(gelu_parameter_gradients(node, dout));
  if (mbi_needs(node, 0)) MB_TRY(gelu_input_gradient(node, dout));
  return MB_OK;
}
