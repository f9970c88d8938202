// SPDX-License-Identifier: MIT
//
// capture.c: graphs: the work that calls give to a device, noted once, and given to it again as a whole by each launch.
//
// Memory. Blocks that are taken during a capture belong to the pool of the graph: nobody else gets them while a graph of that
// pool lives, whether their tensors are still there or not, for each launch writes them again.
//
// What changes from launch to launch is in a table on the device, sent before each: its first three numbers are the
// generator's seed, step and stream, from which kernels count on; then come the numbers of fused programs (cells).
//
// The state of the host that decides what is noted is which gradients count as zero. The graph remembers what it found of
// each, and fits only where that is so again; behind a launch they are what they were behind the capture. During the
// capture itself nothing is done, so that its end puts gradients and generator back to where they were.
#include "core/capture.h"

#include <stdlib.h>
#include <string.h>

#include "core/blocks.h"
#include "core/rng.h"

enum { CELLS = 8192, KEY_CELLS = 3, MOST_IDS = 64, LAG = 2 };
static const char who[] = "mb_graph";

typedef struct leaf {
  mb_tensor *tensor; // retained
  int before;        // grad_is_zero that was found; -1 where it was set before it was looked at
  int first, after;  // as it was when the capture began, and when it ended
} leaf;
typedef struct site {
  const void *program;
  uint64_t *cells;
  mb_tensor *memory; // retained, or NULL
} site;

struct mb_graph {
  mb_device device;
  mb_graph *next;    // of those with ids to check
  int is_capturing;
  mbi_pool *pool;
  mbi_captured *captured;
  uint64_t *table;   // of the host, CELLS
  void *on_device;   // the same there, and behind it what was found of ids
  mbi_ids_note ids[MOST_IDS];
  int64_t n_ids, launches, told; // launches before `told` have been looked at
  mbi_mail *mail[LAG];
  int64_t used;      // cells
  uint64_t key[KEY_CELLS], draws; // where the generator was when the capture began, and how far it went
  leaf *leaves;
  int64_t n_leaves, leaves_room;
  site *sites;
  int64_t n_sites, sites_room;
};

static const size_t TABLE_BYTES = CELLS * sizeof(uint64_t), FOUND_BYTES = 2 * MOST_IDS * sizeof(int64_t);
static mb_graph *current; // the one that is being captured
static mb_graph *with_ids; // graphs that check ids

int mbi_capture_is_on(mb_device device) { return current && current->device == device; }

// ----- what is noted ------------------------------------------------------------------------------------------

mb_status mbi_capture_cells(uint64_t **host, const uint64_t **device, int64_t count) {
  if (current->used + count > CELLS)
    MB_FAIL(MB_ERR_STATE, "%s: the programs of a graph take more than %d numbers; capture a part of it", who, CELLS - KEY_CELLS);
  *host = current->table + current->used;
  *device = (const uint64_t *)current->on_device + current->used;
  current->used += count;
  return MB_OK;
}

// Room for one more element behind `count`.
static mb_status reserve(void **items, int64_t *room, int64_t count, size_t size) {
  if (count < *room) return MB_OK;
  int64_t more = *room ? 2 * *room : 64;
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)more, size));
  if (count) memcpy(memory, *items, (size_t)count * size);
  mbi_free(*items);
  *items = memory;
  *room = more;
  return MB_OK;
}

mb_status mbi_capture_program(const void *program, const uint64_t *host, mb_tensor *memory) {
  MB_TRY(reserve((void **)&current->sites, &current->sites_room, current->n_sites, sizeof *current->sites));
  mb_tensor_retain(memory);
  current->sites[current->n_sites++] = (site){program, current->table + (host - current->table), memory};
  return MB_OK;
}

uint64_t *mbi_capture_site(mb_graph *graph, int64_t number, const void *program) {
  if (!graph || number < 0 || number >= graph->n_sites || graph->sites[number].program != program) return NULL;
  return graph->sites[number].cells;
}

mb_status mbi_capture_leaf(mb_tensor *tensor, int reads) {
  if (!current || !tensor->storage || tensor->storage->device != current->device) return MB_OK;
  for (int64_t i = current->n_leaves - 1; i >= 0; i--)
    if (current->leaves[i].tensor == tensor) return MB_OK;
  MB_TRY(reserve((void **)&current->leaves, &current->leaves_room, current->n_leaves, sizeof *current->leaves));
  mb_tensor_retain(tensor);
  current->leaves[current->n_leaves++] =
    (leaf){.tensor = tensor, .before = reads ? tensor->grad_is_zero : -1, .first = tensor->grad_is_zero};
  return MB_OK;
}

// ----- ids ----------------------------------------------------------------------------------------------------

mb_status mbi_id_outside(const mbi_ids_note *note, int64_t flat, int64_t id) {
  int64_t position[MB_MAX_DIMS];
  for (int d = note->shape.ndim - 1; d >= 0; d--) {
    position[d] = flat % note->shape.size[d];
    flat /= note->shape.size[d];
  }
  char text[MBI_SHAPE_TEXT];
  MB_FAIL(MB_ERR_ARG, "%s: %s at %s is %lld, but there are %lld %s: 0 to %lld was expected (places count from 0)", note->who, note->argument,
          mbi_shape_text(text, note->shape.ndim, position), (long long)id, (long long)note->limit, note->what, (long long)note->limit - 1);
}

static int64_t *found_of(const mb_graph *graph) { return (int64_t *)(void *)((char *)graph->on_device + TABLE_BYTES); }

mb_status mbi_capture_ids(int64_t **found, const mbi_ids_note *note) {
  if (current->n_ids == MOST_IDS) MB_FAIL(MB_ERR_STATE, "%s: a graph checks more than %d tensors of ids; capture a part of it", who, MOST_IDS);
  *found = found_of(current) + 2 * current->n_ids;
  current->ids[current->n_ids++] = *note;
  return MB_OK;
}

// The first id that was found, if any; `found` has two numbers for each note. In a dry run they are made up.
static mb_status report_found(const int64_t *found, const mbi_ids_note *notes, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (found[2 * i] > 0) return mbi_id_outside(&notes[i], found[2 * i] - 1, found[2 * i + 1]);
  return MB_OK;
}

// Looks at what launches before `launch` have found.
static mb_status look(mb_graph *graph, int64_t launch) {
  const mbi_device *device = mbi_device_of(graph->device);
  const void *data;
  if (graph->n_ids == 0 || graph->told >= launch) return MB_OK;
  MB_TRY(device->mail_open(&data, graph->mail[(launch - 1) % LAG]));
  graph->told = launch;
  mb_status status = report_found(data, graph->ids, graph->n_ids);
  if (status == MB_OK) return MB_OK;
  graph->told = graph->launches; // those that came after it found the same, or would be heard of twice
  MB_TRY(device->zero(found_of(graph), FOUND_BYTES));
  return report_found(data, graph->ids, graph->n_ids);
}

// Checks outside of graphs that nobody has heard of yet.
static struct {
  mb_device device;
  mbi_ids_note ids[MOST_IDS];
  int64_t n;
  void *found;
  mbi_mail *mail;
} late;

static mb_status prepare_late(mb_device where) {
  const mbi_device *device = mbi_device_of(where);
  if (late.mail) return MB_OK;
  late.device = where;
  if (!late.found) MB_TRY(mbi_work_take(&late.found, where, FOUND_BYTES));
  MB_TRY(device->zero(late.found, FOUND_BYTES));
  return device->mail_new(&late.mail, FOUND_BYTES);
}

mb_status mbi_late_ids(int64_t **found, mb_device device, const mbi_ids_note *note) {
  MB_TRY(prepare_late(device));
  if (late.n == MOST_IDS) MB_TRY(mbi_late_ids_settle(device));
  *found = (int64_t *)late.found + 2 * late.n;
  late.ids[late.n++] = *note;
  return MB_OK;
}

mb_status mbi_late_ids_sent(void) { return mbi_device_of(late.device)->mail_send(late.mail, late.found); }

mb_status mbi_late_ids_settle(mb_device device) {
  const void *data;
  int64_t n = late.n;
  if (n == 0 || device != late.device || current) return MB_OK;
  late.n = 0;
  MB_TRY(mbi_device_of(device)->mail_open(&data, late.mail));
  mb_status status = report_found(data, late.ids, n);
  if (status == MB_OK) return MB_OK;
  MB_TRY(mbi_device_of(device)->zero(late.found, FOUND_BYTES));
  return report_found(data, late.ids, n);
}

mb_status mbi_capture_settle(mb_device device) {
  MB_TRY(mbi_late_ids_settle(device));
  for (mb_graph *graph = current ? NULL : with_ids; graph; graph = graph->next)
    if (graph->device == device) MB_TRY(look(graph, graph->launches));
  return MB_OK;
}

static mb_status send_found(mb_graph *graph) {
  if (graph->n_ids == 0) return MB_OK;
  return mbi_device_of(graph->device)->mail_send(graph->mail[graph->launches++ % LAG], found_of(graph));
}

static mb_status expect_ids(mb_graph *graph) {
  const mbi_device *device = mbi_device_of(graph->device);
  if (graph->n_ids == 0) return MB_OK;
  for (int i = 0; i < LAG; i++) MB_TRY(device->mail_new(&graph->mail[i], FOUND_BYTES));
  graph->next = with_ids;
  with_ids = graph;
  return MB_OK;
}

static void forget_ids(mb_graph *graph) {
  for (mb_graph **at = &with_ids; *at; at = &(*at)->next)
    if (*at == graph) {
      *at = graph->next;
      break;
    }
  for (int i = 0; i < LAG; i++)
    if (graph->mail[i]) mbi_device_of(graph->device)->mail_free(graph->mail[i]);
}

// ----- life ---------------------------------------------------------------------------------------------------

// Puts the host back to where it was when the capture began.
static void step_back(mb_graph *graph) {
  for (int64_t i = 0; i < graph->n_leaves; i++) {
    graph->leaves[i].after = graph->leaves[i].tensor->grad_is_zero;
    graph->leaves[i].tensor->grad_is_zero = graph->leaves[i].first;
  }
  mb_rng_set(graph->key[0], graph->key[1], graph->key[2]);
  mbi_blocks_belong_to(NULL);
  graph->is_capturing = 0;
  current = NULL;
}

void mb_graph_release(mb_graph *graph) {
  if (!graph) return;
  const mbi_device *device = mbi_device_of(graph->device);
  if (graph->is_capturing) {
    mbi_captured *nothing;
    step_back(graph);
    device->end_capture(&nothing, 0);
  }
  forget_ids(graph);
  if (graph->captured) device->captured_free(graph->captured);
  for (int64_t i = 0; i < graph->n_leaves; i++) mb_tensor_release(graph->leaves[i].tensor);
  for (int64_t i = 0; i < graph->n_sites; i++) mb_tensor_release(graph->sites[i].memory);
  if (graph->on_device) mbi_work_give(graph->device, graph->on_device, TABLE_BYTES + FOUND_BYTES);
  mbi_pool_release(graph->pool);
  mbi_free(graph->table), mbi_free(graph->leaves), mbi_free(graph->sites);
  mbi_free(graph);
}

static mb_status begin(mb_graph *graph, mb_graph *sharing) {
  void *memory;
  const mbi_device *device = mbi_device_of(graph->device);
  if (sharing) mbi_pool_retain(graph->pool = sharing->pool);
  else MB_TRY(mbi_pool_new(&graph->pool, graph->device));
  MB_TRY(mbi_calloc(&memory, who, CELLS, sizeof *graph->table));
  graph->table = memory;
  MB_TRY(mbi_work_take(&graph->on_device, graph->device, TABLE_BYTES + FOUND_BYTES));
  MB_TRY(device->zero(found_of(graph), FOUND_BYTES));
  mb_rng_get(&graph->key[0], &graph->key[1], &graph->key[2]);
  graph->used = KEY_CELLS;
  MB_TRY(device->begin_capture(graph->on_device, graph->key));
  graph->is_capturing = 1;
  mbi_blocks_belong_to(graph->pool);
  current = graph;
  return MB_OK;
}

mb_status mb_graph_begin(mb_graph **out, mb_device device, mb_graph *sharing) {
  *out = NULL;
  void *memory;
  MB_TRY(mb_device_check(device));
  if (current) MB_FAIL(MB_ERR_STATE, "mb_graph_begin: a graph is being captured already; graphs hold no graphs");
  if (!mbi_device_of(device)->begin_capture)
    MB_FAIL(MB_ERR_DEVICE, "mb_graph_begin: device %s captures nothing", mbi_device_of(device)->name);
  if (sharing && sharing->device != device) MB_FAIL(MB_ERR_ARG, "mb_graph_begin: the graph to share memory with is on another device");
  MB_TRY(mbi_calloc(&memory, "mb_graph_begin", 1, sizeof(mb_graph)));
  mb_graph *graph = memory;
  graph->device = device;
  mb_status status = begin(graph, sharing);
  if (status == MB_OK) *out = graph;
  else mb_graph_release(graph);
  return status;
}

mb_status mb_graph_end(mb_graph *graph) {
  uint64_t seed, step, stream;
  if (!graph || !graph->is_capturing) MB_FAIL(MB_ERR_STATE, "mb_graph_end: %s", graph ? "the graph is captured already" : "the graph is NULL");
  mb_rng_get(&seed, &step, &stream);
  step_back(graph);
  graph->draws = stream - graph->key[2];
  MB_TRY(mbi_device_of(graph->device)->end_capture(&graph->captured, 1));
  if (seed != graph->key[0] || step != graph->key[1] || stream < graph->key[2])
    MB_FAIL(MB_ERR_STATE, "mb_graph_end: the generator was set during the capture; set it before");
  return expect_ids(graph);
}

// ----- launching ----------------------------------------------------------------------------------------------

int64_t mb_graph_sites(const mb_graph *graph) { return graph ? graph->n_sites : 0; }

int mb_graph_fits(const mb_graph *graph) {
  for (int64_t i = 0; graph && i < graph->n_leaves; i++)
    if (graph->leaves[i].before >= 0 && graph->leaves[i].before != graph->leaves[i].tensor->grad_is_zero) return 0;
  return graph != NULL;
}

mb_status mb_graph_lend(mb_graph *graph) {
  if (current) MB_FAIL(MB_ERR_STATE, "mb_graph_lend: a graph is being captured, which has its own memory");
  mbi_blocks_belong_to(graph ? graph->pool : NULL);
  return MB_OK;
}

mb_status mb_graph_launch(mb_graph *graph) {
  if (!graph || !graph->captured) MB_FAIL(MB_ERR_STATE, "mb_graph_launch: %s", graph ? "the graph was not captured to its end" : "the graph is NULL");
  if (current) MB_FAIL(MB_ERR_STATE, "mb_graph_launch: a graph is being captured; graphs hold no graphs");
  if (!mb_graph_fits(graph))
    MB_FAIL(MB_ERR_STATE, "mb_graph_launch: other gradients count as zero than at the capture: the graph would add to old ones, or write over new ones");
  const mbi_device *device = mbi_device_of(graph->device);
  MB_TRY(look(graph, graph->launches - LAG + 1));
  mb_rng_get(&graph->table[0], &graph->table[1], &graph->table[2]);
  MB_TRY(device->copy_in(graph->on_device, graph->table, (size_t)graph->used * sizeof *graph->table));
  MB_TRY(device->replay(graph->captured));
  for (int64_t i = 0; i < graph->n_leaves; i++) {
    mb_tensor *t = graph->leaves[i].tensor;
    t->grad_is_zero = graph->leaves[i].after;
    if (t->grad) mbi_touch(t->grad);
  }
  mb_rng_set(graph->table[0], graph->table[1], graph->table[2] + graph->draws);
  return send_found(graph);
}
