// SPDX-License-Identifier: MIT
//
// test_bpe.c: byte-pair encoding of merges made up here: pieces, merges in the order of their ranks, special tokens, threads,
// and what is refused. That GPT-2's own tokens come out, tests/golden/bpe_spec.lua shows.
#include "check.h"
#include "seed.h"
#include "text/bpe.h"

static mb_bpe *open_text(const char *merges) {
  mb_bpe *bpe;
  CHECK_OK(mb_bpe_new(&bpe, merges, (int64_t)strlen(merges), "merges"));
  return bpe;
}

// The ids of a text as numbers with spaces between them.
static const char *ids_of(const mb_bpe *bpe, const char *text, mb_bpe_special special) {
  static char line[4096];
  uint16_t ids[1024];
  int64_t count = -1, length = 0;
  CHECK_OK(mb_bpe_encode(&count, ids, bpe, text, (int64_t)strlen(text), special, 1));
  line[0] = '\0';
  for (int64_t i = 0; i < count; i++) length += sprintf(line + length, i ? " %d" : "%d", ids[i]);
  return line;
}
#define CHECK_IDS(expected, bpe, text, special) CHECK(strcmp(expected, ids_of(bpe, text, special)) == 0)

// Bytes that print have the ids 0.. from '!' on: 'a' is 64, 'b' 65, the space is 220 and the line break 198.
static void merges_by_rank(void) {
  mb_bpe *bpe = open_text("#version: 0.2\nb c\na b\na bc\n\xC4\xA0 a\n");
  CHECK_EQ(mb_bpe_vocab_size(bpe), 261);
  CHECK_IDS("256", bpe, "bc", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("258", bpe, "abc", MB_BPE_SPECIAL_TEXT); // b c before a b
  CHECK_IDS("257", bpe, "ab", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("257 257 258", bpe, "abababc", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("220 258", bpe, " abc", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("259 0", bpe, " a!", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("", bpe, "", MB_BPE_SPECIAL_TEXT);
  mb_bpe_release(bpe);
}

static void classes(void) {
  static unsigned char table[MBI_BPE_CODES / 4];
  int64_t counts[4] = {0};
  mbi_bpe_fill_classes(table);
  for (int64_t code = 0; code < MBI_BPE_CODES; code++) counts[table[code >> 2] >> (code & 3) * 2 & 3]++;
  CHECK_EQ(counts[MBI_BPE_LETTER], 141028); // Unicode 16.0
  CHECK_EQ(counts[MBI_BPE_NUMBER], 1911);
  CHECK_EQ(counts[MBI_BPE_SPACE], 25);
}

// Lengths of the pieces of a text.
static void pieces(void) {
  static const struct {
    const char *text, *lengths;
  } cases[] = {
    {"Hello world", "56"},      {"don't", "32"},          {"we'll've", "233"},     {"DON'T", "311"},       {"a  b", "112"},  {"a   ", "13"},
    {"a\n\nb", "1111"},         {"\t\ta", "111"},         {"a \n b", "122"},       {" '\xE2\x80\x99", "5"}, {"12ab", "22"},  {" 1 a!", "221"},
    {"\xC3\xA9 \xC3\xA9", "23"}, {"\xC2\xA0" "a", "21"},   {"\xE3\x80\x80 x", "32"}, {"\xC2\xBD" "1a", "31"}, {"a\xFF" "b", "111"}, {"\xE2\x82", "2"},
    {"\xED\xA0\x80 ", "31"},    {"\xF0\x9F\x91\x8D!", "5"}, {"'", "1"},             {"'l", "11"},           {" ", "1"},      {"a ", "11"},
  };
  mb_bpe *bpe = open_text("#version: 0.2\na b");
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char lengths[64];
    const unsigned char *p = (const unsigned char *)cases[i].text;
    int64_t left = (int64_t)strlen(cases[i].text), count = 0;
    while (left > 0) {
      int64_t n = mbi_bpe_piece(bpe, p, left);
      CHECK(n > 0 && n < 10 && n <= left);
      lengths[count++] = (char)('0' + n);
      p += n;
      left -= n;
    }
    lengths[count] = '\0';
    if (strcmp(lengths, cases[i].lengths) != 0) fprintf(stderr, "case %zu: %s, %s expected\n", i, lengths, cases[i].lengths);
    CHECK(strcmp(lengths, cases[i].lengths) == 0);
  }
  mb_bpe_release(bpe);
}

static void special_token(void) {
  mb_bpe *bpe = open_text("#version: 0.2\n< |\n");
  CHECK_IDS("257", bpe, "<|endoftext|>", MB_BPE_SPECIAL_TOKEN);
  CHECK_IDS("256 68 77 67 78 69 83 68 87 83 91 29", bpe, "<|endoftext|>", MB_BPE_SPECIAL_TEXT);
  CHECK_IDS("64 257 220 220 257 257 65 256 68", bpe, "a<|endoftext|>  <|endoftext|><|endoftext|>b<|e", MB_BPE_SPECIAL_TOKEN);
  CHECK_IDS("256 257", bpe, "<|<|endoftext|>", MB_BPE_SPECIAL_TOKEN);
  uint16_t ids[64];
  int64_t count = -1;
  CHECK_FAILS(MB_ERR_ARG, "mb_bpe_encode: the text has <|endoftext|> at byte 3", mb_bpe_encode(&count, ids, bpe, "ab <|endoftext|>", 16, MB_BPE_SPECIAL_REFUSE, 1));
  CHECK_EQ(count, -1);
  CHECK_OK(mb_bpe_encode(&count, ids, bpe, "<|endoftext", 11, MB_BPE_SPECIAL_REFUSE, 1));
  CHECK_FAILS(MB_ERR_ARG, "0 threads", mb_bpe_encode(&count, ids, bpe, "a", 1, MB_BPE_SPECIAL_TEXT, 0));
  CHECK_FAILS(MB_ERR_ARG, "-1 bytes", mb_bpe_encode(&count, ids, bpe, "a", -1, MB_BPE_SPECIAL_TEXT, 1));
  CHECK_FAILS(MB_ERR_ARG, "special is 3", mb_bpe_encode(&count, ids, bpe, "a", 1, (mb_bpe_special)3, 1));
  mb_bpe_release(bpe);
}

// The rule itself: the pair with the first merge, the leftmost of equals, until none is left.
static int64_t naive(uint16_t *ids, const mb_bpe *bpe, const unsigned char *p, int64_t n) {
  for (int64_t i = 0; i < n; i++) ids[i] = bpe->of_byte[p[i]];
  for (;;) {
    int64_t at = -1;
    uint16_t best = MBI_BPE_NONE;
    for (int64_t i = 0; i + 1 < n; i++) {
      uint16_t result = mbi_bpe_pair_of(bpe, ids[i], ids[i + 1]);
      if (result < best) {
        best = result;
        at = i;
      }
    }
    if (at < 0) return n;
    ids[at] = best;
    n--;
    for (int64_t i = at + 1; i < n; i++) ids[i] = ids[i + 1];
  }
}

// Merges drawn over a small alphabet: every line joins two tokens there are, and makes one there is not.
static mb_bpe *random_merges(char *names, int most) {
  enum { NAME = 64 };
  char text[16384] = "#version: 0.2\n";
  int count = 3, length = (int)strlen(text);
  for (int i = 0; i < 3; i++) sprintf(names + i * NAME, "%c", "aA-"[i]); // a letter, another, and what is neither
  for (int tries = 0; tries < 400 && count < most; tries++) {
    const char *a = names + NAME * (seed_next() % (uint64_t)count), *b = names + NAME * (seed_next() % (uint64_t)count);
    char made[NAME];
    if (strlen(a) + strlen(b) >= NAME) continue;
    strcat(strcpy(made, a), b);
    int known = 0;
    for (int i = 0; i < count; i++) known |= strcmp(names + NAME * i, made) == 0;
    if (known) continue;
    strcpy(names + NAME * count, made);
    length += sprintf(text + length, "%s %s\n", a, b);
    count++;
  }
  return open_text(text);
}

static void against_the_rule(void) {
  enum { MOST = 3000 };
  static char names[64 * 64];
  static unsigned char text[MOST];
  static uint16_t ids[MOST], expected[MOST];
  for (int round = 0; round < 60; round++) {
    mb_bpe *bpe = random_merges(names, 4 + (int)(seed_next() % 60));
    for (int repeat = 0; repeat < 20; repeat++) {
      int64_t n = 1 + (int64_t)(seed_next() % (repeat < 15 ? 70 : MOST)), letters = 1 + (int64_t)(seed_next() % 3);
      for (int64_t i = 0; i < n; i++) text[i] = (unsigned char)"aA-"[seed_next() % (uint64_t)letters];
      int64_t count = naive(expected, bpe, text, n);
      CHECK_EQ(mbi_bpe_merge(ids, bpe, text, n, n), count);
      CHECK(memcmp(ids, expected, (size_t)count * sizeof *ids) == 0);
    }
    mb_bpe_release(bpe);
  }
}

static void threads_and_back(void) {
  enum { BYTES = 600000 };
  static unsigned char text[BYTES], back[BYTES];
  static uint16_t one[BYTES], many[BYTES];
  static const char alphabet[] = "aaabbc             \n'st1!<|\xC3\xA9\xFF";
  // White space merges too: a cut within it would show.
  mb_bpe *bpe = open_text("#version: 0.2\n\xC4\xA0 \xC4\xA0\n\xC4\x8A \xC4\xA0\na a\naa b\n\xC4\xA0 a\nb c\n\xC4\xA0 b\n\xC3\x83 \xC2\xA9\n");
  for (int round = 0; round < 4; round++) {
    // The last text has no place to cut it at.
    for (int i = 0; i < BYTES; i++) text[i] = round == 3 ? (unsigned char)"ab1"[i / 7 % 3] : (unsigned char)alphabet[seed_next() % (sizeof alphabet - 1)];
    for (int i = 0; i + 13 < BYTES && round < 3; i += 4999) memcpy(text + i, MBI_BPE_ENDOFTEXT, 13);
    int64_t n = 0, m = 0, bytes = 0;
    CHECK_OK(mb_bpe_encode(&n, one, bpe, text, BYTES, MB_BPE_SPECIAL_TOKEN, 1));
    for (int threads = 2; threads < 9; threads += 3) {
      CHECK_OK(mb_bpe_encode(&m, many, bpe, text, BYTES, MB_BPE_SPECIAL_TOKEN, threads));
      CHECK_EQ(n, m);
      CHECK(memcmp(one, many, (size_t)n * sizeof *one) == 0);
    }
    CHECK_OK(mb_bpe_decoded_size(&bytes, bpe, one, n));
    CHECK_EQ(bytes, BYTES);
    CHECK_OK(mb_bpe_decode(back, bpe, one, n));
    CHECK(memcmp(text, back, BYTES) == 0);
  }
  uint16_t beyond[2] = {0, (uint16_t)mb_bpe_vocab_size(bpe)};
  int64_t bytes = -1;
  CHECK_FAILS(MB_ERR_ARG, "token 1 is", mb_bpe_decoded_size(&bytes, bpe, beyond, 2));
  CHECK_FAILS(MB_ERR_ARG, "token 1 is", mb_bpe_decode(back, bpe, beyond, 2));
  CHECK_EQ(bytes, -1);
  mb_bpe_release(bpe);
}

static void refused(void) {
  static const struct {
    const char *merges, *text;
  } cases[] = {
    {"", "line 1: '#version: 0.2' was expected, not ''"},
    {"#version: 0.3\na b\n", "line 1: '#version: 0.2' was expected, not '#version: 0.3'"},
    {"a b\n", "not 'a b'"},
    {"\x01\xFF'quoted' text that is rather long\n", "not '\\x01\\xFF'quoted' text that is '..."},
    {"#version: 0.2\n", "0 lines of merges"},
    {"#version: 0.2\na b\na bc\n", "'merges' line 3: 'bc' is no token: no line above makes it"},
    {"#version: 0.2\nab c\na b\n", "line 2: 'ab' is no token"},
    {"#version: 0.2\na b\na b\n", "line 3: 'a b' makes a token that is there already, with id 256"},
    {"#version: 0.2\na b\nb c\nab c\na bc\n", "line 5: 'a bc' makes a token that is there already, with id 258"},
    {"#version: 0.2\na b c\n", "line 2: two tokens with one space between them were expected, there is a space after 1 bytes"},
    {"#version: 0.2\nab\n", "line 2: two tokens with one space between them were expected, the line ends after 2 bytes"},
    {"#version: 0.2\n\na b\n", "the line ends after 0 bytes"},
    {"#version: 0.2\na b\n\n", "line 3: two tokens with one space between them were expected, the line ends after 0 bytes"},
    {"#version: 0.2\n a b\n", "there is a space after 0 bytes"},
    {"#version: 0.2\na  b\n", "there is a space after 0 bytes"},
    {"#version: 0.2\na \n", "the line ends after 0 bytes"},
    {"#version: 0.2\r\na b\r\n", "not '#version: 0.2\\x0D'"},
    {"#version: 0.2\na b\r\n", "line 2: a byte 0x0D, which begins no character that stands for a byte"},
    {"#version: 0.2\na \xC5\x84\n", "line 2: a byte 0xC5"}, // U+0144, behind the alphabet
    {"#version: 0.2\na \xC2\xAD\n", "line 2: a byte 0xC2"}, // U+00AD, which has a place elsewhere
    {"#version: 0.2\na \xC4", "line 2: a byte 0xC4"},
    {"#version: 0.2\na \xE2\x82\xAC\n", "line 2: a byte 0xE2"},
  };
  mb_bpe *bpe = NULL;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    CHECK(mb_bpe_new(&bpe, cases[i].merges, (int64_t)strlen(cases[i].merges), "merges") == MB_ERR_IO);
    if (!strstr(mb_last_error(), cases[i].text)) fprintf(stderr, "'%s' was expected\n", cases[i].text);
    CHECK(strstr(mb_last_error(), cases[i].text) != NULL);
    CHECK(bpe == NULL && !strchr(mb_last_error(), '\n'));
  }
  CHECK(mb_bpe_new(&bpe, "#version: 0.2\na \0\n", 17, "merges") == MB_ERR_IO);
  CHECK_FAILS(MB_ERR_ARG, "at most", mb_bpe_new(&bpe, "", -1, "merges"));
  CHECK_FAILS(MB_ERR_ARG, "at most", mb_bpe_new(&bpe, NULL, 5, "merges"));
  mb_bpe_release(NULL);
  // 65279 merges are the most that 16 bits can number.
  enum { LINES = 65280, LINE = 16 };
  char *text = malloc(LINES * LINE), *t = text;
  t += sprintf(t, "#version: 0.2\n");
  for (int i = 0; i < LINES; i++) t += sprintf(t, "a b\n");
  CHECK_FAILS(MB_ERR_IO, "65280 lines of merges, 1 to 65279", mb_bpe_new(&bpe, text, t - text, "merges"));
  CHECK_FAILS(MB_ERR_IO, "line 3: 'a b' makes a token", mb_bpe_new(&bpe, text, t - text - 4, "merges"));
  free(text);
}

int main(void) {
  seed_start();
  merges_by_rank();
  classes();
  pieces();
  special_token();
  against_the_rule();
  threads_and_back();
  refused();
  return check_end();
}
