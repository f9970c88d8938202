// SPDX-License-Identifier: MIT
//
// choices.h: which of a library's algorithms a matrix product takes, and whose attention (attention_choice.cu). There are
// several whose bits differ, and the fastest is found by timing, which is not the same twice. So a choice, once made, is
// kept: for the process; on disk, by machine (GPU, driver, library), so that the next process need not time again; and,
// through the text of all choices, in a run's checkpoint, so that the run goes on with the bits it began with.
#ifndef MBK_CUDA_CHOICES_H
#define MBK_CUDA_CHOICES_H
#include <string>

#include "backend/cuda/host.h"

namespace mbk {

// What an algorithm depends on; compared byte by byte, so it is filled from zeros.
struct Product {
  int64_t m, n, k, lda, ldb, ldc, batch, stride_a, stride_b, stride_c;
  int64_t transposes, type, has_bias, beta_is_zero, alignment, rounds, c_is_wide;
  int64_t gelu, sums; // said in a key where they are not 0
};
struct Choice {
  uint64_t algorithm[8]; // what the library makes of it
  double microseconds;   // of a product, when it was chosen
};

// Names the machine, before anything else, and reads what the disk knows of it: "NVIDIA H200, driver 13000, cublasLt 130100".
void choices_of_machine(const std::string &machine);
// What a choice is for, as a text: a product's is its numbers, another's begins with its name.
std::string key_of(const Product &product);
// A choice that a run has brought goes before all; those of the disk and of this process are asked if `timed`.
bool find_choice(Choice *out, const std::string &key, bool timed);
// For this process and, in a file of the cache folder, for later ones.
void keep_choice(const std::string &key, const Choice &choice);
// For this run alone: what was not found out by timing.
void use_choice(const std::string &key, const Choice &choice);
inline bool find_choice(Choice *out, const Product &product, bool timed) { return find_choice(out, key_of(product), timed); }
inline void keep_choice(const Product &product, const Choice &choice) { keep_choice(key_of(product), choice); }
// The machine in the first line, then a line a choice that this process has used or was given; "" before the first.
const std::string &choices_text();
// Takes over the choices of such a text: they go before those of the disk. MB_ERR_STATE if it is of another machine, or `fits`
// knows why a choice cannot be gone by; MB_ERR_IO if it is no such text. Nothing is taken over then.
using Fits = bool(std::string *why, const std::string &key, const Choice &choice);
mb_status set_choices(const char *text, Fits *fits = nullptr);
// Changes whenever choices made so far may not be those to go by.
int64_t choices_generation();
// As choices_of_machine was told.
const std::string &machine_of_choices();

} // namespace mbk
#endif
