// SPDX-License-Identifier: MIT
//
// spectra.h: rules of single numbers that the host and every device must agree on to the bit: at which scale a matrix is
// looked at, what the next sketch starts from.
#ifndef MBI_SPECTRA_H
#define MBI_SPECTRA_H
#include <float.h>
#include <math.h>

#include "core/rng.h"

// The power of two that brings a matrix of this norm near 1, within what the dtype can hold: times a random number it is still
// a number. 1 for a norm that is 0 or not finite.
MBI_EVERYWHERE static inline double mbi_scale_of(double norm, int is_f32) {
  int least = is_f32 ? -126 : -1000, most = is_f32 ? 120 : 1000;
  if (!(norm > 0) || !(norm <= DBL_MAX)) return 1;
  int exponent = -ilogb(norm);
  return ldexp(1.0, exponent < least ? least : exponent > most ? most : exponent);
}

// A sketch that starts from the directions of the last one: what n random numbers are multiplied by that are a row of their own,
// about as long as a direction; and that are added to one.
MBI_EVERYWHERE static inline double mbi_behind(int64_t n) { return 1 / sqrt((double)n); }
MBI_EVERYWHERE static inline double mbi_beside(int64_t n) { return 1e-3 / sqrt((double)n); }

// What a row sigma long is multiplied by to be a direction: 0 where beside the largest it is rounding.
MBI_EVERYWHERE static inline double mbi_direction(double sigma, double largest) { return sigma > 1e-6 * largest ? 1 / sigma : 0; }
#endif
