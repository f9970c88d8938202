// SPDX-License-Identifier: MIT
//
// embedding.c: rows of a table picked by ids. Backward adds the rows of dout into the table's gradient where
// it is wanted, in float32 for a table of bf16. A gradient that has no values yet is written whole (150 MB for GPT-2's
// vocabulary); where the table is also the output head, the head's backward has filled it by then, and only rows that
// occur are touched. Tests: tests/c/test_layers.c.
#include "ops/ops.h"

mb_status mb_embedding(mb_tensor **out, mb_tensor *table, mb_tensor *ids) {
  *out = NULL;
  MB_TRY(mbi_check_float(table, "mb_embedding", "table"));
  char text[MBI_SHAPE_TEXT];
  if (table->shape.ndim != 2)
    MB_FAIL(MB_ERR_SHAPE, "mb_embedding: table has shape %s, two dimensions were expected",
            mbi_shape_text(text, table->shape.ndim, table->shape.size));
  int64_t columns = table->shape.size[1];
  mb_tensor *checked, *dense = NULL, *y = NULL;
  MB_TRY(mbi_ids(&checked, ids, table->shape.size[0], MBI_NONE_IGNORED, mbi_will_record(&table, 1), "mb_embedding", "ids", "rows in the table"));
  mb_status status = MB_OK;
  if (checked->storage->device != table->storage->device)
    status = mbi_fail(MB_ERR_DEVICE, "mb_embedding: table and ids are on different devices");
  mbi_shape shape = checked->shape;
  if (status == MB_OK && shape.ndim == MB_MAX_DIMS)
    status = mbi_fail(MB_ERR_SHAPE, "mb_embedding: ids has %d dimensions, at most %d were expected", shape.ndim, MB_MAX_DIMS - 1);
  if (status == MB_OK) {
    shape.size[shape.ndim++] = columns;
    status = mbi_shape_make(&shape, "mb_embedding", shape.ndim, shape.size);
  }
  if (status == MB_OK) status = mbi_dense(&dense, table);
  if (status == MB_OK) status = mbi_tensor_new(&y, table->storage->device, table->dtype, &shape);
  if (status == MB_OK) {
    status = mbi_kernels_of(table)->embedding(mbi_data(y), mbi_data(dense), mbi_data(checked), mbi_numel(checked), columns);
    status = mbi_finish(out, y, status, MBI_OP_embedding, &table, 1, &checked, 1, NULL, 0);
  }
  mb_tensor_release(dense);
  mb_tensor_release(checked);
  return status;
}

mb_status mbi_embedding_backward(mbi_node *node, mb_tensor *dout) {
  mb_tensor *ids = mbi_saved_tensor(node, 0);
  const mbi_shape *table = &node->edges[0].shape;
  mbi_place place;
  MB_TRY(mbi_place_open(&place, node, 0));
  mb_status status = mbi_kernels_of(dout)->embedding_backward(mbi_place_data(&place), place.accumulate, mbi_data(dout), mbi_data(ids),
                                                              mbi_numel(ids), table->size[0], table->size[1]);
  return mbi_place_close(&place, node, 0, status);
}
