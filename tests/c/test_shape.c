// SPDX-License-Identifier: MIT
//
// test_shape.c: sizes, strides, broadcasting, dtypes; what no tensor may be (zero-sized, too many
// dimensions, more elements than memory has addresses).
#include "check.h"
#include "core/shape.h"

static mbi_shape shape_of(int ndim, const int64_t *size) {
  mbi_shape s = {0};
  CHECK_OK(mbi_shape_make(&s, "test", ndim, size));
  return s;
}
#define SHAPE(...) shape_of((int)(sizeof(int64_t[]){__VA_ARGS__} / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static void shapes_are_checked(void) {
  mbi_shape s;
  CHECK_OK(mbi_shape_make(&s, "test", 0, NULL));
  CHECK_EQ(mbi_shape_numel(&s), 1);
  CHECK_FAILS(MB_ERR_SHAPE, "test: shape (3, 0) has a size below 1", mbi_shape_make(&s, "test", 2, (int64_t[]){3, 0}));
  CHECK_FAILS(MB_ERR_SHAPE, "(-4)", mbi_shape_make(&s, "test", 1, (int64_t[]){-4}));
  CHECK_FAILS(MB_ERR_SHAPE, "0 to 6 dimensions, not 7", mbi_shape_make(&s, "test", 7, (int64_t[]){1, 1, 1, 1, 1, 1, 1}));
  CHECK_FAILS(MB_ERR_SHAPE, "not -1", mbi_shape_make(&s, "test", -1, NULL));
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mbi_shape_make(&s, "test", 1, (int64_t[]){INT64_MAX}));
  int64_t huge = (int64_t)1 << 31;
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mbi_shape_make(&s, "test", 3, (int64_t[]){huge, huge, huge}));
  // A product that wraps around to something small must not pass.
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mbi_shape_make(&s, "test", 2, (int64_t[]){((int64_t)1 << 32) + 1, (int64_t)1 << 32}));
  CHECK_OK(mbi_shape_make(&s, "test", 2, (int64_t[]){(int64_t)1 << 29, (int64_t)1 << 30}));
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mbi_shape_make(&s, "test", 2, (int64_t[]){(int64_t)1 << 30, (int64_t)1 << 30}));
}

static void texts_never_overflow(void) {
  char text[MBI_SHAPE_TEXT];
  int64_t longest[MB_MAX_DIMS];
  for (int i = 0; i < MB_MAX_DIMS; i++) longest[i] = INT64_MIN;
  CHECK(strlen(mbi_shape_text(text, MB_MAX_DIMS, longest)) < MBI_SHAPE_TEXT);
  CHECK(strcmp(mbi_shape_text(text, 0, NULL), "()") == 0);
  CHECK(strcmp(mbi_shape_text(text, 3, (int64_t[]){4, 64, 768}), "(4, 64, 768)") == 0);
}

static void broadcasting(void) {
  mbi_shape a = SHAPE(5, 1, 3), b = SHAPE(4, 1), scalar = {0}, out;
  CHECK_OK(mbi_shape_broadcast(&out, "test", &a, &b));
  mbi_shape want = SHAPE(5, 4, 3);
  CHECK(mbi_shape_equal(&out, &want));
  CHECK_OK(mbi_shape_broadcast(&out, "test", &scalar, &b));
  CHECK(mbi_shape_equal(&out, &b));
  CHECK_OK(mbi_shape_broadcast(&out, "test", &scalar, &scalar));
  CHECK_EQ(out.ndim, 0);
  mbi_shape c = SHAPE(2);
  CHECK_FAILS(MB_ERR_SHAPE, "a is (5, 1, 3), b is (2)", mbi_shape_broadcast(&out, "test", &a, &c));
  mbi_shape wide = SHAPE((int64_t)1 << 40, 1), tall = SHAPE((int64_t)1 << 40);
  CHECK_FAILS(MB_ERR_SHAPE, "too many elements", mbi_shape_broadcast(&out, "test", &wide, &tall));
}

static void strides_and_dimensions(void) {
  int64_t stride[MB_MAX_DIMS];
  mbi_shape s = SHAPE(2, 3, 4);
  mbi_shape_contiguous_strides(&s, stride);
  CHECK(stride[0] == 12 && stride[1] == 4 && stride[2] == 1);
  int d;
  CHECK_OK(mbi_dim(&d, "test", -3, 3));
  CHECK_EQ(d, 0);
  CHECK_OK(mbi_dim(&d, "test", 2, 3));
  CHECK_EQ(d, 2);
  CHECK_FAILS(MB_ERR_ARG, "test: dimension 3 does not exist, the tensor has 3", mbi_dim(&d, "test", 3, 3));
  CHECK_FAILS(MB_ERR_ARG, "dimension -4", mbi_dim(&d, "test", -4, 3));
  CHECK_FAILS(MB_ERR_ARG, "the tensor has 0", mbi_dim(&d, "test", 0, 0));
}

static void dtypes(void) {
  static const struct {
    mb_dtype dtype;
    size_t size;
    int is_float;
  } rows[] = {{MB_F32, 4, 1}, {MB_F64, 8, 1}, {MB_I32, 4, 0}, {MB_U16, 2, 0}, {MB_U8, 1, 0}, {MB_BF16, 2, 1}};
  CHECK_EQ(sizeof rows / sizeof rows[0], MB_DTYPE_COUNT);
  for (size_t i = 0; i < MB_DTYPE_COUNT; i++) {
    CHECK_EQ(mbi_dtype_size(rows[i].dtype), rows[i].size);
    CHECK_EQ(mbi_dtype_is_float(rows[i].dtype), rows[i].is_float);
  }
  CHECK(strcmp(mbi_dtype_name((mb_dtype)77), "unknown dtype") == 0);
}

// Every way to make a tensor refuses the same things.
static void creation_refuses(void) {
  int64_t zero = 0, seven[7] = {1, 1, 1, 1, 1, 1, 1};
  float number = 1;
  mb_tensor *t;
  CHECK_FAILS(MB_ERR_SHAPE, "mb_empty: shape (0)", mb_empty(&t, MB_F32, 1, &zero, MB_CPU));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_full: shape (0)", mb_full(&t, MB_F32, 1, &zero, MB_CPU, 1));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_from_host: shape (0)", mb_from_host(&t, MB_F32, 1, &zero, MB_CPU, &number));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_arange: shape (0)", mb_arange(&t, MB_F32, MB_CPU, 0, 1, 0));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_randn: shape (0)", mb_randn(&t, MB_F32, 1, &zero, MB_CPU));
  CHECK_FAILS(MB_ERR_SHAPE, "mb_uniform: shape (0)", mb_uniform(&t, MB_F32, 1, &zero, MB_CPU, 0, 1));
  CHECK_FAILS(MB_ERR_SHAPE, "not 7", mb_empty(&t, MB_F32, 7, seven, MB_CPU));
  CHECK_FAILS(MB_ERR_DTYPE, "unknown dtype 9", mb_empty(&t, (mb_dtype)9, 1, seven, MB_CPU));
  CHECK_FAILS(MB_ERR_DTYPE, "i32", mb_randn(&t, MB_I32, 1, seven, MB_CPU));
  CHECK(t == NULL);
}

static void reading_and_writing(void) {
  mb_tensor *t, *column, *last;
  double values[6] = {1, 2, 3, 4, 5, 6}, back[6], item;
  void *address;
  CHECK_OK(mb_from_host(&t, MB_F64, 2, (int64_t[]){2, 3}, MB_CPU, values));
  CHECK_OK(mb_tensor_data(&address, t));
  CHECK(((double *)address)[5] == 6);
  CHECK_EQ(mb_tensor_stride(t)[0], 3);
  CHECK_FAILS(MB_ERR_SHAPE, "one element was expected, the tensor has shape (2, 3)", mb_tensor_item(&item, t));
  CHECK_OK(mb_slice(&column, t, 1, 1, 2, 1));
  CHECK_OK(mb_tensor_from_host(column, (double[]){20, 50}));
  CHECK_OK(mb_tensor_to_host(back, t));
  CHECK(back[0] == 1 && back[1] == 20 && back[4] == 50 && back[5] == 6);
  mb_tensor_release(column);
  CHECK_OK(mb_slice(&column, t, 1, 2, 3, 1));
  CHECK_OK(mb_slice(&last, column, 0, 1, 2, 1));
  CHECK_OK(mb_tensor_item(&item, last));
  CHECK_NEAR(item, 6, 0);
  mb_tensor_discard(t, "it was only a test");
  CHECK(!mb_tensor_is_live(t));
  CHECK_FAILS(MB_ERR_STATE, "mb_tensor_to_host: t was released: it was only a test", mb_tensor_to_host(back, t));
  CHECK_OK(mb_tensor_item(&item, last)); // a view keeps the memory
  mb_tensor_release(t), mb_tensor_release(column), mb_tensor_release(last);
}

static void names(void) {
  CHECK(strcmp(mb_status_name(MB_ERR_SHAPE), "MB_ERR_SHAPE") == 0);
  CHECK(strcmp(mb_status_name(MB_OK), "MB_OK") == 0);
  CHECK(mb_status_name((mb_status)1000) != NULL);
  CHECK_EQ(mb_abi_version(), MB_ABI_VERSION);
  CHECK(strlen(mb_version()) >= 5);
  CHECK(strstr(mb_build_info(), "thread") != NULL);
  CHECK(mb_threads() >= 1);
  CHECK_FAILS(MB_ERR_ARG, "0 threads", mb_threads_set(0));
  CHECK_OK(mb_device_check(MB_CPU));
  int64_t waits = mb_device_waits(MB_CPU);
  CHECK_OK(mb_device_synchronize(MB_CPU));
  CHECK_EQ(mb_device_waits(MB_CPU), waits + 1);
  CHECK_EQ(mb_device_waits((mb_device)9), -1);
  const char *choices; // of algorithms; a device that was never used, and the CPU, have chosen nothing
  for (mb_device device = MB_CPU; device <= MB_CUDA; device++) {
    CHECK_OK(mb_choices(&choices, device));
    CHECK(strcmp(choices, "") == 0);
    CHECK_OK(mb_choices_set(device, ""));
    CHECK_FAILS(MB_ERR_STATE, "has no choices of algorithms", mb_choices_set(device, "moonbow products 2: one\n"));
    CHECK_FAILS(MB_ERR_ARG, "the text is NULL", mb_choices_set(device, NULL));
    CHECK_OK(mb_device_notes(&choices, device));
    CHECK(strcmp(choices, "") == 0);
  }
  CHECK_FAILS(MB_ERR_DEVICE, "mb_device_notes: unknown device 9", mb_device_notes(&choices, (mb_device)9));
  CHECK_FAILS(MB_ERR_DEVICE, "mb_choices: unknown device 9", mb_choices(&choices, (mb_device)9));
  CHECK_FAILS(MB_ERR_DEVICE, "9", mb_device_synchronize((mb_device)9));
  CHECK_FAILS(MB_ERR_DEVICE, "9", mb_device_check((mb_device)9));
}

int main(void) {
  shapes_are_checked();
  texts_never_overflow();
  broadcasting();
  strides_and_dimensions();
  dtypes();
  creation_refuses();
  reading_and_writing();
  names();
  mb_memory_stats stats;
  mb_memory(&stats);
  CHECK_EQ(stats.live_tensors, 0);
  CHECK_EQ(stats.bytes_live, 0);
  return check_end();
}
