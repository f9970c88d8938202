// SPDX-License-Identifier: MIT
//
// test_system.c: the system layer: paths, locks, hashes, tensor files and signals, with what they say when
// the system refuses.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/sha256.h"

static char root[64]; // a fresh folder, removed at the end
static char paths[8][256];

// The path of `name` in the test's folder; eight results are valid at a time.
static const char *in(const char *name) {
  static int turn;
  char *path = paths[turn++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", root, name);
  return path;
}

static void put(const char *path, const char *text) {
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL);
  CHECK(fputs(text, file) >= 0);
  CHECK(fclose(file) == 0);
}

static mb_tensor *numbers(mb_dtype dtype, int64_t count) {
  mb_tensor *t;
  int32_t values[100];
  unsigned char bytes[100];
  float floats[100];
  for (int i = 0; i < 100; i++) values[i] = i - 50, bytes[i] = (unsigned char)(3 * i), floats[i] = 0.25f * (float)i;
  const void *data = dtype == MB_I32 ? (void *)values : dtype == MB_U8 ? (void *)bytes : (void *)floats;
  CHECK_OK(mb_from_host(&t, dtype, 1, &count, MB_CPU, data));
  return t;
}

static void paths_are_made_named_and_removed(void) {
  CHECK_EQ(mb_path_kind_of(in("a")), MB_PATH_NONE);
  CHECK_OK(mb_path_make_folder(in("a/b//c/")));
  CHECK_OK(mb_path_make_folder(in("a/b/c")));
  CHECK_EQ(mb_path_kind_of(in("a/b/c")), MB_PATH_FOLDER);
  put(in("a/file"), "hello");
  CHECK_EQ(mb_path_kind_of(in("a/file")), MB_PATH_FILE);
  CHECK_FAILS(MB_ERR_IO, "a/file' is there and is not a folder", mb_path_make_folder(in("a/file/x")));
  CHECK_FAILS(MB_ERR_IO, "a/file' is there and is not a folder", mb_path_make_folder(in("a/file")));

  int64_t bytes = -1;
  CHECK_OK(mb_path_size(&bytes, in("a/file")));
  CHECK_EQ(bytes, 5);
  CHECK_FAILS(MB_ERR_IO, "is a folder", mb_path_size(&bytes, in("a")));
  CHECK_FAILS(MB_ERR_IO, "is a device", mb_path_size(&bytes, "/dev/null"));
  CHECK_FAILS(MB_ERR_IO, "No such file", mb_path_size(&bytes, in("none")));
  CHECK_EQ(bytes, 5);

  CHECK_OK(mb_path_rename(in("a/file"), in("a/b/other")));
  CHECK_EQ(mb_path_kind_of(in("a/file")), MB_PATH_NONE);
  CHECK_FAILS(MB_ERR_IO, "a/file' to", mb_path_rename(in("a/file"), in("a/x")));
  put(in("a/x"), "second");
  CHECK_OK(mb_path_rename(in("a/x"), in("a/b/other"))); // replaces
  CHECK_OK(mb_path_size(&bytes, in("a/b/other")));
  CHECK_EQ(bytes, 6);
  CHECK_OK(mb_path_sync(in("a/b/other")));
  CHECK_OK(mb_path_sync(in("a")));
  CHECK_FAILS(MB_ERR_IO, "cannot open", mb_path_sync(in("none")));

  CHECK_OK(mb_path_remove(in("a")));
  CHECK_EQ(mb_path_kind_of(in("a")), MB_PATH_NONE);
  CHECK_FAILS(MB_ERR_IO, "No such file", mb_path_remove(in("a")));
  CHECK_FAILS(MB_ERR_ARG, "refuses", mb_path_remove("/"));
  CHECK_FAILS(MB_ERR_ARG, "refuses", mb_path_remove(in("..")));
  CHECK_FAILS(MB_ERR_ARG, "empty", mb_path_remove(""));
}

static void removing_does_not_follow_links(void) {
  CHECK_OK(mb_path_make_folder(in("kept/inner")));
  put(in("kept/inner/file"), "x");
  CHECK_OK(mb_path_make_folder(in("tree/deep")));
  CHECK(symlink(in("kept"), in("tree/deep/link")) == 0);
  CHECK(symlink(in("nowhere"), in("tree/broken")) == 0);
  CHECK_OK(mb_path_remove(in("tree")));
  CHECK_EQ(mb_path_kind_of(in("tree")), MB_PATH_NONE);
  CHECK_EQ(mb_path_kind_of(in("kept/inner/file")), MB_PATH_FILE);
  CHECK(symlink(in("kept"), in("link")) == 0);
  CHECK_OK(mb_path_remove(in("link")));
  CHECK_EQ(mb_path_kind_of(in("kept/inner/file")), MB_PATH_FILE);
  CHECK_OK(mb_path_remove(in("kept")));
}

static void lists_are_sorted(void) {
  const char *names = "";
  CHECK_OK(mb_path_make_folder(in("list")));
  CHECK_OK(mb_path_list(&names, in("list")));
  CHECK(strcmp(names, "") == 0);
  char name[32], expected[4000] = "";
  for (int i = 199; i >= 0; i--) {
    snprintf(name, sizeof name, "list/%03d", i);
    put(in(name), "");
  }
  put(in("list/line\nbreak"), "");
  for (int i = 0; i < 200; i++) {
    snprintf(name, sizeof name, "%03d\n", i);
    strcat(expected, name);
  }
  CHECK_OK(mb_path_list(&names, in("list")));
  CHECK(strcmp(names, expected) == 0);
  CHECK_FAILS(MB_ERR_IO, "cannot list", mb_path_list(&names, in("none")));
  CHECK(names == NULL);
  CHECK_FAILS(MB_ERR_IO, "cannot list", mb_path_list(&names, in("list/000")));
  CHECK_OK(mb_path_remove(in("list")));
}

static void absolute_paths(void) {
  const char *path;
  char real[4096], expected[4200];
  CHECK(realpath(root, real) != NULL);
  CHECK(chdir(root) == 0);
  CHECK_OK(mb_path_absolute(&path, "./."));
  CHECK(strcmp(path, real) == 0);
  CHECK_OK(mb_path_absolute(&path, "not/there"));
  snprintf(expected, sizeof expected, "%s/not/there", real);
  CHECK(strcmp(path, expected) == 0);
  CHECK_OK(mb_path_absolute(&path, "/not/there/either"));
  CHECK(strcmp(path, "/not/there/either") == 0);
  CHECK_FAILS(MB_ERR_ARG, "empty", mb_path_absolute(&path, ""));
  CHECK(path == NULL);
  CHECK(chdir("/") == 0);
}

// What a child process does with the lock: 0 got it, 1 refused, 2 anything else.
static int try_lock_elsewhere(const char *path, char *text, size_t size) {
  int pipes[2];
  CHECK(pipe(pipes) == 0);
  pid_t child = fork();
  if (child == 0) {
    int handle;
    mb_status status = mb_path_lock(&handle, path);
    ssize_t n = write(pipes[1], mb_last_error(), strlen(mb_last_error()) + 1);
    _exit(n < 0 ? 2 : status == MB_OK ? 0 : status == MB_ERR_STATE ? 1 : 2);
  }
  int result;
  close(pipes[1]);
  ssize_t got = read(pipes[0], text, size - 1);
  text[got > 0 ? got : 0] = '\0';
  close(pipes[0]);
  CHECK(waitpid(child, &result, 0) == child);
  return WIFEXITED(result) ? WEXITSTATUS(result) : 2;
}

static void locks_keep_others_out(void) {
  int handle, again;
  char text[512], pid[32];
  snprintf(pid, sizeof pid, "process %ld", (long)getpid());
  CHECK_OK(mb_path_lock(&handle, in("lock")));
  CHECK_EQ(try_lock_elsewhere(in("lock"), text, sizeof text), 1);
  CHECK(strstr(text, pid) != NULL);
  CHECK_FAILS(MB_ERR_STATE, "by this process", mb_path_lock(&again, in("lock")));
  CHECK_EQ(again, -1);
  mb_path_unlock(handle);
  CHECK_EQ(try_lock_elsewhere(in("lock"), text, sizeof text), 0);
  CHECK_OK(mb_path_lock(&handle, in("lock"))); // the child's lock died with it
  mb_path_unlock(handle);
  mb_path_unlock(-1);
  CHECK_FAILS(MB_ERR_IO, "cannot open", mb_path_lock(&handle, in("none/lock")));
}

static void hashes_match_the_standard(void) {
  // FIPS 180-4 examples (NIST CSRC), and a million 'a'.
  static const struct {
    const char *text, *hex;
  } examples[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
  };
  char hex[65], other[65];
  for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
    CHECK_OK(mb_sha256(hex, examples[i].text, (int64_t)strlen(examples[i].text)));
    CHECK(strcmp(hex, examples[i].hex) == 0);
  }
  char *many = malloc(1000000);
  memset(many, 'a', 1000000);
  CHECK_OK(mb_sha256(hex, many, 1000000));
  CHECK(strcmp(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0") == 0);
  FILE *file = fopen(in("many"), "wb");
  CHECK(fwrite(many, 1, 1000000, file) == 1000000 && fclose(file) == 0);
  CHECK_OK(mb_sha256_file(other, in("many")));
  CHECK(strcmp(hex, other) == 0);
  // Every length around the block size, in one piece and in two.
  for (size_t n = 0; n < 200; n++) {
    mbi_sha256 hash;
    mbi_sha256_begin(&hash);
    mbi_sha256_add(&hash, many, n / 3);
    mbi_sha256_add(&hash, many + n / 3, n - n / 3);
    mbi_sha256_end(&hash, other);
    CHECK_OK(mb_sha256(hex, many, (int64_t)n));
    CHECK(strcmp(hex, other) == 0);
  }
  free(many);
  CHECK_FAILS(MB_ERR_IO, "cannot open", mb_sha256_file(hex, in("none")));
  CHECK_FAILS(MB_ERR_IO, "cannot read", mb_sha256_file(hex, root));
}

static void tensor_files_round_trip(void) {
  for (int kind = 0; kind < 3; kind++) {
    mb_dtype dtype = kind == 0 ? MB_F32 : kind == 1 ? MB_I32 : MB_U8;
    int64_t count = 7, size = dtype == MB_U8 ? 1 : 4;
    mb_tensor *t = numbers(dtype, count), *back = numbers(dtype, 5);
    put(in("data"), "head");
    CHECK_OK(mb_tensor_append_file(t, in("data")));
    CHECK_OK(mb_tensor_append_file(t, in("data")));
    int64_t bytes;
    CHECK_OK(mb_path_size(&bytes, in("data")));
    CHECK_EQ(bytes, 4 + 14 * size);
    CHECK_OK(mb_tensor_read_file(back, in("data"), 4 + 9 * size)); // elements 2 .. 6 of the second copy
    unsigned char a[28], b[20];
    CHECK_OK(mb_tensor_to_host(a, t));
    CHECK_OK(mb_tensor_to_host(b, back));
    CHECK(memcmp(a + 2 * size, b, 5 * (size_t)size) == 0);
    CHECK_FAILS(MB_ERR_IO, size == 1 ? "5 bytes were wanted at offset 16, the file has 2 there" : "20 bytes were wanted at offset 52, the file has 8 there",
                mb_tensor_read_file(back, in("data"), 4 + 12 * size));
    CHECK_FAILS(MB_ERR_IO, "has 0 there", mb_tensor_read_file(back, in("data"), 1000));
    CHECK_FAILS(MB_ERR_ARG, "offset is -1", mb_tensor_read_file(back, in("data"), -1));
    mb_tensor_release(t), mb_tensor_release(back);
  }
  // A transposed view is written, and read into, in its own order: 0 3 1 4 2 5.
  int64_t sizes[2] = {2, 3};
  float values[6] = {0, 1, 2, 3, 4, 5}, got[6];
  mb_tensor *base, *view, *flat;
  CHECK_OK(mb_from_host(&base, MB_F32, 2, sizes, MB_CPU, values));
  CHECK_OK(mb_transpose(&view, base, 0, 1));
  CHECK_OK(mb_path_remove(in("data")));
  CHECK_OK(mb_tensor_append_file(view, in("data")));
  flat = numbers(MB_F32, 6);
  CHECK_OK(mb_tensor_read_file(flat, in("data"), 0));
  CHECK_OK(mb_tensor_to_host(got, flat));
  for (int i = 0; i < 6; i++) CHECK_NEAR(got[i], (i % 2) * 3 + i / 2, 0);
  CHECK_OK(mb_fill_(base, 0));
  CHECK_OK(mb_tensor_read_file(view, in("data"), 0));
  CHECK_OK(mb_tensor_to_host(got, base));
  for (int i = 0; i < 6; i++) CHECK_NEAR(got[i], i, 0);
  mb_tensor_release(base), mb_tensor_release(view), mb_tensor_release(flat);

  mb_tensor *t = numbers(MB_F32, 3);
  CHECK_FAILS(MB_ERR_IO, "cannot open", mb_tensor_read_file(t, in("none"), 0));
  CHECK_FAILS(MB_ERR_IO, "cannot write", mb_tensor_append_file(t, in("none/x")));
  CHECK_FAILS(MB_ERR_IO, "cannot write", mb_tensor_append_file(t, root));
  CHECK_FAILS(MB_ERR_ARG, "NULL", mb_tensor_append_file(NULL, in("data")));
  if (access("/dev/full", W_OK) == 0) CHECK_FAILS(MB_ERR_IO, "wrote 0 of 12 bytes to '/dev/full': No space left", mb_tensor_append_file(t, "/dev/full"));
  mb_tensor_release(t);
}

static void a_file_size_limit_is_an_error(void) {
  pid_t child = fork();
  if (child == 0) {
    mb_interrupt_install();
    struct rlimit limit = {100, 100};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(2);
    mb_tensor *t = numbers(MB_F32, 50);
    put(in("limited"), "");
    int refused = mb_tensor_append_file(t, in("limited")) == MB_ERR_IO && strstr(mb_last_error(), "wrote 100 of 200 bytes");
    mb_tensor_release(t);
    _exit(refused ? 0 : 1);
  }
  int result;
  CHECK(waitpid(child, &result, 0) == child);
  CHECK(WIFEXITED(result) && WEXITSTATUS(result) == 0);
}

static void signals_set_a_flag_and_a_second_one_ends(void) {
  mb_interrupt_install();
  CHECK_EQ(mb_interrupted(), 0);
  CHECK(raise(SIGTERM) == 0);
  CHECK_EQ(mb_interrupted(), SIGTERM);
  CHECK(raise(SIGTERM) == 0);
  mb_interrupt_clear();
  CHECK_EQ(mb_interrupted(), 0);
  CHECK(raise(SIGINT) == 0);
  CHECK_EQ(mb_interrupted(), SIGINT);
  pid_t child = fork();
  if (child == 0) {
    raise(SIGINT);
    _exit(0);
  }
  int result;
  CHECK(waitpid(child, &result, 0) == child);
  CHECK(WIFEXITED(result) && WEXITSTATUS(result) == 130);
  mb_interrupt_clear();
}

// What a child sees after a SIGHUP: 0 no signal, 1 SIGHUP, 2 that a pipe nobody reads ended it, or it is gone otherwise.
static int after_a_hangup(void (*before)(int)) {
  pid_t child = fork();
  if (child == 0) {
    signal(SIGHUP, before);
    mb_interrupt_install();
    raise(SIGHUP);
    int pipes[2];
    if (pipe(pipes) == 0 && mb_interrupted()) close(pipes[0]), (void)!write(pipes[1], "x", 1);
    _exit(mb_interrupted() == 0 ? 0 : mb_interrupted() == SIGHUP ? 1 : 3);
  }
  int result;
  CHECK(waitpid(child, &result, 0) == child);
  return WIFEXITED(result) ? WEXITSTATUS(result) : 2;
}

static void a_hangup_is_a_signal_unless_it_was_ignored(void) {
  CHECK_EQ(after_a_hangup(SIG_DFL), 1);
  CHECK_EQ(after_a_hangup(SIG_IGN), 0); // nohup
}

static void a_patient_process_outlives_a_second_signal(void) {
  mb_interrupt_install();
  mb_interrupt_patient(1);
  for (int i = 0; i < 4; i++) CHECK(raise(SIGINT) == 0);
  CHECK_EQ(mb_interrupted(), SIGINT);
  mb_interrupt_clear();
  CHECK_EQ(mb_interrupted(), 0);
  mb_interrupt_patient(0);
}

static void the_process_knows_itself(void) {
  double before = mb_time();
  usleep(2000);
  CHECK(mb_time() > before);
  CHECK(mb_peak_rss() > 1 << 20);
  CHECK_EQ(mb_process_id(), getpid());
  int file = open("/dev/null", O_RDONLY);
  CHECK_EQ(mb_is_terminal(file), 0);
  CHECK_EQ(mb_terminal_width(file), 80);
  close(file);
}

int main(void) {
  strcpy(root, "/tmp/mb_test_system_XXXXXX");
  CHECK(mkdtemp(root) != NULL);
  paths_are_made_named_and_removed();
  removing_does_not_follow_links();
  lists_are_sorted();
  absolute_paths();
  locks_keep_others_out();
  for (mbi_sha256_portable = 0; mbi_sha256_portable <= 1; mbi_sha256_portable++) hashes_match_the_standard();
  tensor_files_round_trip();
  a_file_size_limit_is_an_error();
  signals_set_a_flag_and_a_second_one_ends();
  a_hangup_is_a_signal_unless_it_was_ignored();
  a_patient_process_outlives_a_second_signal();
  the_process_knows_itself();
  CHECK_OK(mb_path_remove(root));
  return check_end();
}
