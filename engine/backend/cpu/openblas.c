// SPDX-License-Identifier: MIT
//
// openblas.c: products by OpenBLAS. The library is held at one thread (blas_threads.h says why); the
// products of a batch, or the tiles of a large one, are shared among OpenMP's threads here. Every element
// of C is the work of one thread, in the order of OpenBLAS's own loop over k.
#include "backend/cpu/blas_threads.h"
#include "backend/cpu/gemm.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

// Products of fewer multiplications are done by the calling thread.
enum { PARALLEL_FROM = 64 * 64 * 32, TILE = 16 };

void mbi_blas_threads(int threads) { openblas_set_num_threads(threads); }

__attribute__((constructor)) static void hold_at_one_thread(void) { mbi_blas_threads(1); }

const char *mbi_openblas_version(void) {
  static char text[64];
  char version[32] = "";
  sscanf(openblas_get_config(), "OpenBLAS %31s", version);
  snprintf(text, sizeof text, "OpenBLAS %s (%s)", version, openblas_get_corename());
  return text;
}

// A batch cut into batch x rows x columns tiles of C.
typedef struct tiling {
  int64_t rows, columns; // tiles to a product
  int64_t height, width; // of a tile
} tiling;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As many tiles as threads, unless the batch alone has enough to share; of all such grids the one whose
// tiles have the shortest border, because each tile reads its border's rows and columns of A and B.
static tiling make_tiling(const mbi_gemm *g, int threads) {
  tiling best = {1, 1, g->m, g->n};
  if (threads == 1 || g->batch >= 4 * threads || g->m * g->n * g->k < PARALLEL_FROM) return best;
  int64_t shortest = INT64_MAX;
  for (int rows = 1; rows <= threads; rows++) {
    if (threads % rows) continue;
    int64_t height = ceil_div(ceil_div(g->m, rows), TILE) * TILE, width = ceil_div(ceil_div(g->n, threads / rows), TILE) * TILE;
    if (height + width >= shortest) continue;
    shortest = height + width;
    best = (tiling){ceil_div(g->m, height), ceil_div(g->n, width), height, width};
  }
  return best;
}

// One tile as a product of its own.
static mbi_gemm tile_of(const mbi_gemm *g, const tiling *t, int64_t index, size_t element) {
  int64_t member = index / (t->rows * t->columns), row = index / t->columns % t->rows * t->height, column = index % t->columns * t->width;
  mbi_gemm tile = *g;
  tile.m = g->m - row < t->height ? g->m - row : t->height;
  tile.n = g->n - column < t->width ? g->n - column : t->width;
  int64_t a = member * g->stride_a + (g->transpose_a ? row : row * g->lda);
  int64_t b = member * g->stride_b + (g->transpose_b ? column * g->ldb : column);
  int64_t c = member * g->stride_c + row * g->ldc + column;
  tile.a = (const char *)g->a + a * (int64_t)element;
  tile.b = (const char *)g->b + b * (int64_t)element;
  tile.c = (char *)g->c + c * (int64_t)element;
  if (g->bias) tile.bias = (const char *)g->bias + column * (int64_t)element;
  return tile;
}

static void one_f32(const mbi_gemm *g) {
  double beta = g->beta;
  if (g->bias) {
    for (int64_t i = 0; i < g->m; i++) memcpy((float *)g->c + i * g->ldc, g->bias, (size_t)g->n * sizeof(float));
    beta = 1;
  }
  cblas_sgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, (float)g->alpha, g->a, (int)g->lda, g->b, (int)g->ldb, (float)beta, g->c, (int)g->ldc);
}

static void one_f64(const mbi_gemm *g) {
  double beta = g->beta;
  if (g->bias) {
    for (int64_t i = 0; i < g->m; i++) memcpy((double *)g->c + i * g->ldc, g->bias, (size_t)g->n * sizeof(double));
    beta = 1;
  }
  cblas_dgemm(CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n,
              (int)g->k, g->alpha, g->a, (int)g->lda, g->b, (int)g->ldb, beta, g->c, (int)g->ldc);
}

static void in_tiles(const mbi_gemm *g, size_t element, void (*one)(const mbi_gemm *)) {
  tiling t = make_tiling(g, omp_get_max_threads());
  int64_t tiles = g->batch * t.rows * t.columns;
  if (tiles == 1) { // even a parallel region of one thread costs more than the smallest products
    one(g);
    return;
  }
#pragma omp parallel for schedule(static) if (g->batch * g->m * g->n * g->k >= PARALLEL_FROM)
  for (int64_t i = 0; i < tiles; i++) {
    mbi_gemm tile = tile_of(g, &t, i, element);
    one(&tile);
  }
}

void mbi_openblas_f32(const mbi_gemm *g) { in_tiles(g, sizeof(float), one_f32); }
void mbi_openblas_f64(const mbi_gemm *g) { in_tiles(g, sizeof(double), one_f64); }
