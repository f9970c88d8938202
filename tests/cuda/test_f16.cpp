// SPDX-License-Identifier: MIT
//
// test_f16.cpp: binary16 on the host, all of it: what each of its numbers is, and that every float32 near one, or near the
// middle between two, becomes the one that is nearest, of two the even one.
#include <cmath>

#include "backend/cuda/f16.h"
#include "say.h"

using namespace mbk;

// By the definition.
static double value_of(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  double size = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -size : size;
}

static uint16_t bits_of(float x) { return f16(x).bits; }

static void becomes(float x, int bits) {
  CHECK(bits_of(x) == bits, "%a gives %04x, not %04x", (double)x, bits_of(x), bits);
  CHECK(bits_of(-x) == (bits | 0x8000), "%a gives %04x, not %04x", (double)-x, bits_of(-x), bits | 0x8000);
}

int main() {
  begin();
  for (int bits = 0; bits < 0x10000; bits++) {
    f16 x;
    x.bits = (uint16_t)bits;
    double is = (double)(float)x, should = value_of((uint16_t)bits);
    CHECK(std::isnan(should) ? std::isnan(is) : is == should && std::signbit(is) == std::signbit(should), "%04x is %a, not %a", bits, is, should);
  }
  for (int bits = 0; bits < 0x7c00; bits++) { // up to the largest, beyond which the next would be 65536
    double here = value_of((uint16_t)bits), next = bits == 0x7bff ? 65536 : value_of((uint16_t)(bits + 1));
    float middle = (float)((here + next) / 2);
    CHECK((double)middle == (here + next) / 2, "the middle above %04x is a float", bits);
    becomes((float)here, bits);
    becomes(std::nextafterf(middle, 0), bits);
    becomes(middle, bits + (bits & 1));
    becomes(std::nextafterf(middle, INFINITY), bits + 1);
    becomes(std::nextafterf((float)next, 0), bits + 1);
  }
  becomes(1e30f, 0x7c00), becomes(INFINITY, 0x7c00), becomes(1e-30f, 0), becomes(1e-40f, 0);
  CHECK(std::isnan((float)f16(NAN)), "NaN stays");
  CHECK(f16(1e300).bits == 0x7c00 && f16(0.1).bits == 0x2e66, "doubles");
  return finish();
}
