// SPDX-License-Identifier: MIT
//
// test_tokens.c: token files of both formats as windows, in the order of llm.c's loader and shuffled; and files that lie about
// themselves. They are written to a folder of their own in TMPDIR.
#include <unistd.h>

#include "check.h"
#include "seed.h"

static char folder[256];

static const char *path_of(const char *name) {
  static char paths[8][320];
  static int next;
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static const char *write_bytes(const char *name, const void *header, size_t header_bytes, const void *data, size_t bytes) {
  const char *path = path_of(name);
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL);
  CHECK(fwrite(header, 1, header_bytes, file) == header_bytes && fwrite(data, 1, bytes, file) == bytes);
  CHECK(fclose(file) == 0);
  return path;
}

// A file of tokens first, first + 1, ...; magic 0 is nanoGPT's format.
static const char *write_tokens(const char *name, int32_t magic, int count, int first) {
  static uint16_t narrow[100000];
  static uint32_t wide[100000];
  int32_t header[256] = {magic, magic == 20240801 ? 7 : 1, count};
  for (int i = 0; i < count; i++) {
    wide[i] = (uint32_t)(first + i);
    narrow[i] = (uint16_t)(first + i);
  }
  size_t width = magic == 20240801 ? 4 : 2;
  return write_bytes(name, header, magic ? sizeof header : 0, width == 4 ? (void *)wide : (void *)narrow, (size_t)count * width);
}

static void in_order(void) {
  // 23 tokens: windows of 4 begin at 0, 4, ..., 16 (the last target is 20); in groups of 2 the fifth is left out.
  const char *paths[] = {write_tokens("a.bin", 20240520, 23, 100), write_tokens("b.bin", 0, 9, 200), write_tokens("c.bin", 20240801, 13, 70000)};
  mb_tokens *t;
  int32_t x[48], y[48];
  CHECK_OK(mb_tokens_open(&t, paths, 3, 4, 1, 0));
  CHECK_EQ(mb_tokens_count(t), 45);
  CHECK_EQ(mb_tokens_windows(t), 5 + 2 + 3);
  CHECK_OK(mb_tokens_batch(x, y, t, 0, 12, 0, 7)); // goes round
  static const int begins[] = {100, 104, 108, 112, 116, 200, 204, 70000, 70004, 70008, 100, 104};
  for (int i = 0; i < 48; i++) {
    CHECK_EQ(x[i], begins[i / 4] + i % 4);
    CHECK_EQ(y[i], x[i] + 1);
  }
  mb_tokens_release(t);
  CHECK_OK(mb_tokens_open(&t, paths, 3, 4, 2, 0));
  CHECK_EQ(mb_tokens_windows(t), 4 + 2 + 2);
  CHECK_OK(mb_tokens_batch(x, y, t, 4, 3, 0, 0));
  CHECK_EQ(x[0], 200);
  CHECK_EQ(x[8], 70000);
  mb_tokens_release(t);
  CHECK_OK(mb_tokens_open(&t, paths, 3, 8, 1, 50257)); // one window in b, of all its tokens
  CHECK_EQ(mb_tokens_windows(t), 2 + 1 + 1);
  CHECK_OK(mb_tokens_batch(x, y, t, 2, 1, 0, 0));
  CHECK_EQ(x[0], 200);
  CHECK_EQ(y[7], 208);
  CHECK_FAILS(MB_ERR_IO, "c.bin' is 70000, tokens are 0 to 50256", mb_tokens_batch(x, y, t, 3, 1, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "1 samples from number -1", mb_tokens_batch(x, y, t, -1, 1, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "0 samples", mb_tokens_batch(x, y, t, 0, 0, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "samples from number 9223372036854775807", mb_tokens_batch(x, y, t, INT64_MAX, 1, 0, 0));
  mb_tokens_release(t);
}

// Each window once an epoch, another order in each; a batch is its samples one by one.
static void shuffled(void) {
  enum { WINDOWS = 999, T = 2 };
  const char *path = write_tokens("s.bin", 0, WINDOWS * T + 1, 0);
  mb_tokens *t;
  int32_t x[WINDOWS * T], y[WINDOWS * T], one[T], target[T], seen[WINDOWS] = {0};
  CHECK_OK(mb_tokens_open(&t, &path, 1, T, 1, 0));
  CHECK_EQ(mb_tokens_windows(t), WINDOWS);
  int in_place = 0, same = 0;
  for (int epoch = 0; epoch < 3; epoch++) {
    CHECK_OK(mb_tokens_batch(x, y, t, epoch * WINDOWS, WINDOWS, 1, 42));
    for (int i = 0; i < WINDOWS; i++) {
      int64_t window = mb_shuffled_index(i, WINDOWS, 42, (uint64_t)epoch);
      CHECK_EQ(x[i * T], window * T);
      CHECK_EQ(y[i * T + 1], window * T + 2);
      CHECK_EQ(seen[window]++, epoch);
      in_place += window == i;
      same += mb_shuffled_index(i, WINDOWS, 43, (uint64_t)epoch) == window;
    }
    CHECK_OK(mb_tokens_batch(one, target, t, epoch * WINDOWS + 500, 1, 1, 42));
    CHECK(memcmp(one, x + 500 * T, sizeof one) == 0 && memcmp(target, y + 500 * T, sizeof target) == 0);
  }
  CHECK(in_place < 20 && same < 20); // about 3 each for orders drawn at random
  mb_tokens_release(t);
}

static void permutations(void) {
  static unsigned char seen[5000];
  for (int64_t count = 1; count < 5000; count = count < 70 ? count + 1 : count * 3 / 2) {
    uint64_t seed = seed_next(), epoch = seed_next() % 5;
    memset(seen, 0, sizeof seen);
    for (int64_t i = 0; i < count; i++) {
      int64_t to = mb_shuffled_index(i, count, seed, epoch);
      CHECK(to >= 0 && to < count && !seen[to]);
      seen[to] = 1;
    }
  }
  CHECK_EQ(mb_shuffled_index(5, 5, 1, 0), -1);
  CHECK_EQ(mb_shuffled_index(-1, 5, 1, 0), -1);
  CHECK_EQ(mb_shuffled_index(0, 0, 1, 0), -1);
  int64_t big = INT64_C(1) << 61;
  for (int i = 0; i < 100; i++) {
    int64_t to = mb_shuffled_index(i, big - 1, 9, 0);
    CHECK(to >= 0 && to < big - 1);
  }
  // Where an index goes is uniform: chi-squared of 16 bins, 15 degrees of freedom, above 50 once in 80 thousand.
  double bins[16] = {0}, chi = 0;
  for (uint64_t seed = 0; seed < 4000; seed++) bins[mb_shuffled_index(3, 1600, seed, 1) / 100]++;
  for (int i = 0; i < 16; i++) chi += (bins[i] - 250) * (bins[i] - 250) / 250;
  CHECK(chi < 50);
}

static void refuse(const char *text, const char *path) {
  mb_tokens *t = NULL;
  mb_status status = mb_tokens_open(&t, &path, 1, 4, 1, 0);
  if (status == MB_OK || !strstr(mb_last_error(), text)) fprintf(stderr, "'%s' was expected, not '%s'\n", text, status ? mb_last_error() : "success");
  CHECK(status != MB_OK && t == NULL && strstr(mb_last_error(), text) && strstr(mb_last_error(), path) && !strchr(mb_last_error(), '\n'));
}

static void refused(void) {
  static const unsigned char zeros[64];
  int32_t header[256] = {20240520, 1, 16};
  refuse("is empty", write_bytes("x", "", 0, "", 0));
  refuse("cannot open", path_of("missing"));
  refuse("is a folder", folder);
  refuse("has 3 bytes, which is no whole number of 16-bit tokens", write_bytes("x", "abc", 3, "", 0));
  refuse("they have 2 in all", write_bytes("x", "abcd", 4, "", 0));
  refuse("has 12 bytes, the header alone has 1024", write_bytes("x", header, 12, "", 0));
  refuse("has 4 bytes, the header alone has 1024", write_bytes("x", header, 4, "", 0));
  refuse("16 tokens, which take 1056 bytes with the header; it has 1024", write_bytes("x", header, sizeof header, "", 0));
  refuse("16 tokens, which take 1056 bytes with the header; it has 1055", write_bytes("x", header, sizeof header, zeros, 31));
  refuse("16 tokens, which take 1056 bytes with the header; it has 1058", write_bytes("x", header, sizeof header, zeros, 34));
  header[1] = 2;
  refuse("version 2, files of 20240520 have version 1", write_bytes("x", header, sizeof header, zeros, 32));
  header[1] = 1;
  static const int32_t lies[] = {0, -1, INT32_MIN, INT32_MAX};
  for (int i = 0; i < 4; i++) {
    header[2] = lies[i];
    refuse("tokens, which take", write_bytes("x", header, sizeof header, zeros, 32));
  }
  static const int32_t others[] = {20240522, 20240326, 20240328, 20240000, 20249999};
  for (int i = 0; i < 5; i++) {
    header[0] = others[i];
    refuse("a file of llm.c's, but not of tokens", write_bytes("x", header, sizeof header, zeros, 32));
  }
  const char *path = write_tokens("x", 0, 100, 0);
  mb_tokens *t;
  CHECK_FAILS(MB_ERR_ARG, "0 files", mb_tokens_open(&t, &path, 0, 4, 1, 0));
  CHECK_FAILS(MB_ERR_ARG, "windows of 0 tokens", mb_tokens_open(&t, &path, 1, 0, 1, 0));
  CHECK_FAILS(MB_ERR_ARG, "in groups of 0", mb_tokens_open(&t, &path, 1, 4, 0, 0));
  CHECK_FAILS(MB_ERR_ARG, "vocabulary of -1", mb_tokens_open(&t, &path, 1, 4, 1, -1));
  CHECK_FAILS(MB_ERR_ARG, "has the 101 tokens of 1 windows of 100 and one more", mb_tokens_open(&t, &path, 1, 100, 1, 0));
  CHECK_FAILS(MB_ERR_ARG, "none of the 1 files", mb_tokens_open(&t, &path, 1, INT32_MAX, INT32_MAX, 0));
  const char *none = "";
  CHECK_FAILS(MB_ERR_ARG, "the path is empty", mb_tokens_open(&t, &none, 1, 4, 1, 0));
  mb_tokens_release(NULL);
}

int main(void) {
  seed_start();
  const char *place = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/moonbow_tokens_XXXXXX", place && *place ? place : "/tmp");
  CHECK(mkdtemp(folder) != NULL);
  in_order();
  shuffled();
  permutations();
  refused();
  CHECK_OK(mb_path_remove(folder));
  return check_end();
}
