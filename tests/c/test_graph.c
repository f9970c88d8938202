// SPDX-License-Identifier: MIT
//
// test_graph.c: graphs where there is no device that captures: what is refused; and pools of blocks, which are the same for every
// device. Captures and launches are tested in tests/lua/graph_spec.lua.
#include "check.h"

#include "core/blocks.h"

static void refusals_say_why(void) {
  mb_graph *graph;
  mb_program *program;
  double number = 1;
  CHECK_OK(mb_program_new(&program));
  CHECK_FAILS(MB_ERR_DEVICE, "mb_graph_begin: device cpu captures nothing", mb_graph_begin(&graph, MB_CPU, NULL));
  CHECK(graph == NULL);
  CHECK_FAILS(MB_ERR_STATE, "mb_graph_end: the graph is NULL", mb_graph_end(NULL));
  CHECK_FAILS(MB_ERR_STATE, "mb_graph_launch: the graph is NULL", mb_graph_launch(NULL));
  CHECK_FAILS(MB_ERR_ARG, "mb_graph_set_numbers: the graph is NULL", mb_graph_set_numbers(NULL, 0, program, &number, 1));
  CHECK_EQ(mb_graph_sites(NULL), 0);
  CHECK_EQ(mb_graph_fits(NULL), 0);
  CHECK_OK(mb_graph_lend(NULL));
  mb_graph_release(NULL);
  mb_program_release(program);
}

enum { BYTES = 5000 };

static void *take(mbi_pool **pool, size_t *capacity) {
  void *data;
  int is_zero;
  CHECK_OK(mbi_block_take(&data, &is_zero, capacity, pool, MB_CPU, BYTES));
  return data;
}

static void blocks_of_a_pool_go_to_nobody_else(void) {
  mbi_pool *pool, *of_mine, *of_other;
  size_t capacity;
  mb_memory_trim();
  CHECK_OK(mbi_pool_new(&pool, MB_CPU));
  mbi_blocks_belong_to(pool);
  void *mine = take(&of_mine, &capacity);
  mbi_blocks_belong_to(NULL);
  CHECK(of_mine == pool);
  mbi_block_give(MB_CPU, mine, capacity, of_mine);
  mb_device_memory books;
  CHECK_OK(mb_memory_of(&books, MB_CPU));
  CHECK_EQ(books.bytes_graphs, (int64_t)capacity);
  char kept[64];
  snprintf(kept, sizeof kept, " of work memory, %lld kept for graphs; ", (long long)capacity);
  CHECK(strstr(mbi_block_refusal(MB_CPU), kept) != NULL);
  mb_memory_reset_peak();
  CHECK_OK(mb_memory_of(&books, MB_CPU));
  CHECK_EQ(books.bytes_peak, books.bytes_live + books.bytes_scratch + (int64_t)capacity);
  void *other = take(&of_other, &capacity);
  CHECK(of_other == NULL && other != mine);
  mbi_blocks_belong_to(pool);
  void *again = take(&of_mine, &capacity);
  mbi_blocks_belong_to(NULL);
  CHECK(again == mine);
  // A block that is in use when its pool goes is as all others when it comes back.
  mbi_pool_release(pool);
  mbi_block_give(MB_CPU, again, capacity, of_mine);
  mbi_block_give(MB_CPU, other, capacity, NULL);
  CHECK_OK(mb_memory_of(&books, MB_CPU));
  CHECK_EQ(books.bytes_graphs, 0);
  CHECK(strstr(mbi_block_refusal(MB_CPU), "graphs") == NULL);
  CHECK_EQ(books.bytes_cached, 2 * (int64_t)capacity);
  mb_memory_trim();
}

int main(void) {
  refusals_say_why();
  blocks_of_a_pool_go_to_nobody_else();
  return check_end();
}
