// SPDX-License-Identifier: MIT
//
// rotary.c: turns pairs (x[i], x[i + D/2]) by position * base^(-2i/D). Sines and cosines are made once for
// each (position, i), in float64, and used for every batch member and head.
#include "backend/cpu/cpu.h"

// y = x turned by one position's angles.
static void turn(real *restrict y, const real *restrict x, int64_t step, const real *restrict cosine, const real *restrict sine,
                 int64_t half) {
  if (step == 1) {
    for (int64_t i = 0; i < half; i++) {
      real a = x[i], b = x[half + i];
      y[i] = a * cosine[i] - b * sine[i];
      y[half + i] = b * cosine[i] + a * sine[i];
    }
  } else {
    for (int64_t i = 0; i < half; i++) {
      real a = x[i * step], b = x[(half + i) * step];
      y[i] = a * cosine[i] - b * sine[i];
      y[half + i] = b * cosine[i] + a * sine[i];
    }
  }
}

mb_status MBK(rotary)(void *y, const mbi_view *x, double base, int64_t first_position, int direction) {
  int64_t T = x->size[1], H = x->size[2], D = x->size[3], half = D / 2, rows = x->size[0] * T * H;
  void *memory;
  MB_TRY(mbi_scratch(&memory, 0, (size_t)(T * D) * sizeof(real)));
  real *angles = memory; // (T, 2, D/2): cosines, sines
#pragma omp parallel if (rows * D >= MBK_PARALLEL_FROM)
  {
#pragma omp for schedule(static)
    for (int64_t t = 0; t < T; t++)
      for (int64_t i = 0; i < half; i++) {
        double angle = (double)(first_position + t) * pow(base, -2.0 * (double)i / (double)D);
        angles[t * D + i] = (real)cos(angle);
        angles[t * D + half + i] = (real)(direction * sin(angle));
      }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
      int64_t h = row % H, t = row / H % T, b = row / H / T;
      turn((real *)y + row * D, (const real *)x->data + b * x->stride[0] + t * x->stride[1] + h * x->stride[2], x->stride[3],
           angles + t * D, angles + t * D + half, half);
    }
  }
  return MB_OK;
}
