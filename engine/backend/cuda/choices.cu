// SPDX-License-Identifier: MIT
//
// choices.cu: see choices.h. A line is the key, the words of the algorithm in hexadecimal, the time, and a hash of all that,
// so that a line which is cut off or damaged is no line.
#include "backend/cuda/choices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "backend/cuda/cache.h"

namespace mbk {
namespace {

constexpr const char *TITLE = "moonbow products 2: ";
constexpr int NUMBERS = sizeof(Product) / sizeof(int64_t), WORDS = sizeof Choice().algorithm / sizeof(uint64_t);

using Table = std::map<std::string, Choice>; // by key

std::string the_machine, used_text;
Table known, used; // of the disk and this process; what products have asked for, or a run has brought
int64_t generation;

std::string line_of(const std::string &key, const Choice &choice) {
  std::string line = key + " ";
  char word[64];
  for (uint64_t part : choice.algorithm) snprintf(word, sizeof word, "%" PRIx64 " ", part), line += word;
  snprintf(word, sizeof word, "%.3f ", choice.microseconds), line += word;
  snprintf(word, sizeof word, "%016" PRIx64 "\n", hash_of(line.data(), line.size()));
  return line + word;
}

// A line without its end; false if it is not one that line_of made.
bool read_line(std::string *key, Choice *choice, const std::string &line) {
  size_t stop = line.rfind(' '), at = stop;
  if (stop == std::string::npos || line.size() - stop - 1 != 16) return false;
  if (strtoull(line.c_str() + stop + 1, nullptr, 16) != hash_of(line.data(), stop + 1)) return false;
  for (int word = WORDS; word >= 0 && at != std::string::npos && at > 0; word--) {
    at = line.rfind(' ', at - 1);
    if (at == std::string::npos) return false;
    if (word == WORDS) choice->microseconds = strtod(line.c_str() + at + 1, nullptr);
    else choice->algorithm[word] = strtoull(line.c_str() + at + 1, nullptr, 16);
  }
  *key = line.substr(0, at);
  return true;
}

// The next line of `text` from *at on, without its end; a last one without an end is none.
bool next_line(std::string *line, const std::string &text, size_t *at) {
  size_t end = text.find('\n', *at);
  if (end == std::string::npos) return false;
  *line = text.substr(*at, end - *at);
  *at = end + 1;
  return true;
}

std::string file_of_machine() {
  char name[48];
  snprintf(name, sizeof name, "products-%016" PRIx64 ".txt", hash_of(the_machine.data(), the_machine.size()));
  return name;
}

// The first line of a key stands: processes that timed it at once agree from then on. A damaged line is passed over.
void read_disk() {
  std::string text = read_cached(file_of_machine()), line;
  size_t at = 0;
  if (!next_line(&line, text, &at) || line != TITLE + the_machine) return;
  std::string key;
  Choice choice;
  while (next_line(&line, text, &at))
    if (read_line(&key, &choice, line)) known.emplace(key, choice);
}

// One write in append mode is not mixed with another process's. A file that cannot be written saves no work, and that is all.
void append_to_disk(const std::string &line) {
  std::string folder = cache_folder(), path = folder + "/" + file_of_machine();
  if (folder.empty()) return;
  int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  struct stat now;
  std::string text = fstat(file, &now) == 0 && now.st_size == 0 ? TITLE + the_machine + "\n" + line : line;
  ssize_t written = write(file, text.data(), text.size());
  (void)written; // a line that is cut off is passed over by who reads it
  close(file);
}

} // namespace

void choices_of_machine(const std::string &machine) {
  the_machine = machine;
  known.clear(), used.clear(), used_text.clear();
  generation++;
  read_disk();
}

std::string key_of(const Product &product) {
  std::string key;
  int64_t numbers[NUMBERS];
  memcpy(numbers, &product, sizeof numbers);
  int said = product.sums ? NUMBERS : product.gelu ? NUMBERS - 1 : NUMBERS - 2;
  for (int i = 0; i < said; i++) key += (i == 0 ? "" : " ") + std::to_string(numbers[i]);
  return key;
}

void use_choice(const std::string &key, const Choice &choice) {
  if (used.emplace(key, choice).second) used_text.clear();
}

bool find_choice(Choice *out, const std::string &key, bool timed) {
  auto found = used.find(key);
  if (found == used.end()) {
    found = known.find(key);
    if (!timed || found == known.end()) return false;
    use_choice(key, found->second);
  }
  *out = found->second;
  return true;
}

void keep_choice(const std::string &key, const Choice &choice) {
  known[key] = choice;
  use_choice(key, choice);
  append_to_disk(line_of(key, choice));
}

const std::string &choices_text() {
  if (!used_text.empty() || used.empty()) return used_text;
  used_text = TITLE + the_machine + "\n";
  for (const auto &entry : used) used_text += line_of(entry.first, entry.second);
  return used_text;
}

mb_status set_choices(const char *given, Fits *fits) {
  std::string text = given, line, key, why;
  size_t at = 0, title = strlen(TITLE);
  Table taken;
  if (text.empty()) return MB_OK;
  if (!next_line(&line, text, &at) || line.compare(0, title, TITLE) != 0)
    return fail(MB_ERR_IO, "the choices of algorithms are no text of this program: '%.60s'", given);
  if (line.substr(title) != the_machine)
    return fail(MB_ERR_STATE, "the choices of algorithms are those of %s, this is %s: products may round differently",
                line.substr(title).c_str(), the_machine.c_str());
  Choice choice;
  while (next_line(&line, text, &at)) {
    if (!read_line(&key, &choice, line)) return fail(MB_ERR_IO, "the choices of algorithms are damaged at '%.60s'", line.c_str());
    if (fits && !fits(&why, key, choice)) return fail(MB_ERR_STATE, "the choices of algorithms are not those of this machine: %s", why.c_str());
    taken[key] = choice;
  }
  for (const auto &entry : taken) used[entry.first] = entry.second;
  used_text.clear();
  generation++;
  return MB_OK;
}

int64_t choices_generation() { return generation; }
const std::string &machine_of_choices() { return the_machine; }

} // namespace mbk
