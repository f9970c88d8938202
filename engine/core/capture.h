// SPDX-License-Identifier: MIT
//
// capture.h: what the rest of the engine has to do with a graph that is being captured (mb_graph_begin). Only the device's
// work is noted; what a call does on the host is done once, at the capture. So whatever a replay must do there again, or check
// first, is told to the graph.
#ifndef MBI_CAPTURE_H
#define MBI_CAPTURE_H
#include "core/tensor.h"

// Whether work of this device is being noted.
int mbi_capture_is_on(mb_device device);

// Room for `count` numbers of 8 bytes that the host sends along with every replay: where it writes them, and where the
// device reads them.
mb_status mbi_capture_cells(uint64_t **host, const uint64_t **device, int64_t count);

// A program has been run: from `first` of the table's cells on stands what it takes. `memory`, which may be NULL, stays alive.
mb_status mbi_capture_program(const void *program, const uint64_t *host, mb_tensor *memory);
// Where run `site` of the program has its cells, or NULL if that is no run of it.
uint64_t *mbi_capture_site(mb_graph *graph, int64_t site, const void *program);

// Ids that a call was given: what an error about them says.
typedef struct mbi_ids_note {
  const char *who, *argument, *what; // texts that stay
  int64_t limit;
  mbi_shape shape;
} mbi_ids_note;
// Fails: element `flat` of the ids is `id`.
mb_status mbi_id_outside(const mbi_ids_note *note, int64_t flat, int64_t id);
// In a capture, where nobody waits for a check: place on the device for what clean_ids finds. Each replay is followed by a copy
// of it to the host, which is looked at when the host has waited anyway, or two launches later.
mb_status mbi_capture_ids(int64_t **found, const mbi_ids_note *note);
// The same without a capture: found on the device for a check whose result is sent behind it (mbi_late_ids_sent).
mb_status mbi_late_ids(int64_t **found, mb_device device, const mbi_ids_note *note);
mb_status mbi_late_ids_sent(void);
// Fails if a late check has found an id that is out of range; waits for the last one alone. Call before anything is learned.
mb_status mbi_late_ids_settle(mb_device device);
// The same, and of replays. Call when the host has waited for the device.
mb_status mbi_capture_settle(mb_device device);

// A leaf's gradient is about to be read or written: whether it counts as zero decides what is noted. Call before
// grad_is_zero is looked at (`reads`) or set. Fails for want of memory alone.
mb_status mbi_capture_leaf(mb_tensor *leaf, int reads);
#endif
