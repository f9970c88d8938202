// SPDX-License-Identifier: MIT
//
// cache.h: files that save the next process work, in a folder of the user's: MOONBOW_CACHE, "" for none, otherwise
// moonbow in the folder for such files. A file that cannot be read or written is none.
#ifndef MBK_CUDA_CACHE_H
#define MBK_CUDA_CACHE_H
#include <cstdint>
#include <string>

namespace mbk {

// Made if need be; "" if there is none to be had.
std::string cache_folder();
// 32 digits for a text, in the name of the file that is about it.
std::string cache_name(const std::string &text);
uint64_t hash_of(const char *text, size_t length);
// What a file has, "" if it is not there.
std::string read_cached(const std::string &name);
// Whole or not at all, also for who reads it at the same time.
void write_cached(const std::string &name, const std::string &contents);
void drop_cached(const std::string &name);

} // namespace mbk
#endif
