// SPDX-License-Identifier: MIT
//
// test_choices.cpp: choices of algorithms are found again by this process, by another over the disk, and by a run over its text;
// lines that are damaged or cut off are passed over on disk and refused in a text; another machine's are not taken.
#include "backend/cuda/choices.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "say.h"

using namespace mbk;

static Product product_of(int64_t m) {
  Product p;
  memset(&p, 0, sizeof p);
  p.m = m, p.n = 768, p.k = 3072, p.lda = 3072, p.ldb = 768, p.ldc = 768, p.batch = 1, p.transposes = 1, p.type = 2, p.alignment = 16;
  p.stride_a = -m;
  return p;
}

static Choice choice_of(uint64_t word) {
  Choice c{};
  for (int i = 0; i < 8; i++) c.algorithm[i] = word * 0x9E3779B97F4A7C15u + (uint64_t)i;
  c.microseconds = 12.5;
  return c;
}

static bool finds(int64_t m, uint64_t word, bool timed = true) {
  Choice found, expected = choice_of(word);
  return find_choice(&found, product_of(m), timed) && memcmp(found.algorithm, expected.algorithm, sizeof found.algorithm) == 0;
}

static std::string file_of(const std::string &folder) {
  std::string command = "ls " + folder, name;
  FILE *list = popen(command.c_str(), "r");
  char text[256] = "";
  if (list && fgets(text, sizeof text, list)) name = std::string(text, strcspn(text, "\n"));
  if (list) pclose(list);
  return folder + "/" + name;
}

static mb_status refused;
static char said[512];
static mb_status note(mb_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(said, sizeof said, format, arguments);
  va_end(arguments);
  return refused = status;
}

static void test_disk(const std::string &folder) {
  Choice found;
  choices_of_machine("one");
  CHECK(!find_choice(&found, product_of(64), true) && choices_text().empty(), "nothing was chosen yet");
  keep_choice(product_of(64), choice_of(1));
  keep_choice(product_of(65), choice_of(2));
  CHECK(finds(64, 1) && finds(65, 2), "found by the process that chose");
  choices_of_machine("one"); // as another process
  CHECK(!finds(64, 1, false), "what is not to be timed does not ask the disk");
  CHECK(finds(64, 1), "found on disk");
  CHECK(choices_text().find("moonbow products 2: one\n") == 0, "the machine is the first line");
  CHECK(choices_text().find("\n65 ") == std::string::npos && choices_text().find("\n64 ") != std::string::npos, "what was used is the text");
  choices_of_machine("two");
  CHECK(!finds(64, 1), "another machine has its own");

  std::string path = file_of(folder);
  FILE *file = fopen(path.c_str(), "ab");
  fputs("64 768 3072 nonsense\n", file);
  fputs("66 768 3072 3072 768 768 1 0 0 0 1 2 0 0 16 0 1 2 3 4 5 6 7 8 12.5 0123456789abcdef\n66 768", file);
  fclose(file);
  choices_of_machine("one");
  CHECK(finds(64, 1) && finds(65, 2) && !find_choice(&found, product_of(66), true), "damaged lines are passed over");
}

static void test_text() {
  choices_of_machine("three");
  keep_choice(product_of(10), choice_of(7));
  std::string text = choices_text();
  choices_of_machine("three");
  keep_choice(product_of(10), choice_of(8)); // what was timed later
  int64_t before = choices_generation();
  CHECK(set_choices(text.c_str()) == MB_OK && choices_generation() != before, "a text is taken");
  CHECK(finds(10, 7) && finds(10, 7, false), "the run's choice goes before the disk's");
  CHECK(choices_text() == text, "and is its text again");
  CHECK(set_choices("") == MB_OK, "an empty text says nothing");

  fail = note;
  choices_of_machine("four");
  CHECK(set_choices(text.c_str()) == MB_ERR_STATE && strstr(said, "those of three, this is four"), "%s", said);
  choices_of_machine("three");
  CHECK(set_choices("PK\3\4\n") == MB_ERR_IO && strstr(said, "no text of this program"), "%s", said);
  std::string damaged = text;
  damaged[text.size() - 30] ^= 1;
  CHECK(set_choices(damaged.c_str()) == MB_ERR_IO && strstr(said, "damaged at '10 768"), "%s", said);
  CHECK(choices_text().empty(), "a text that is refused changes nothing");
  fail = say;
}

int main() {
  begin();
  char folder[] = "/tmp/moonbow-choices-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  setenv("MOONBOW_CACHE", folder, 1);
  test_disk(folder);
  test_text();
  setenv("MOONBOW_CACHE", "", 1);
  choices_of_machine("one");
  keep_choice(product_of(1), choice_of(1));
  CHECK(finds(1, 1), "without a disk a process still knows its own");
  std::string command = std::string("rm -r ") + folder;
  return system(command.c_str()) != 0 || finish();
}
