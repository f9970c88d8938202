// SPDX-License-Identifier: MIT
//
// places.c: several gradients written by one kernel call. A sink must be written and released before the
// next one of the same tensor is asked for; so where one tensor came in twice, as weight and as bias say,
// each of its gradients gets memory of its own and is given afterwards.
#include "ops/ops.h"

static int came_in_twice(const mbi_node *node, int input) {
  const mbi_edge *edge = &node->edges[input];
  for (int i = 0; i < node->n_inputs; i++)
    if (i != input && node->edges[i].node == edge->node && node->edges[i].leaf == edge->leaf) return 1;
  return 0;
}

mb_status mbi_places_open(mbi_place places[MBI_MAX_INPUTS], mbi_node *node) {
  mb_status status = MB_OK;
  for (int i = 0; i < MBI_MAX_INPUTS; i++) places[i] = (mbi_place){0};
  for (int i = 0; i < node->n_inputs && status == MB_OK; i++) {
    if (!mbi_needs(node, i)) continue;
    places[i].is_own = came_in_twice(node, i);
    status = places[i].is_own ? mbi_tensor_new(&places[i].tensor, node->device, node->edges[i].dtype, &node->edges[i].shape)
                              : mbi_sink(&places[i].tensor, &places[i].accumulate, node, i);
  }
  return status == MB_OK ? MB_OK : mbi_places_close(places, node, status);
}

mb_status mbi_places_close(mbi_place places[MBI_MAX_INPUTS], mbi_node *node, mb_status status) {
  for (int i = 0; i < MBI_MAX_INPUTS; i++) {
    if (status == MB_OK && places[i].is_own) status = mbi_give(node, i, places[i].tensor);
    else mb_tensor_release(places[i].tensor);
    places[i].tensor = NULL;
  }
  return status;
}
