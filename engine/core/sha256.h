// SPDX-License-Identifier: MIT
//
// sha256.h: SHA-256 (FIPS 180-4) of bytes that come in pieces.
#ifndef MBI_SHA256_H
#define MBI_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct mbi_sha256 {
  uint32_t state[8];
  uint64_t bytes;          // taken in so far
  unsigned char block[64]; // the last bytes % 64 of them
} mbi_sha256;

void mbi_sha256_begin(mbi_sha256 *hash);
void mbi_sha256_add(mbi_sha256 *hash, const void *data, size_t bytes);
void mbi_sha256_end(mbi_sha256 *hash, char hex[65]); // 64 digits and a NUL; the hash is used up
extern int mbi_sha256_portable; // 1 leaves the processor's SHA instructions aside; for the test of both ways
#endif
