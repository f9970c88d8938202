// SPDX-License-Identifier: MIT
//
// path.c: files and folders by name: what is there, making, renaming, removing, syncing, locking and
// listing. With these, io/checkpoint.lua builds a folder aside, makes it durable, and gives it its name in
// one step; so each function says exactly what the system refused, and none follows a symbolic link to
// remove what lies behind it.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"

mb_status mbi_refused(const char *who, const char *verb, const char *path) {
  return mbi_fail(MB_ERR_IO, "%s: cannot %s '%s': %s", who, verb, path, strerror(errno));
}

mb_status mbi_check_path(const char *path, const char *who) {
  if (!path || !*path) MB_FAIL(MB_ERR_ARG, "%s: the path is empty", who);
  return MB_OK;
}

mb_path_kind mb_path_kind_of(const char *path) {
  struct stat info;
  if (!path || stat(path, &info) != 0) return MB_PATH_NONE;
  return S_ISDIR(info.st_mode) ? MB_PATH_FOLDER : MB_PATH_FILE;
}

mb_status mb_path_size(int64_t *bytes, const char *path) {
  const char *who = "mb_path_size";
  struct stat info;
  MB_TRY(mbi_check_path(path, who));
  if (stat(path, &info) != 0) return mbi_refused(who, "look at", path);
  if (!S_ISREG(info.st_mode)) MB_FAIL(MB_ERR_IO, "%s: '%s' is %s, a file was expected", who, path, S_ISDIR(info.st_mode) ? "a folder" : "a device");
  *bytes = info.st_size;
  return MB_OK;
}

// ----- making and renaming --------------------------------------------------------------------------

mb_status mb_path_make_folder(const char *path) {
  const char *who = "mb_path_make_folder";
  char part[PATH_MAX];
  MB_TRY(mbi_check_path(path, who));
  size_t length = strlen(path);
  if (length >= sizeof part) MB_FAIL(MB_ERR_ARG, "%s: the path has %zu bytes, at most %zu are possible", who, length, sizeof part - 1);
  // Each '/' but a leading one ends the name of a parent; so does the end of the path.
  for (size_t i = 1; i <= length; i++) {
    if (path[i] != '/' && path[i] != '\0') continue;
    memcpy(part, path, i);
    part[i] = '\0';
    if (mkdir(part, 0777) == 0) continue;
    int reason = errno; // before the next call sets its own
    if (mb_path_kind_of(part) == MB_PATH_FOLDER) continue;
    if (reason == EEXIST || reason == ENOTDIR) MB_FAIL(MB_ERR_IO, "%s: cannot make '%s': '%s' is there and is not a folder", who, path, part);
    errno = reason;
    return mbi_refused(who, "make", part);
  }
  return MB_OK;
}

mb_status mb_path_rename(const char *from, const char *to) {
  const char *who = "mb_path_rename";
  MB_TRY(mbi_check_path(from, who));
  MB_TRY(mbi_check_path(to, who));
  if (rename(from, to) != 0) MB_FAIL(MB_ERR_IO, "%s: cannot rename '%s' to '%s': %s", who, from, to, strerror(errno));
  return MB_OK;
}

mb_status mb_path_absolute(const char **absolute, const char *path) {
  static char result[2 * PATH_MAX + 2];
  const char *who = "mb_path_absolute";
  *absolute = NULL;
  MB_TRY(mbi_check_path(path, who));
  char here[PATH_MAX];
  if (!realpath(path, result)) { // not there (yet): the name it would have
    if (path[0] == '/') here[0] = '\0';
    else if (!getcwd(here, sizeof here)) return mbi_refused(who, "find the current folder for", path);
    if (strlen(path) >= PATH_MAX) MB_FAIL(MB_ERR_ARG, "%s: the path has %zu bytes, at most %d are possible", who, strlen(path), PATH_MAX - 1);
    snprintf(result, sizeof result, "%s%s%s", here, path[0] == '/' ? "" : "/", path);
  }
  *absolute = result;
  return MB_OK;
}

// ----- removing -------------------------------------------------------------------------------------

enum { REMOVE_DEPTH = 64 }; // folders in folders; each level holds one open descriptor

// Removes `name` in the open folder `parent`, and what it holds. Works on descriptors, so that a folder
// swapped for a link meanwhile is not entered. errno tells of a failure; returns 0 or -1.
static int remove_at(int parent, const char *name, int depth) {
  if (unlinkat(parent, name, 0) == 0) return 0;
  if (errno != EISDIR && errno != EPERM) return -1;
  int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return -1;
  DIR *stream = depth < REMOVE_DEPTH ? fdopendir(folder) : NULL;
  if (!stream) {
    int reason = depth < REMOVE_DEPTH ? errno : ELOOP;
    close(folder);
    errno = reason;
    return -1;
  }
  int failed = 0, reason = 0;
  struct dirent *entry;
  while (!failed && (errno = 0, entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    failed = remove_at(folder, entry->d_name, depth + 1) != 0;
  }
  reason = errno;
  closedir(stream);
  errno = reason;
  if (failed || reason != 0) return -1;
  return unlinkat(parent, name, AT_REMOVEDIR);
}

mb_status mb_path_remove(const char *path) {
  const char *who = "mb_path_remove";
  MB_TRY(mbi_check_path(path, who));
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  size_t start = length;
  while (start > 0 && path[start - 1] != '/') start--;
  size_t name = length - start;
  if (name == 0 || (name == 1 && path[start] == '.') || (name == 2 && path[start] == '.' && path[start + 1] == '.'))
    MB_FAIL(MB_ERR_ARG, "%s: refuses to remove '%s'", who, path);
  if (remove_at(AT_FDCWD, path, 0) != 0) return mbi_refused(who, "remove", path);
  return MB_OK;
}

// ----- durability and locks -------------------------------------------------------------------------

mb_status mb_path_sync(const char *path) {
  const char *who = "mb_path_sync";
  MB_TRY(mbi_check_path(path, who));
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return mbi_refused(who, "open", path);
  // Some file systems cannot sync a folder and say EINVAL; there is nothing more to be done then.
  int failed = fsync(file) != 0 && errno != EINVAL, reason = errno;
  close(file);
  errno = reason;
  return failed ? mbi_refused(who, "sync", path) : MB_OK;
}

mb_status mb_path_lock(int *handle, const char *path) {
  const char *who = "mb_path_lock";
  *handle = -1;
  MB_TRY(mbi_check_path(path, who));
  int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return mbi_refused(who, "open", path);
  char holder[32];
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    int reason = errno;
    ssize_t got = pread(file, holder, sizeof holder - 1, 0);
    holder[got > 0 ? got : 0] = '\0';
    close(file);
    errno = reason;
    if (reason != EWOULDBLOCK) return mbi_refused(who, "lock", path);
    long pid = strtol(holder, NULL, 10);
    if (pid > 0) MB_FAIL(MB_ERR_STATE, "%s: '%s' is locked by %s %ld", who, path, pid == (long)getpid() ? "this process," : "process", pid);
    MB_FAIL(MB_ERR_STATE, "%s: '%s' is locked by another process", who, path);
  }
  // The number inside only serves the message above, so a failure to write it is none of the lock.
  int length = snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
  int written = ftruncate(file, 0) == 0 && pwrite(file, holder, (size_t)length, 0) == length;
  (void)written;
  *handle = file;
  return MB_OK;
}

void mb_path_unlock(int handle) {
  if (handle >= 0) close(handle);
}

// ----- listing --------------------------------------------------------------------------------------

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Adds a copy of `name` to a growing list; 0, or -1 when memory is out.
static int push(char ***list, size_t *count, size_t *capacity, const char *name) {
  if (*count == *capacity) {
    size_t wanted = *capacity ? 2 * *capacity : 64;
    char **grown = realloc(*list, wanted * sizeof *grown);
    if (!grown) return -1;
    *list = grown;
    *capacity = wanted;
  }
  char *copy = strdup(name);
  if (!copy) return -1;
  (*list)[(*count)++] = copy;
  return 0;
}

mb_status mb_path_list(const char **names, const char *path) {
  static char *text; // kept until the next call
  const char *who = "mb_path_list";
  *names = NULL;
  MB_TRY(mbi_check_path(path, who));
  DIR *stream = opendir(path);
  if (!stream) return mbi_refused(who, "list", path);
  char **list = NULL;
  size_t count = 0, capacity = 0, bytes = 1;
  mb_status status = MB_OK;
  struct dirent *entry;
  while ((errno = 0, entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || strchr(entry->d_name, '\n')) continue;
    if (push(&list, &count, &capacity, entry->d_name) != 0) {
      errno = ENOMEM;
      break;
    }
    bytes += strlen(entry->d_name) + 1;
  }
  if (errno != 0) status = mbi_refused(who, "list", path);
  closedir(stream);
  free(text);
  text = status == MB_OK ? malloc(bytes) : NULL;
  if (status == MB_OK && !text) status = mbi_fail(MB_ERR_NOMEM, "%s: no memory for the %zu bytes of names in '%s'", who, bytes, path);
  if (count > 0) qsort(list, count, sizeof *list, by_name);
  char *end = text;
  for (size_t i = 0; i < count; i++) {
    if (text) end += sprintf(end, "%s\n", list[i]);
    free(list[i]);
  }
  free(list);
  if (text) *end = '\0';
  *names = text;
  return status;
}
