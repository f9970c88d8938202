// SPDX-License-Identifier: MIT
//
// tape.c: recording ops, running them backwards, and letting go of what is no longer needed.
//
// Order: nodes carry a sequence number, inputs are always older than outputs, so the reachable nodes
// sorted from newest to oldest are a reverse topological order, the same in every run. Releasing is
// iterative: a chain of a million ops must not recurse a million deep.
#include "autograd/tape.h"

#include <stdlib.h>
#include <string.h>

#include "core/capture.h"
#include "ops/ops.h"

static int grad_enabled = 1;
static uint64_t next_sequence = 1;

typedef struct op_row {
  const char *name;
  mb_status (*backward)(mbi_node *node, mb_tensor *dout);
} op_row;

static const op_row op_rows[MBI_OP_COUNT] = {
#define MB_OP(name, backward) {#name, backward},
#include "ops/ops.def"
#undef MB_OP
};

const char *mbi_node_name(const mbi_node *node) { return op_rows[node->op].name; }

int mb_grad_mode(int enabled) {
  int before = grad_enabled;
  grad_enabled = enabled != 0;
  return before;
}

// ----- release --------------------------------------------------------------------------------------

static void unsave(mbi_node *node) {
  for (int i = 0; i < node->n_saved; i++)
    if (node->saved[i].tensor) {
      node->saved[i].tensor->storage->pins--;
      mb_tensor_release(node->saved[i].tensor);
      node->saved[i].tensor = NULL;
    }
}

// Lets go of the inputs of a node that has run; the walk that ran it still holds every older node.
static void drop_edges(mbi_node *node) {
  for (int i = 0; i < node->n_inputs; i++) {
    mb_tensor_release(node->edges[i].leaf);
    mbi_node_release(node->edges[i].node);
    node->edges[i].leaf = NULL;
    node->edges[i].node = NULL;
  }
}

// Drops a node that nobody holds, and then, from a work list threaded through `output`, every older node
// that only it held.
void mbi_node_release(mbi_node *node) {
  if (!node || --node->refs > 0) return;
  mbi_node *pending = node;
  node->output = NULL;
  while (pending) {
    mbi_node *dead = pending;
    pending = (mbi_node *)(void *)dead->output; // the output is gone: its field links the list
    unsave(dead);
    mb_tensor_release(dead->grad);
    for (int i = 0; i < dead->n_inputs; i++) {
      mb_tensor_release(dead->edges[i].leaf);
      mbi_node *older = dead->edges[i].node;
      if (older && --older->refs == 0) {
        older->output = (mb_tensor *)(void *)pending;
        pending = older;
      }
    }
    mbi_free(dead->edges);
    mbi_free(dead);
  }
}

void mbi_node_forget_output(mbi_node *node) { node->output = NULL; }

// ----- recording ------------------------------------------------------------------------------------

int mb_requires_grad(const mb_tensor *t) { return t && (t->requires_grad || t->node); }

int mbi_will_record(mb_tensor *const *inputs, int n_inputs) {
  if (!grad_enabled) return 0;
  for (int i = 0; i < n_inputs; i++)
    if (mb_requires_grad(inputs[i])) return 1;
  return 0;
}

static mb_status save(mbi_node *node, mb_tensor *const *saved, int n_saved) {
  for (int i = 0; i < n_saved; i++) {
    node->n_saved = i + 1;
    if (!saved[i]) continue;
    MB_TRY(mbi_tensor_alias(&node->saved[i].tensor, saved[i]));
    node->saved[i].version = saved[i]->storage->version;
    saved[i]->storage->pins++;
    saved[i]->storage->pinned_by = op_rows[node->op].name;
  }
  return MB_OK;
}

mb_status mbi_record(mb_tensor *out, mbi_op op, mb_tensor *const *inputs, int n_inputs, mb_tensor *const *saved,
                     int n_saved, const void *params, size_t params_bytes) {
  mbi_assert(n_saved <= MBI_MAX_SAVED && params_bytes <= MBI_PARAMS_BYTES);
  if (!mbi_will_record(inputs, n_inputs)) return MB_OK;
  void *memory;
  MB_TRY(mbi_calloc(&memory, op_rows[op].name, 1, sizeof(mbi_node)));
  mbi_node *node = memory;
  node->refs = 1;
  node->op = op;
  node->sequence = next_sequence++;
  node->shape = out->shape;
  node->dtype = out->dtype;
  node->device = out->storage->device;
  mb_status status = mbi_calloc(&memory, op_rows[op].name, (size_t)n_inputs, sizeof(mbi_edge));
  if (status == MB_OK) {
    node->edges = memory;
    node->n_inputs = n_inputs;
    status = save(node, saved, n_saved);
  }
  if (status != MB_OK) {
    mbi_node_release(node);
    return status;
  }
  for (int i = 0; i < n_inputs; i++) {
    mb_tensor *input = inputs[i];
    if (!input) continue;
    node->edges[i].shape = input->shape;
    node->edges[i].dtype = input->dtype;
    if (input->node) {
      node->edges[i].node = input->node;
      input->node->refs++;
    } else if (input->requires_grad) {
      node->edges[i].leaf = input;
      mb_tensor_retain(input);
    }
  }
  if (params_bytes) memcpy(node->params, params, params_bytes);
  node->output = out;
  out->node = node;
  return MB_OK;
}

mb_status mb_set_requires_grad(mb_tensor *t, int on) {
  MB_TRY(mbi_check_float(t, "mb_set_requires_grad", "t"));
  if (t->node)
    MB_FAIL(MB_ERR_STATE, "mb_set_requires_grad: the tensor is the result of '%s', only leaves can be set", mbi_node_name(t->node));
  t->requires_grad = on != 0;
  return MB_OK;
}

// ----- gradients ------------------------------------------------------------------------------------

// A discarded leaf wants nothing: its gradient could not be read.
int mbi_needs(const mbi_node *node, int input) {
  if (input >= node->n_inputs) return 0;
  const mbi_edge *edge = &node->edges[input];
  return edge->node || (edge->leaf && edge->leaf->storage);
}

mb_tensor *mbi_saved_tensor(const mbi_node *node, int index) { return node->saved[index].tensor; }

int mbi_saved_is_exclusive(const mbi_node *node, int index) {
  const mbi_storage *storage = node->saved[index].tensor->storage;
  return storage->refs == 1 && storage->pins == 1;
}

static int is_exclusive(const mb_tensor *t) { return t->refs == 1 && t->storage->refs == 1 && mbi_is_contiguous(t); }

// The slot that holds an input's gradient, and whether its values count (0: none yet, or stale).
static mb_tensor **slot_of(const mbi_edge *edge, int *has_values) {
  mb_tensor **slot = edge->node ? &edge->node->grad : &edge->leaf->grad;
  *has_values = *slot != NULL && !(edge->leaf && edge->leaf->grad_is_zero);
  return slot;
}

static mb_status add_into(mb_tensor *to, mb_tensor *from, int accumulate) {
  mbi_view y = mbi_view_of(to), x = mbi_view_of(from);
  mbi_touch(to);
  return mbi_kernels_of(to)->axpby(&y, &x, 1.0, accumulate ? 1.0 : 0.0);
}

static mb_status add_new(mb_tensor **slot, mb_tensor *dx) {
  mb_tensor *sum;
  MB_TRY(mbi_tensor_like(&sum, dx));
  mbi_view out = mbi_view_of(sum), a = mbi_view_of(*slot), b = mbi_view_of(dx);
  mb_status status = mbi_kernels_of(dx)->binary(MBI_ADD, &out, &a, &b);
  if (status != MB_OK) {
    mb_tensor_release(sum);
    return status;
  }
  mb_tensor_release(*slot);
  *slot = sum;
  return MB_OK;
}

mb_status mbi_give(mbi_node *node, int input, mb_tensor *dx) {
  mbi_edge *edge = &node->edges[input];
  mbi_assert(mbi_shape_equal(&edge->shape, &dx->shape));
  int has_values;
  mb_status status = MB_OK;
  if (edge->leaf) status = mbi_capture_leaf(edge->leaf, 1);
  if (status != MB_OK) {
    mb_tensor_release(dx);
    return status;
  }
  mb_tensor **slot = slot_of(edge, &has_values);
  if (edge->leaf && *slot) { // a leaf's gradient keeps its address
    status = add_into(*slot, dx, has_values);
    if (status == MB_OK) edge->leaf->grad_is_zero = 0;
  } else if (!*slot) {
    // A leaf outlives the step: it must own what it keeps.
    if (edge->node || is_exclusive(dx)) {
      *slot = dx;
      return MB_OK;
    }
    mb_tensor *copy;
    status = mbi_tensor_like(&copy, dx);
    if (status == MB_OK) {
      *slot = copy;
      status = add_into(copy, dx, 0);
    }
  } else if (is_exclusive(*slot)) {
    status = add_into(*slot, dx, 1);
  } else {
    status = add_new(slot, dx);
  }
  mb_tensor_release(dx);
  return status;
}

mb_status mbi_sink(mb_tensor **out, int *accumulate, mbi_node *node, int input) {
  *out = NULL;
  mbi_edge *edge = &node->edges[input];
  if (edge->leaf) MB_TRY(mbi_capture_leaf(edge->leaf, 1));
  mb_tensor **slot = slot_of(edge, accumulate);
  if (*slot && !(edge->leaf ? mbi_is_contiguous(*slot) : is_exclusive(*slot))) {
    mb_tensor *copy; // shared with another gradient: continue on an own copy
    MB_TRY(mbi_tensor_like(&copy, *slot));
    mb_status status = add_into(copy, *slot, 0);
    mb_tensor_release(*slot);
    *slot = copy;
    MB_TRY(status);
  } else if (!*slot) {
    MB_TRY(mbi_tensor_new(slot, node->device, edge->dtype, &edge->shape));
  }
  if (edge->leaf) edge->leaf->grad_is_zero = 0;
  mbi_touch(*slot);
  mb_tensor_retain(*slot);
  *out = *slot;
  return MB_OK;
}

mbi_node *mbi_wide_cast(const mbi_node *node, int input) {
  mbi_node *cast = node->edges[input].node;
  int is_one = cast && cast->op == MBI_OP_cast && node->edges[input].dtype == MB_BF16 && cast->edges[0].dtype == MB_F32 && mbi_needs(cast, 0);
  return is_one ? cast : NULL;
}

mb_status mbi_sink_wide(mb_tensor **out, int *accumulate, mbi_node *node, int input) {
  mbi_node *cast = mbi_wide_cast(node, input);
  return cast ? mbi_sink(out, accumulate, cast, 0) : mbi_sink(out, accumulate, node, input);
}

mb_status mb_grad(mb_tensor **out, mb_tensor *t) {
  *out = NULL;
  MB_TRY(mbi_check(t, "mb_grad", "t"));
  if (!t->grad) return MB_OK;
  MB_TRY(mbi_capture_leaf(t, 1));
  if (t->grad_is_zero) {
    MB_TRY(mbi_memory_of(t)->zero(mbi_data(t->grad), (size_t)mbi_numel(t) * mbi_dtype_size(t->dtype)));
    t->grad_is_zero = 0;
  }
  return mbi_tensor_alias(out, t->grad); // a handle of the caller's own: discarding it leaves the gradient be
}

// The memory is not touched: the next gradient overwrites it, and mb_grad clears it for who looks first.
mb_status mb_zero_grad(mb_tensor *t) {
  MB_TRY(mbi_check(t, "mb_zero_grad", "t"));
  if (t->grad) {
    MB_TRY(mbi_capture_leaf(t, 0));
    t->grad_is_zero = 1;
    mbi_touch(t->grad);
  }
  return MB_OK;
}

// ----- backward -------------------------------------------------------------------------------------

typedef struct node_list {
  mbi_node **items;
  size_t count, capacity;
} node_list;

static mb_status push(node_list *list, mbi_node *node) {
  if (node->in_walk) return MB_OK;
  if (node->consumed)
    MB_FAIL(MB_ERR_STATE, "mb_backward: the graph behind '%s' was freed by an earlier backward; compute it again, or add the losses first",
            mbi_node_name(node));
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? 2 * list->capacity : 256;
    void *memory;
    MB_TRY(mbi_calloc(&memory, "mb_backward", capacity, sizeof *list->items));
    if (list->count) memcpy(memory, list->items, list->count * sizeof *list->items);
    mbi_free(list->items);
    list->items = memory;
    list->capacity = capacity;
  }
  node->in_walk = 1;
  node->refs++;
  list->items[list->count++] = node;
  return MB_OK;
}

static int newest_first(const void *a, const void *b) {
  uint64_t x = (*(mbi_node *const *)a)->sequence, y = (*(mbi_node *const *)b)->sequence;
  return (x < y) - (x > y);
}

static mb_status collect(node_list *list, mbi_node *root) {
  MB_TRY(push(list, root));
  for (size_t i = 0; i < list->count; i++) {
    mbi_node *node = list->items[i];
    for (int k = 0; k < node->n_inputs; k++)
      if (node->edges[k].node) MB_TRY(push(list, node->edges[k].node));
  }
  qsort(list->items, list->count, sizeof *list->items, newest_first);
  return MB_OK;
}

static mb_status check_versions(const mbi_node *node) {
  for (int i = 0; i < node->n_saved; i++) {
    const mb_tensor *t = node->saved[i].tensor;
    if (t && t->storage->version != node->saved[i].version)
      MB_FAIL(MB_ERR_STATE, "mb_backward: a tensor that the backward of '%s' needs was changed in place after it was used", mbi_node_name(node));
  }
  return MB_OK;
}

// Products read rows that begin anywhere; all other ops want their gradient contiguous.
static mb_status gradient_of(mb_tensor **out, const mbi_node *node) {
  mb_tensor *grad = node->grad;
  if (node->op != MBI_OP_linear || grad->shape.ndim < 2 || grad->stride[grad->shape.ndim - 1] != 1) return mbi_dense(out, grad);
  mb_tensor_retain(*out = grad);
  return MB_OK;
}

static mb_status run_node(mbi_node *node) {
  MB_TRY(check_versions(node));
  mb_tensor *dout;
  MB_TRY(gradient_of(&dout, node));
  mb_tensor_release(node->grad);
  node->grad = NULL;
  mb_status status = op_rows[node->op].backward(node, dout);
  mb_tensor_release(dout);
  // An op that failed may have left a sink half written: those gradients count as zero again.
  for (int i = 0; status != MB_OK && i < node->n_inputs; i++)
    if (node->edges[i].leaf) node->edges[i].leaf->grad_is_zero = node->edges[i].leaf->grad != NULL;
  return status;
}

// Lets go of all that a node's backward needed.
static void consume(mbi_node *node) {
  node->consumed = 1;
  unsave(node);
  drop_edges(node);
}

// The first gradient, dL/dL. A seed is held, not copied: gradients that somebody else holds are never
// written into (is_exclusive).
static mb_status seed_root(mbi_node *root, mb_tensor *loss, mb_tensor *seed) {
  if (seed) return mbi_dense(&root->grad, seed);
  MB_TRY(mbi_tensor_like(&root->grad, loss));
  return mbi_memory_of(loss)->fill(mbi_data(root->grad), loss->dtype, 1.0, mbi_numel(loss));
}

static mb_status check_backward(mb_tensor *loss, mb_tensor *seed) {
  MB_TRY(mbi_check_float(loss, "mb_backward", "loss"));
  char text[MBI_SHAPE_TEXT];
  if (!loss->node)
    MB_FAIL(MB_ERR_STATE, "mb_backward: the loss has no history: no input required a gradient, or gradients were off");
  if (!seed && mbi_numel(loss) != 1)
    MB_FAIL(MB_ERR_SHAPE, "mb_backward: the loss has shape %s; it must have one element, or a seed gradient is needed",
            mbi_shape_text(text, loss->shape.ndim, loss->shape.size));
  if (!seed) return MB_OK;
  MB_TRY(mbi_check_float(seed, "mb_backward", "seed"));
  MB_TRY(mbi_check_same(loss, seed, "mb_backward"));
  char other[MBI_SHAPE_TEXT];
  if (!mbi_shape_equal(&loss->shape, &seed->shape))
    MB_FAIL(MB_ERR_SHAPE, "mb_backward: the seed has shape %s, the loss %s", mbi_shape_text(other, seed->shape.ndim, seed->shape.size),
            mbi_shape_text(text, loss->shape.ndim, loss->shape.size));
  return MB_OK;
}

mb_status mb_backward(mb_tensor *loss, mb_tensor *seed) {
  MB_TRY(check_backward(loss, seed));
  node_list list = {0};
  int mode = mb_grad_mode(0);
  mb_status status = collect(&list, loss->node);
  if (status == MB_OK) status = seed_root(loss->node, loss, seed);
  int started = status == MB_OK;
  for (size_t i = 0; i < list.count; i++) {
    mbi_node *node = list.items[i];
    if (status == MB_OK && node->grad) {
      status = run_node(node);
      consume(node);
    } else if (status != MB_OK && started) {
      consume(node); // the rest of the graph is let go too: its gradients would be incomplete
    }
    mb_tensor_release(node->grad);
    node->grad = NULL;
    node->in_walk = 0;
    mbi_node_release(node);
  }
  mbi_free(list.items);
  mb_grad_mode(mode);
  return status;
}
