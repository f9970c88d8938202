// SPDX-License-Identifier: MIT
//
// layout.c: where things lie in a run: the parts as each pass sees them, and the memory of values that are kept between
// passes. Made when a program meets parts that are not those of its last run; a training step meets the same ones.
//
// Parts of the group come first, in the order given, then the others. Buffers of one number a row (column, part) have
// those of the parts one after the other in this order. For a pass over rows a part is a stretch of such a buffer, for a
// pass over parts the whole buffer is one.
#include <string.h>

#include "core/tensor.h"
#include "fuse/fuse.h"

static const char who[] = "mb_program_run";

static mb_status reserve(void **items, int64_t *capacity, int64_t count, size_t size) {
  if (count <= *capacity) return MB_OK;
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)count, size));
  mbi_free(*items);
  *items = memory;
  *capacity = count;
  return MB_OK;
}

// ----- the parts of the run -----------------------------------------------------------------------

static int64_t end_of(const mb_fuse_part *part) { return part->begin + part->rows * part->columns; }

static mb_status check_part(const mb_fuse_part *part, int64_t i, int64_t length, int64_t n_sets) {
  if (part->rows < 1 || part->columns < 1 || part->begin < 0 || part->begin >= length || part->rows > length || part->columns > length ||
      part->rows * part->columns > length - part->begin)
    MB_FAIL(MB_ERR_ARG, "%s: part %lld is (%lld, %lld) from element %lld, a non-empty part of [0, %lld) was expected", who, (long long)i,
            (long long)part->rows, (long long)part->columns, (long long)part->begin, (long long)length);
  if (part->is_stored && !part->is_group) MB_FAIL(MB_ERR_ARG, "%s: part %lld is stored, but not of the group", who, (long long)i);
  if (part->set < 0 || part->set >= n_sets)
    MB_FAIL(MB_ERR_ARG, "%s: part %lld is of set %lld, there are %lld", who, (long long)i, (long long)part->set, (long long)n_sets);
  return MB_OK;
}

// Parts come in the order of their elements, or nearly so, as a rule: insertion is linear then.
static void sort_parts(mbi_fuse_part *parts, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    mbi_fuse_part part = parts[i];
    int64_t at = i;
    for (; at > 0 && parts[at - 1].begin > part.begin; at--) parts[at] = parts[at - 1];
    parts[at] = part;
  }
}

static mb_status check_overlap(const mbi_fuse_part *sorted, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    const mbi_fuse_part *a = &sorted[i - 1], *b = &sorted[i];
    int64_t end = a->begin + a->rows * a->columns;
    if (b->begin < end)
      MB_FAIL(MB_ERR_ARG, "%s: parts [%lld, %lld) and [%lld, %lld) overlap", who, (long long)a->begin, (long long)end, (long long)b->begin,
              (long long)(b->begin + b->rows * b->columns));
  }
  return MB_OK;
}

// The parts as given, and behind them in the order of the buffers.
static mb_status place_parts(mb_program *program, const mb_fuse_part *parts, int64_t n, int64_t length, int64_t n_sets) {
  MB_TRY(reserve((void **)&program->parts, &program->parts_capacity, 2 * n, sizeof *parts));
  memcpy(program->parts, parts, (size_t)n * sizeof *parts);
  mb_fuse_part *ordered = program->parts + n;
  memset(program->total, 0, sizeof program->total);
  for (int group = 1, at = 0; group >= 0; group--) {
    for (int64_t i = 0; i < n; i++) {
      if ((parts[i].is_group != 0) != group) continue;
      MB_TRY(check_part(&parts[i], i, length, n_sets));
      ordered[at++] = parts[i];
      program->total[MB_FUSE_PER_PART]++;
      program->total[MB_FUSE_PER_ROW] += parts[i].rows;
      program->total[MB_FUSE_PER_COLUMN] += parts[i].columns;
    }
    program->total[MB_FUSE_PER_GROUP] = 1;
    if (group) memcpy(program->group_total, program->total, sizeof program->total);
  }
  program->n_group = program->group_total[MB_FUSE_PER_PART];
  if (program->n_group < 1) MB_FAIL(MB_ERR_ARG, "%s: no part is of the group, of %lld", who, (long long)n);
  return MB_OK;
}

// ----- the parts of a pass ------------------------------------------------------------------------

static void passes_extents(const mbi_pass *pass, int *has_parts, int *has_rows) {
  *has_rows = 0;
  *has_parts = pass->n_reductions > 0;
  for (int i = 0; i < pass->n_operands; i++) {
    *has_rows |= pass->spreads[i] == MBI_SPREAD_ROWS || pass->spreads[i] == MBI_SPREAD_COLUMNS;
    *has_parts |= pass->spreads[i] == MBI_SPREAD_PARTS;
  }
  for (int i = 0; i < pass->n_reductions; i++) *has_rows |= pass->reductions[i].spread != MBI_SPREAD_PARTS;
}

static mbi_fuse_part part_for(const mbi_pass *pass, const mbi_fuse_part *part, int has_rows) {
  mbi_fuse_part made = *part;
  switch (pass->domain) {
    case MB_FUSE_PER_PART: made.begin = part->index, made.rows = made.columns = 1; break;
    case MB_FUSE_PER_ROW: made.begin = part->row, made.columns = part->rows, made.rows = 1; break;
    case MB_FUSE_PER_COLUMN: made.begin = part->column, made.rows = 1; break;
    default:
      if (!has_rows) made.columns *= made.rows, made.rows = 1;
  }
  return made;
}

// Neighbours become one where it makes no difference and their numbers are the same.
static void join_parts(mbi_pass *pass) {
  int64_t joined = 0;
  sort_parts(pass->parts, pass->n_parts);
  for (int64_t i = 1; i < pass->n_parts; i++) {
    mbi_fuse_part *last = &pass->parts[joined], *part = &pass->parts[i];
    if (last->begin + last->columns == part->begin && last->set == part->set) last->columns += part->columns;
    else pass->parts[++joined] = *part;
  }
  if (pass->n_parts > 0) pass->n_parts = joined + 1;
}

static mb_status check_reach(const mb_program *program, const mbi_pass *pass) {
  for (int i = 0; i < pass->n_operands; i++) {
    int slot = pass->operands[i].slot;
    if (slot >= 0 && pass->is_all && program->n_group < program->n_parts && mbi_fuse_slot_extent(program, slot) != MB_FUSE_PER_ELEMENT)
      MB_FAIL(MB_ERR_ARG, "%s: array %d has numbers for the group's parts alone, and cannot be reduced over all parts", who, slot);
  }
  return MB_OK;
}

static mb_status place_pass(const mb_program *program, mbi_pass *pass, int64_t n_sets) {
  int has_parts, has_rows;
  const mb_fuse_part *ordered = program->parts + program->n_parts;
  int64_t n = pass->is_all ? program->n_parts : program->n_group;
  passes_extents(pass, &has_parts, &has_rows);
  MB_TRY(check_reach(program, pass));
  MB_TRY(reserve((void **)&pass->parts, &pass->parts_capacity, n, sizeof *pass->parts));
  pass->n_parts = 0;
  mbi_fuse_part part = {0};
  for (int64_t i = 0; i < n; i++) {
    part.begin = ordered[i].begin, part.rows = ordered[i].rows, part.columns = ordered[i].columns, part.index = i, part.set = ordered[i].set;
    if (!pass->is_store || ordered[i].is_stored) pass->parts[pass->n_parts++] = part_for(pass, &part, has_rows);
    part.row += part.rows, part.column += part.columns;
  }
  if (!pass->is_store && pass->domain <= MB_FUSE_PER_PART && n_sets == 1) {
    pass->parts[0] = (mbi_fuse_part){.rows = 1, .columns = pass->domain == MB_FUSE_PER_PART ? n : 1};
    pass->n_parts = 1;
  } else if (!has_parts && !has_rows) {
    join_parts(pass);
  }
  return MB_OK;
}

// ----- memory -------------------------------------------------------------------------------------

// Numbers of counts, for whom no pass does it.
static mb_status fill_counts(const mb_program *program, const mbi_value *value) {
  const mb_fuse_part *ordered = program->parts + program->n_parts;
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)program->n_parts, sizeof(double)));
  int is_double = program->memory->dtype == MB_F64;
  size_t size = is_double ? sizeof(double) : sizeof(float);
  for (int64_t i = 0; i < program->n_parts; i++) {
    int64_t rows = ordered[i].rows, columns = ordered[i].columns;
    int64_t count = value->over == MB_FUSE_ROWS ? rows : value->over == MB_FUSE_COLUMNS ? columns : rows * columns;
    if (is_double) ((double *)memory)[i] = (double)count;
    else ((float *)memory)[i] = (float)count;
  }
  char *data = mbi_data(program->memory);
  mb_status status = mbi_memory_of(program->memory)->copy_in(data + (size_t)program->offsets[value->place] * size, memory,
                                                             (size_t)program->n_parts * size);
  mbi_free(memory);
  return status;
}

static mb_status place_kept(mb_program *program, const mb_tensor *first) {
  enum { ALIGNED = 16 }; // elements: 64 bytes at least
  int64_t used = 0;
  void *memory;
  mb_tensor_release(program->memory);
  mbi_free(program->offsets);
  program->memory = NULL, program->offsets = NULL;
  if (program->n_places == 0) return MB_OK;
  MB_TRY(mbi_calloc(&memory, who, (size_t)program->n_places, sizeof *program->offsets));
  program->offsets = memory;
  for (int v = 0; v < program->n_values; v++) {
    const mbi_value *value = &program->values[v];
    if (!value->is_kept) continue;
    program->offsets[value->place] = used;
    used += (program->total[value->extent] + ALIGNED - 1) / ALIGNED * ALIGNED;
  }
  MB_TRY(mbi_tensor_new(&program->memory, first->storage->device, first->dtype, &(mbi_shape){.ndim = 1, .size = {used}}));
  for (int v = 0; v < program->n_values; v++)
    if (program->values[v].is_kept && program->values[v].kind == MBI_VALUE_COUNT) MB_TRY(fill_counts(program, &program->values[v]));
  return MB_OK;
}

// ----- all together -------------------------------------------------------------------------------

// Room for the numbers of `n_sets` sets, in the program and in its passes.
static mb_status reserve_sets(mb_program *program, int64_t n_sets) {
  if (n_sets <= program->sets_room) return MB_OK;
  size_t count = ((size_t)program->n_values + 1) * (size_t)n_sets;
  for (int i = -1; i < program->n_passes; i++) {
    double **numbers = i < 0 ? &program->numbers : &program->passes[i].numbers;
    void *memory;
    MB_TRY(mbi_calloc(&memory, who, count, sizeof **numbers));
    mbi_free(*numbers);
    *numbers = memory;
  }
  program->sets_room = n_sets;
  return MB_OK;
}

static mb_status make_layout(mb_program *program, const mb_tensor *first, const mb_fuse_part *parts, int64_t n_parts, int64_t n_sets) {
  if (n_sets > 1 && program->has_group)
    MB_FAIL(MB_ERR_ARG, "%s: the program reduces over the group or over all parts, and takes one set of numbers, not %lld", who, (long long)n_sets);
  MB_TRY(reserve_sets(program, n_sets));
  MB_TRY(place_parts(program, parts, n_parts, mbi_numel(first), n_sets));
  program->n_parts = n_parts;
  for (int i = 0; i < program->n_passes; i++) MB_TRY(place_pass(program, &program->passes[i], n_sets));
  return place_kept(program, first);
}

// All parts, sorted by their elements, must be disjoint. Passes have them in other orders.
static mb_status check_disjoint(const mb_fuse_part *parts, int64_t n) {
  int is_sorted = 1;
  for (int64_t i = 1; i < n; i++) is_sorted &= parts[i].begin >= end_of(&parts[i - 1]);
  if (is_sorted) return MB_OK;
  void *memory;
  MB_TRY(mbi_calloc(&memory, who, (size_t)n, sizeof(mbi_fuse_part)));
  mbi_fuse_part *sorted = memory;
  for (int64_t i = 0; i < n; i++) sorted[i] = (mbi_fuse_part){.begin = parts[i].begin, .rows = parts[i].rows, .columns = parts[i].columns};
  sort_parts(sorted, n);
  mb_status status = check_overlap(sorted, n);
  mbi_free(memory);
  return status;
}

mb_status mbi_fuse_layout(mb_program *program, const mb_tensor *first, const mb_fuse_part *parts, int64_t n_parts, int64_t n_sets) {
  const mb_tensor *memory = program->memory;
  if (n_parts < 1) MB_FAIL(MB_ERR_ARG, "%s: %lld parts, at least one was expected", who, (long long)n_parts);
  int fits = !memory || (memory->dtype == first->dtype && memory->storage->device == first->storage->device);
  if (fits && program->n_parts == n_parts && program->n_sets == n_sets && program->length == mbi_numel(first) &&
      memcmp(program->parts, parts, (size_t)n_parts * sizeof *parts) == 0)
    return MB_OK;
  program->n_parts = 0;
  program->is_reduced = 0;
  mb_status status = make_layout(program, first, parts, n_parts, n_sets);
  if (status == MB_OK) status = check_disjoint(parts, n_parts);
  program->n_parts = status == MB_OK ? n_parts : 0;
  program->n_sets = n_sets;
  program->length = mbi_numel(first);
  return status;
}
