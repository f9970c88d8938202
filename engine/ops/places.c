// SPDX-License-Identifier: MIT
//
// places.c: where kernels write gradients. A sink must be written and released before the next one of the same tensor is asked for;
// so where one tensor came in twice, as weight and as bias say, each of its gradients gets memory of its own and is given
// afterwards. So has what is bf16 itself, not a cast of something wider, but whose gradient a kernel writes in float32.
#include "ops/ops.h"

// Whose gradient an input's is, as far as sinks go.
static const mbi_edge *sink_of(const mbi_node *node, int input) {
  const mbi_node *cast = mbi_wide_cast(node, input);
  return cast ? &cast->edges[0] : &node->edges[input];
}

static int came_in_twice(const mbi_node *node, int input) {
  const mbi_edge *edge = sink_of(node, input);
  for (int i = 0; i < node->n_inputs; i++) {
    const mbi_edge *other = sink_of(node, i);
    if (i != input && other->node == edge->node && other->leaf == edge->leaf) return 1;
  }
  return 0;
}

static mb_status open_at(mbi_place *place, mbi_node *node, int input, int is_wide, int is_own) {
  mb_dtype narrow = node->edges[input].dtype, dtype = is_wide ? mbi_wide_dtype(narrow) : narrow;
  *place = (mbi_place){.is_own = is_own || (dtype != narrow && !mbi_wide_cast(node, input))};
  if (place->is_own) return mbi_tensor_new(&place->tensor, node->device, dtype, &node->edges[input].shape);
  return is_wide ? mbi_sink_wide(&place->tensor, &place->accumulate, node, input)
                 : mbi_sink(&place->tensor, &place->accumulate, node, input);
}

mb_status mbi_place_open(mbi_place *place, mbi_node *node, int input) {
  mbi_node *slice = mbi_slice_of_wide(node, input);
  *place = (mbi_place){0};
  return slice ? mbi_slice_sink_wide(&place->tensor, &place->accumulate, slice) : open_at(place, node, input, 1, 0);
}

mb_status mbi_place_close(mbi_place *place, mbi_node *node, int input, mb_status status) {
  mb_tensor *tensor = place->tensor, *narrow = NULL;
  place->tensor = NULL;
  if (status == MB_OK && place->is_own) {
    mbi_node *cast = mbi_wide_cast(node, input);
    if (tensor->dtype == node->edges[input].dtype) return mbi_give(node, input, tensor);
    if (cast) return mbi_give(cast, 0, tensor);
    status = mbi_cast(&narrow, tensor, node->edges[input].dtype);
    if (status == MB_OK) status = mbi_give(node, input, narrow);
  }
  mb_tensor_release(tensor);
  return status;
}

mb_status mbi_places_open(mbi_place places[MBI_MAX_INPUTS], mbi_node *node, unsigned wide) {
  mb_status status = MB_OK;
  for (int i = 0; i < MBI_MAX_INPUTS; i++) places[i] = (mbi_place){0};
  for (int i = 0; i < node->n_inputs && status == MB_OK; i++)
    if (mbi_needs(node, i)) status = open_at(&places[i], node, i, wide >> i & 1, came_in_twice(node, i));
  return status == MB_OK ? MB_OK : mbi_places_close(places, node, status);
}

mb_status mbi_places_close(mbi_place places[MBI_MAX_INPUTS], mbi_node *node, mb_status status) {
  for (int i = 0; i < MBI_MAX_INPUTS; i++) status = mbi_place_close(&places[i], node, i, status);
  return status;
}
