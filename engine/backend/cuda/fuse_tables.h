// SPDX-License-Identifier: MIT
//
// fuse_tables.h: how the parts of a fused program's pass are shared out among threads and blocks. A pass is a launch for
// each of its shapes:
//
//   ELEMENTS  a block takes a stretch of a part, a thread LANES neighbouring elements of it; nothing is reduced
//   PARTS     a block takes a unit of a part, and leaves one partial result a reduction; they are joined by a second launch
//   ROWS      a block takes a row, and is done with it
//   COLUMNS   a block takes some rows of a strip of columns, a thread one of the columns; joined by a second launch
//
// What a block takes depends on its part alone, so sums are the same whatever the other parts are. No atomics. No block has
// elements of two parts: the numbers of a part are the same for all of its threads, and they look for it together.
#ifndef MBK_CUDA_FUSE_TABLES_H
#define MBK_CUDA_FUSE_TABLES_H
#include <cstring>
#include <vector>

#include "backend/cuda/simt.h"

namespace mbk {

constexpr int FUSE_THREADS = 256, FUSE_ROUNDS = 8, FUSE_ROWS = 64;
enum FuseShape { FUSE_ELEMENTS, FUSE_PARTS, FUSE_ROWS_SHAPE, FUSE_COLUMNS };

// Begins with the parts as they are, then for each part: `ends`, blocks of all parts up to here;
// `bases`, where its partial results begin; `columns`, columns of all parts up to here.
struct FuseTables {
  std::vector<int64_t> host;
  int64_t n_parts, count, partials; // blocks; partial results a reduction

  static constexpr int64_t WORDS = sizeof(mbi_fuse_part) / sizeof(int64_t);
  int64_t ends() const { return WORDS * n_parts; }
  int64_t bases() const { return ends() + n_parts; }
  int64_t columns() const { return bases() + n_parts; }
};

inline FuseTables fuse_tables(const mbi_fuse_run *run, FuseShape shape, int64_t lanes) {
  FuseTables t{std::vector<int64_t>((size_t)((FuseTables::WORDS + 3) * run->n_parts)), run->n_parts, 0, 0};
  int64_t columns = 0;
  memcpy(t.host.data(), run->parts, (size_t)run->n_parts * sizeof *run->parts);
  for (int64_t i = 0; i < run->n_parts; i++) {
    const mbi_fuse_part &p = run->parts[i];
    int64_t all = p.begin % lanes + p.rows * p.columns; // elements from the boundary of wide loads below the part
    int64_t units = ceil_div(all, lanes * FUSE_THREADS * FUSE_ROUNDS), pieces = ceil_div(p.rows, FUSE_ROWS);
    t.host[(size_t)(t.bases() + i)] = t.partials;
    t.count += shape == FUSE_ELEMENTS ? ceil_div(all, lanes * FUSE_THREADS) : shape == FUSE_PARTS ? units
             : shape == FUSE_ROWS_SHAPE ? p.rows : pieces * ceil_div(p.columns, FUSE_THREADS);
    t.partials += shape == FUSE_PARTS ? units : shape == FUSE_COLUMNS ? pieces * p.columns : 0;
    t.host[(size_t)(t.ends() + i)] = t.count;
    t.host[(size_t)(t.columns() + i)] = columns += p.columns;
  }
  return t;
}

} // namespace mbk
#endif
