// SPDX-License-Identifier: MIT
//
// test_costs.c: bytes and operations that kernels' arguments say, against formulas written out here.
#include "check.h"

#include "backend/costs.h"

static char memory[64];
static void *const some = memory;

static mbi_view view(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  return (mbi_view){.data = memory, .ndim = 2, .size = {rows, columns}, .stride = {row_stride, column_stride}};
}

#define COST(type) (mbi_cost){.dtype = (type)}
#define SAYS(cost, expected_bytes, expected_flops, text)  \
  do {                                                    \
    CHECK((cost).bytes == (double)(expected_bytes));      \
    CHECK((cost).flops == (double)(expected_flops));      \
    CHECK(strcmp((cost).shape, (text)) == 0);             \
  } while (0)

static void elementwise(void) {
  mbi_view out = view(3, 5, 5, 1), row = view(3, 5, 0, 1), column = view(3, 5, 1, 0);
  mbi_cost c = COST(MB_F32);
  mbi_cost_binary(&c, MBI_ADD, &out, &row, &column);
  SAYS(c, 4 * (15 + 5 + 3), 15, "(3, 5)");
  c = COST(MB_BF16);
  mbi_cost_axpby(&c, &out, &out, 2, 0);
  SAYS(c, 2 * 30, 15, "(3, 5)");
  c = COST(MB_F64);
  mbi_cost_axpby(&c, &out, &row, 2, 1);
  SAYS(c, 8 * (2 * 15 + 5), 45, "(3, 5)");
  c = COST(MB_F32);
  mbi_cost_binary_backward(&c, MBI_MUL, 0, some, some, &out, &row);
  SAYS(c, 4 * (2 * 15 + 5), 15, "(3, 5)");
  c = COST(MB_F32);
  mbi_cost_reduce(&c, MBI_REDUCE_MAX, some, some, &out, 2, 1); // over columns: 3 are kept
  SAYS(c, 4 * (15 + 3) + 4 * 3, 15, "(3, 5)");
  c = COST(MB_BF16);
  mbi_cost_sum_over(&c, some, 1, &out, 2);
  CHECK_EQ(c.bytes, 2 * mbi_view_elements(&out) + 4 * 2 * 3);
  c = COST(MB_F32);
  mbi_cost_round_stochastic(&c, some, some, 100, 1, 2, 3);
  SAYS(c, 600, 0, "100");
}

static void products(void) {
  mbi_gemm g = {.m = 7, .n = 11, .k = 13, .alpha = 1, .a = some, .b = some, .c = some, .lda = 13, .ldb = 11, .ldc = 11, .batch = 1};
  mbi_cost c = COST(MB_BF16);
  mbi_cost_gemm(&c, &g);
  SAYS(c, 2 * (7 * 13 + 13 * 11 + 7 * 11), 2 * 7 * 11 * 13, "m 7, n 11, k 13, rows apart");
  g.lda = g.ldb = g.ldc = 16;
  c = COST(MB_BF16);
  mbi_cost_gemm(&c, &g);
  SAYS(c, 2 * (7 * 13 + 13 * 11 + 7 * 11), 2 * 7 * 11 * 13, "m 7, n 11, k 13");
  CHECK(c.is_product);
  g.lda = 13, g.ldb = g.ldc = 11;
  g.beta = 1;
  c = COST(MB_F32);
  mbi_cost_gemm(&c, &g);
  SAYS(c, 4 * (7 * 13 + 13 * 11 + 2 * 7 * 11), 2 * 7 * 11 * 13, "m 7, n 11, k 13");
  g.beta = 0, g.bias = some, g.batch = 3, g.stride_a = 7 * 13, g.stride_c = 7 * 11; // members share B: rows of one product
  c = COST(MB_F32);
  mbi_cost_gemm(&c, &g);
  SAYS(c, 4 * (3 * 7 * 13 + 13 * 11 + 3 * 7 * 11 + 11), 3 * 2 * 7 * 11 * 13, "m 21, n 11, k 13");
  g.stride_b = 13 * 11, g.bias = NULL;
  c = COST(MB_F32);
  mbi_cost_gemm(&c, &g);
  SAYS(c, 4 * 3 * (7 * 13 + 13 * 11 + 7 * 11), 3 * 2 * 7 * 11 * 13, "m 7, n 11, k 13, batch 3");
  mbi_gemm gelu = {.m = 7, .n = 16, .k = 24, .alpha = 1, .a = some, .b = some, .c = some, .aux = some, .lda = 24, .ldb = 16, .ldc = 16,
                   .batch = 1, .gelu = MBI_GELU_OF};
  c = COST(MB_BF16);
  mbi_cost_gemm(&c, &gelu);
  SAYS(c, 2 * (7 * 24 + 24 * 16 + 2 * 7 * 16), 2 * 7 * 16 * 24, "m 7, n 16, k 24, gelu");
  gelu.gelu = MBI_GELU_SLOPE, gelu.lda = 25;
  c = COST(MB_BF16);
  mbi_cost_gemm(&c, &gelu);
  SAYS(c, 2 * (7 * 24 + 24 * 16 + 2 * 7 * 16), 2 * 7 * 16 * 24, "m 7, n 16, k 24, gelu's slope, rows apart");
  mbi_gemm half = {.m = 8, .n = 8, .k = 16, .alpha = 1, .a = some, .b = some, .c = some, .lda = 16, .ldb = 8, .ldc = 8, .batch = 2,
                   .stride_a = 128, .stride_b = 128, .stride_c = 64, .c_is_wide = 1, .half = 1};
  c = COST(MB_BF16);
  mbi_cost_gemm(&c, &half);
  SAYS(c, 2 * (2 * (128 + 128) + 4 * 64), 2 * 2 * 8 * 8 * 16, "m 8, n 8, k 16, batch 2, f16");
  mbi_gemm square = {.m = 9, .n = 9, .k = 5, .alpha = 1, .a = some, .b = some, .c = some, .lda = 5, .ldb = 9, .ldc = 9, .batch = 1};
  c = COST(MB_F32);
  mbi_cost_gemm_symmetric(&c, &square);
  SAYS(c, 4 * (45 + 45 + 81), 9 * 9 * 5, "m 9, n 9, k 5");
}

static void attention(void) {
  mbi_attention s = {2, 4, 3, 8, 1};
  mbi_heads h = {memory, 0, 0, 0};
  mbi_attention_gradients g = {.dout = h, .out = h, .dq = h, .dk = h, .dv = h};
  int64_t heads = 2 * 4 * 3, pairs = 2 * 3 * (4 * 5 / 2);
  mbi_cost c = COST(MB_BF16);
  mbi_cost_attention(&c, &s, &h, some, &h, &h, &h);
  SAYS(c, 4 * heads * 8 * 2 + heads * 4, 4 * 8 * pairs, "batch 2, time 4, heads 3, width 8");
  c = COST(MB_F32);
  mbi_cost_attention_backward(&c, &s, &g, some, &h, &h, &h);
  SAYS(c, 8 * heads * 8 * 4 + heads * 4, 10 * 8 * pairs, "batch 2, time 4, heads 3, width 8");
  g.dq.data = g.dk.data = NULL;
  c = COST(MB_F32);
  mbi_cost_attention_backward(&c, &s, &g, some, &h, &h, &h);
  SAYS(c, 6 * heads * 8 * 4 + heads * 4, 6 * 8 * pairs, "batch 2, time 4, heads 3, width 8");
  s.time = 1; // a new position after 10: 11 keys
  c = COST(MB_F32);
  mbi_cost_attention_cached(&c, &s, &h, &h, &h, &h, 10);
  SAYS(c, (2 * 6 + 2 * 6 * 11) * 8 * 4, 4 * 8 * 6 * 11, "batch 2, time 1, heads 3, width 8");
}

static void layers(void) {
  mbi_cost c = COST(MB_BF16); // statistics are float32
  mbi_cost_layernorm(&c, some, some, some, NULL, some, NULL, some, some, 6, 10, 1e-5);
  SAYS(c, 2 * (120 + 20) + 2 * 6 * 4, 7 * 60, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_rmsnorm(&c, some, some, some, some, some, some, 6, 10, 1e-5);
  SAYS(c, 2 * (4 * 60 + 10) + 6 * 4, 5 * 60, "(6, 10)");
  c = COST(MB_F32);
  mbi_cost_layernorm_backward(&c, some, 1, some, 0, NULL, 0, some, some, some, some, some, 6, 10);
  SAYS(c, 4 * (4 * 60 + 2 * 10) + 2 * 6 * 4, 12 * 60, "(6, 10)");
  c = COST(MB_BF16); // gradients of parameters are float32
  mbi_cost_layernorm_backward(&c, some, 0, some, 1, some, 0, some, some, some, some, some, 6, 10);
  SAYS(c, 2 * (3 * 60 + 10) + 4 * 3 * 10 + 2 * 6 * 4, 13 * 60, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_rmsnorm_backward(&c, some, 0, some, 1, some, some, some, some, 6, 10);
  SAYS(c, 2 * (3 * 60 + 10) + 4 * 2 * 10 + 6 * 4, 9 * 60, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_embedding_backward(&c, some, 1, some, some, 6, 4, 10);
  SAYS(c, 2 * 60 + 4 * 2 * 40 + 4 * 6, 60, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_embedding_backward(&c, some, 0, some, some, 6, 4, 10);
  SAYS(c, 2 * 60 + 4 * 40 + 4 * 6, 60, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_cross_entropy(&c, some, some, NULL, some, 10, 0, some, 6, 0, 6, 10, 0, -1, 1, 1);
  SAYS(c, 2 * 60 + 4 * (2 * 6 + 1 + 1) + 4 * 6, 240, "(6, 10)");
  c = COST(MB_BF16);
  mbi_cost_cross_entropy_backward(&c, some, 0, some, some, 10, some, some, 6, 10, 0, -1);
  SAYS(c, 2 * 120 + 4 * (2 * 6 + 2) + 4 * 6, 240, "(6, 10)");
  c = COST(MB_F32);
  mbi_cost_embedding(&c, some, some, some, 6, 10);
  SAYS(c, 4 * 120 + 4 * 6, 0, "(6, 10)");
}

// w = w - lr g; v = v + w, then the length of v for each row: w and v are read and written, g is read, and w is not read again.
static void fused(void) {
  const mbi_fuse_step steps[] = {
    {.code = MBI_FUSE_NMADD, .out = 0, .in = {1, 3, 0}},
    {.code = MB_FUSE_ADD, .out = 2, .in = {2, 0}},
  };
  const mbi_fuse_reduction norm = {MB_FUSE_NORM, MBI_SPREAD_ROWS, 2, memory};
  const uint8_t spreads[] = {MBI_SPREAD_ELEMENTS, MBI_SPREAD_COLUMNS, MBI_SPREAD_ELEMENTS};
  const mbi_fuse_part parts[] = {{.begin = 0, .rows = 3, .columns = 5}, {.begin = 15, .rows = 1, .columns = 7}};
  mbi_fuse_run run = {.steps = steps, .reductions = &norm, .n_steps = 2, .n_reductions = 1, .n_arrays = 3, .n_uniforms = 1,
                      .spreads = spreads, .parts = parts, .n_parts = 2};
  mbi_cost c = COST(MB_F32);
  mbi_cost_fuse(&c, &run);
  SAYS(c, 4 * (2 * 22 + 12 + 2 * 22 + 4), (2 + 1 + 1) * 22, "22 elements, parts 2, arrays 3, steps 2");
  c = COST(MB_F32);
  mbi_cost_normalize(&c, some, (mb_dtype)MBI_F16, NULL, 0, some, 3, 20, 1, 0);
  SAYS(c, 3 * 20 * (4 + 4 + 2), 3 * 3 * 20, "(3, 20)");
  c = COST(MB_BF16);
  mbi_cost_add_to_diagonal(&c, some, (mb_dtype)MBI_F16, 3, 7, 1);
  SAYS(c, 2 * 2 * 3 * 7, 3 * 7, "(3, 7, 7)");
}

static void spectra(void) {
  mbi_sketch s = {.count = 2, .m = 30, .n = 20, .q = 4};
  mbi_cost c = COST(MB_F32);
  mbi_cost_sketch_pass(&c, &s, 1, MBI_FORMS_Y | MBI_FORMS_T);
  SAYS(c, 2 * (4 * (600 + 120 + 80 + 80) + 8), 2 * 2 * 2 * 4 * 600, "count 2, m 30, n 20, q 4");
  c = COST(MB_F32);
  mbi_cost_sketch_pass(&c, &s, 1, MBI_FORMS_T);
  SAYS(c, 2 * (4 * (600 + 120 + 80) + 8), 2 * 2 * 4 * 600, "count 2, m 30, n 20, q 4");
  mbi_sketch both[2] = {s, {.count = 1, .m = 5, .n = 6, .q = 4}};
  c = COST(MB_F32);
  mbi_cost_sketch_pass(&c, both, 2, MBI_FORMS_Y | MBI_FORMS_T);
  SAYS(c, 2 * (4 * (600 + 120 + 80 + 80) + 8) + 4 * (30 + 20 + 24 + 24) + 8, 2 * 2 * 2 * 4 * 600 + 2 * 2 * 4 * 30, "count 3, shapes 2, q 4");
  c = COST(MB_F32);
  mbi_cost_sketch_draw(&c, &s, 1, 0, 0, 0);
  SAYS(c, 2 * (4 * 80 + 8), 2 * 6 * 80, "count 2, m 30, n 20, q 4");
  both[0].basis = &s, both[0].kept = 3, both[0].mask.wanted = MBI_FINITE | MBI_AGREED;
  c = COST(MB_F32);
  mbi_cost_sketch_draw(&c, both, 1, 0, 0, 0);
  SAYS(c, 2 * (4 * (80 + 60) + 8), 2 * 6 * 80, "count 2, m 30, n 20, q 4");
  c = COST(MB_F32);
  mbi_cost_sketch_keep(&c, both, 1);
  SAYS(c, 2 * (4 * 2 * 80 + 8 * (16 + 4 + 1)), 2 * 2 * 4 * 80, "count 2, m 30, n 20, q 4");
  s.mask.wanted = MBI_FINITE | MBI_STEEP;
  c = COST(MB_F32);
  mbi_cost_sketch_pass(&c, &s, 1, MBI_FORMS_Y | MBI_FORMS_T);
  SAYS(c, 0, 0, "count 2, m 30, n 20, q 4");
  mbi_arrays a = {.count = 2, .most = 7, .all = 12};
  c = COST(MB_F64);
  mbi_cost_norms(&c, &a, 1, MBI_FINITE);
  SAYS(c, 96, 24, "arrays 2, elements 12");
  c = COST(MB_F64);
  mbi_cost_cholesky(&c, NULL, NULL, some, 6, 3);
  SAYS(c, 3 * 2 * 36 * 8, 3 * 6 * 6 * 6 / 3, "count 3, m 6, n 6");
}

// What a profile adds up is what these functions say.
static void profile(void) {
  mb_tensor *a, *b, *c;
  mb_profile_row row;
  const int64_t shape[] = {4, 8}, other[] = {8, 3};
  CHECK_OK(mb_full(&a, MB_F32, 2, shape, MB_CPU, 1));
  CHECK_OK(mb_full(&b, MB_F32, 2, other, MB_CPU, 2));
  CHECK(mb_profile_count() == 0);
  CHECK_FAILS(MB_ERR_STATE, "no profile is on", mb_profile_end());
  CHECK_OK(mb_profile_begin());
  CHECK_FAILS(MB_ERR_STATE, "a profile is on already", mb_profile_begin());
  for (int i = 0; i < 3; i++) {
    CHECK_OK(mb_matmul(&c, a, b, 0, 0));
    mb_tensor_release(c);
  }
  CHECK(mb_profile_count() == 0); // while it is on
  CHECK_OK(mb_profile_end());
  CHECK_OK(mb_matmul(&c, a, b, 0, 0)); // not noted
  mb_tensor_release(c);
  CHECK(mb_profile_count() == 1);
  CHECK_OK(mb_profile_row_at(&row, 0));
  CHECK(strcmp(row.name, "gemm") == 0 && strcmp(row.shape, "m 4, n 3, k 8") == 0);
  CHECK(row.device == MB_CPU && row.dtype == MB_F32 && row.is_product && row.calls == 3 && row.launches == 3);
  CHECK(row.bytes == 3.0 * 4 * (32 + 24 + 12) && row.flops == 3.0 * 2 * 4 * 3 * 8 && row.seconds >= 0);
  CHECK_FAILS(MB_ERR_ARG, "row 1, there are 1", mb_profile_row_at(&row, 1));
  mb_tensor_release(a), mb_tensor_release(b);
}

static void facts(void) {
  mb_device_facts cpu;
  CHECK_OK(mb_device_info(&cpu, MB_CPU));
  CHECK(strcmp(cpu.name, "cpu") == 0 && cpu.multiprocessors == 0);
}

static void stamps(void) {
  int64_t from, to;
  double seconds = -1;
  CHECK_OK(mb_stamp(&from, MB_CPU));
  CHECK_OK(mb_stamp(&to, MB_CPU));
  CHECK_OK(mb_stamp_seconds(&seconds, MB_CPU, from, to));
  CHECK(seconds >= 0);
  CHECK_FAILS(MB_ERR_ARG, "have no time", mb_stamp_seconds(&seconds, MB_CPU, -1, to));
  mb_stamp_release(MB_CPU, from), mb_stamp_release(MB_CPU, -1);
}

int main(void) {
  elementwise(), products(), attention(), layers(), fused(), spectra(), profile(), facts(), stamps();
  return check_end();
}
